from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

from sparkfleet_lab.content import Entry, digest, tar_of, tree


def test_the_tar_has_content_mode_and_owner() -> None:
    data = tar_of((Entry("a/key", b"secret", 0o600, 1000, 1000),))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.mode, member.uid, member.gid) == ("a/key", 0o600, 1000, 1000)
        assert (archive.extractfile(member) or io.BytesIO()).read() == b"secret"


def test_programs_sudo_rules_and_other_files_get_the_modes_that_they_need(tmp_path: Path) -> None:
    for name in ("usr/local/bin/tool", "etc/sudoers.d/user", "etc/conf", "usr/__pycache__/x.pyc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    modes = {entry.path: entry.mode for entry in tree(tmp_path)}
    assert modes == {"etc/conf": 0o644, "etc/sudoers.d/user": 0o440, "usr/local/bin/tool": 0o755}


def test_the_digest_changes_with_each_part_of_a_file_and_with_nothing_else() -> None:
    entry = Entry("a", b"x")
    variants = (
        {"path": "b"},
        {"data": b"y"},
        {"mode": 0o600},
        {"uid": 1},
        {"gid": 1},
    )
    digests = {digest((dataclasses.replace(entry, **change),)) for change in variants} | {digest((entry,))}
    assert len(digests) == len(variants) + 1
    assert digest((entry,)) == digest((Entry("a", b"x"),))
    assert digest("ab", "c") != digest("a", "bc")
