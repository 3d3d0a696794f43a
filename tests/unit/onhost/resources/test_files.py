"""Files and directories: written atomically, and reverted to what was there before."""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.resources import ResourceRequest, ResourceToApply
from sparkfleet.onhost.resources.access import HostAccess
from sparkfleet.onhost.resources.apply import apply
from sparkfleet.resources import host_files
from tests.unit.onhost.world import World

ME = getpass.getuser()


def file(path: Path, text: str, mode: str = "0644", owner: str = ME) -> ResourceToApply:
    content = text.encode()
    fields = {"sha256": hashlib.sha256(content).hexdigest(), "mode": mode, "owner": owner}
    return ResourceToApply("file", str(path), fields, content=base64.b64encode(content).decode())


def directory(path: Path, mode: str = "0755") -> ResourceToApply:
    return ResourceToApply("directory", str(path), {"mode": mode, "owner": ME}, f"{ME} 1000")


def apply_all(world: World, *resources: ResourceToApply) -> None:
    assert apply(HostAccess(world), ResourceRequest(resources)).refused == ()


def refusal(world: World, resource: ResourceToApply) -> str:
    (refused,) = apply(HostAccess(world), ResourceRequest((resource,))).refused
    return refused.message


def revert(world: World, *names: str) -> None:
    assert apply(HostAccess(world), ResourceRequest(revert=names)).refused == ()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_removed_again_with_the_directories_that_were_created_for_it(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "made" / "deep" / "x"
    apply_all(world, file(path, "hello", "0600"))
    assert (path.read_text(), mode(path)) == ("hello", 0o600)
    assert [entry.name for entry in path.parent.iterdir()] == ["x"]
    revert(world, f"file {path}")
    assert not (tmp_path / "made").exists()


def test_directories_that_others_use_by_now_stay(world: World, tmp_path: Path) -> None:
    path = tmp_path / "made" / "deep" / "x"
    apply_all(world, file(path, "hello"))
    (tmp_path / "made" / "theirs").touch()
    revert(world, f"file {path}")
    assert [entry.name for entry in (tmp_path / "made").iterdir()] == ["theirs"]


def test_a_previous_file_is_restored_with_content_and_mode(world: World, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("by hand")
    path.chmod(0o640)
    apply_all(world, file(path, "ours"))
    apply_all(world, file(path, "ours again"))
    assert (path.read_text(), mode(path)) == ("ours again", 0o644)
    revert(world, f"file {path}")
    assert (path.read_text(), mode(path)) == ("by hand", 0o640)
    assert not (world.paths.state / "before").exists()


def test_the_record_of_one_file_is_kept_while_another_is_reverted(world: World, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("the same by hand")
    apply_all(world, file(tmp_path / "a", "ours"), file(tmp_path / "b", "ours"))
    revert(world, f"file {tmp_path / 'a'}")
    revert(world, f"file {tmp_path / 'b'}")
    assert {(tmp_path / name).read_text() for name in "ab"} == {"the same by hand"}


def test_a_link_or_a_directory_in_the_place_of_a_file_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "dir").mkdir()
    assert refusal(world, file(tmp_path / "link", "x")) == "there is a link"
    assert refusal(world, file(tmp_path / "dir", "x")) == "there is a directory"
    assert (tmp_path / "link").readlink() == Path("/etc/passwd")


def test_a_file_too_large_for_a_snapshot_is_not_replaced(world: World, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * (host_files.MAX_BYTES + 1))
    assert "too large for a snapshot" in refusal(world, file(path, "ours"))


def test_an_owner_who_is_not_there_is_refused(world: World, tmp_path: Path) -> None:
    assert "nobody-of-this-name" in refusal(world, file(tmp_path / "x", "hi", owner="nobody-of-this-name"))
    assert not (tmp_path / "x").exists()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_text("by hand")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        host_files.write(path, b"ours", 0o644, (os.getuid(), os.getgid()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "by hand"


def test_a_directory_that_was_made_goes_while_it_is_empty(world: World, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    apply_all(world, directory(path, "0750"))
    assert mode(path) == 0o750
    revert(world, f"directory {path}")
    assert not (tmp_path / "a").exists()
    apply_all(world, directory(path))
    (path / "theirs").touch()
    revert(world, f"directory {path}")
    assert (path / "theirs").exists()


def test_a_directory_that_was_there_gets_its_mode_back(world: World, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir(0o700)
    apply_all(world, directory(path, "0755"))
    (path / "theirs").touch()
    revert(world, f"directory {path}")
    assert mode(path) == 0o700


def test_a_directory_that_became_a_link_is_not_followed(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(0o700)
    (tmp_path / "x").symlink_to(other)
    assert refusal(world, directory(tmp_path / "x")) != ""
    assert mode(other) == 0o700


@pytest.fixture
def chown(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return who owns a path, where entries are given to users without being root."""
    owned: dict[str, int] = {}
    lstat = os.lstat

    class Info:
        def __init__(self, path: str) -> None:
            self.st_mode, self.st_uid, self.st_gid = lstat(path).st_mode, owned.get(str(path), 4242), 1

    def looked(path: Any) -> Any:
        return Info(path) if str(path).endswith(".by-root") else lstat(path)

    def record_chown(
        path: Any, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> None:
        assert not follow_symlinks
        within = Path() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        owned[str(within / path)] = uid

    monkeypatch.setattr(os, "lstat", looked)
    monkeypatch.setattr(os, "chown", record_chown)
    return lambda path: owned.get(path, 4242)


def test_what_was_inside_is_given_to_the_owner_and_back_to_whom_it_was(
    world: World, tmp_path: Path, chown: Callable[[str], int]
) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / "1.by-root").touch()
    resource = directory(path)
    apply_all(world, replace(resource, fields={**resource.fields, "others": "0"}))
    assert chown(str(path / "1.by-root")) == os.getuid()
    revert(world, f"directory {path}")
    assert chown(str(path / "1.by-root")) == 4242
