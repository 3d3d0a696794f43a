"""How a fleet directory differs from the templates of this version, compared three ways by hash.

The third side is the template that was written: the record has its hash. So an edit of the owner is
distinguished from a change of the template without old templates.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from packaging.version import InvalidVersion, Version

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.fleet_directory import FORMAT, RECORD, SCHEMAS, Record, digest

UNRECORDED = frozenset(
    {
        "4117010b60f9836255f93d9d6c9c67c13bda2d3efa7193d01241d4021137a62c",  # config.py
        "007fac7bfa6efd18d0e5ab4f5300879e5a823a4f94ac0141f99bef15c1f9d1f6",  # group_data/all.py
        "398c449676d880b1c217cec378a32a5a697712ea15261df06faf8c7c4d114b1b",  # deploys/fabric.py
        "5d1385f7ecd23c6dbfb09734d6565b073fbb81840d01dcdf16df4b638fd350d6",  # deploys/prepare.py
        "1dede34ab121a0035d1d83f7613cd224af09844ba73d1fdf7cd8c41d59058fd2",  # deploys/serve.py
        "d3db9d7ce534ee0901c2357f4e328cc5969967f23c58f4356e2e38dc8e1955d6",  # deploys/stage.py
        "b457172acc78bea7da1d3414c6fe9b242f61c8555e4dd108a15329dedbc69eb7",  # deploys/verify.py
        "66fe17d2d115cde3f15db07b66a90796cf105137d645e15804a3103bea976944",  # .gitignore
        "2dcdfa4e80d528d4c63917d48a50d4bfc84924d3a691aa5b4cfc2a557ff47ac1",  # inventories/FLEET.py
    }
)
"""Hashes of the templates from before the record: such a file was not edited."""
_PIN = re.compile(r"sparkfleet==[^\s\"']+")
"""The version in the CI workflow, which each release changes."""


class Kind(Enum):
    """What an upgrade does to a file."""

    ADD = "new"
    UPDATE = "changed"
    REMOVE = "no template any more"
    EDITED = "changed, and edited by you"
    """The owner decides."""


@dataclass(frozen=True)
class Change:
    """A file that differs from its template."""

    path: str
    kind: Kind
    old: str
    new: str


def read_record(directory: Path, version: str) -> Record | None:
    """Return the record of a fleet directory, None without one.

    Raise SparkfleetError for an invalid one, and for one of a newer sparkfleet than ``version``.
    """
    path = directory / RECORD
    if not path.exists():
        return None
    try:
        record = codec.parse(Record, path.read_bytes(), str(path))
        is_newer = record.format > FORMAT or Version(record.version) > Version(version)
    except ContractError as error:
        raise _invalid(path, error.diagnostic.message, error.diagnostic.expected) from None
    except InvalidVersion as error:
        raise _invalid(path, str(error), "a version, such as 0.1.0") from None
    for name in record.templates:
        if name.startswith("/") or ".." in name.split("/"):
            raise _invalid(path, f"templates: {name}", "paths within the directory")
    if is_newer:
        raise SparkfleetError(
            Diagnostic(
                str(path),
                f"the templates are those of sparkfleet {record.version}",
                f"at most {version}, the installed version",
                f"install sparkfleet {record.version} or newer",
                code="templates-newer",
            )
        )
    return record


def _invalid(path: Path, message: str, expected: str) -> SparkfleetError:
    hint = f"restore the file from version control, or remove it and run `sparkfleet upgrade {path.parent}`"
    return SparkfleetError(Diagnostic(str(path), message, expected, hint, code="template-record-invalid"))


def changes(directory: Path, record: Record | None, templates: Mapping[str, str]) -> Iterator[Change]:
    """Yield the files that an upgrade would change, sorted by path.

    A file that its owner removed stays away. What a symbolic link leads to is not this directory's. Raise
    SparkfleetError where a directory has the name of a file, or the other way round.
    """
    recorded = record.templates if record else {}
    for path in sorted({*templates, *recorded}):
        file, new, base = directory / path, templates.get(path), recorded.get(path)
        if any(one.is_symlink() for one in (file, *file.parents[: path.count("/")])):
            continue
        obstacle = next((one for one in file.parents[: path.count("/")] if one.is_file()), None)
        if obstacle or file.is_dir():
            raise _in_the_way(obstacle or file)
        if not file.exists():
            if base is None and new is not None:
                yield Change(path, Kind.ADD, "", new)
            continue
        old = file.read_text(encoding="utf-8", errors="replace")
        is_template = digest(old) == base or (record is None and _is_unrecorded(old, new))
        is_template = is_template or path.startswith(f"{SCHEMAS}/")  # generated: nobody edits them
        if new is None:
            if is_template:
                yield Change(path, Kind.REMOVE, old, "")
        elif old != new and (is_template or digest(new) != base):
            yield Change(path, Kind.UPDATE if is_template else Kind.EDITED, old, new)


def _in_the_way(path: Path) -> SparkfleetError:
    found, expected = ("a directory", "a file") if path.is_dir() else ("a file", "a directory")
    hint = f"move it away: mv {path} {path}.old; then run again"
    return SparkfleetError(Diagnostic(str(path), found, expected, hint, code="file-exists"))


def _is_unrecorded(old: str, new: str | None) -> bool:
    """Return whether a file is a template from before the record."""
    return digest(old) in UNRECORDED or (new is not None and _PIN.sub("", old) == _PIN.sub("", new))


def recorded_after(
    record: Record | None, fleet: str, version: str, templates: Mapping[str, str], left: Collection[str]
) -> Record:
    """Return the record after an upgrade. ``left``: edited files that the owner has not decided about."""
    before = record.templates if record else {}
    hashes = {path: before.get(path) if path in left else digest(text) for path, text in templates.items()}
    known = {path: value for path, value in sorted(hashes.items()) if value is not None}
    return Record(FORMAT, fleet, version, known)
