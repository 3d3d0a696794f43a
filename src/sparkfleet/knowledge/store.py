"""Updates on the operator's machine, and which one is used: ``$XDG_DATA_HOME/sparkfleet/knowledge``.

``versions/<version>-<hash>/`` has the files of one update and never changes; ``current`` is a link to one of
them, replaced in one step. So a process reads one update or the other, never a mixture.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from sparkfleet import data_files
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.knowledge import archive
from sparkfleet.knowledge.archive import MANIFEST, Manifest, Update

HISTORY = 3
"""Updates that are kept, with the one in use."""


@dataclass(frozen=True)
class StoredUpdate:
    """An update in the store."""

    directory: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        """Return its version."""
        return self.manifest.version

    @property
    def is_newer(self) -> bool:
        """Return whether it is newer than the bundled knowledge."""
        return Version(self.version) > Version(data_files.BUNDLED)

    def names(self) -> Collection[str]:
        """See ``data_files.UpdatedFiles``."""
        return self.manifest.files.keys()

    def read(self, name: str) -> bytes:
        """See ``data_files.UpdatedFiles``. ``SparkfleetError`` if the file was changed since."""
        try:
            content = (self.directory / name).read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise _damaged(self.directory / name)
        return content


def directory() -> Path:
    """Return where the updates are."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "sparkfleet" / "knowledge"


def activate() -> None:
    """Have this process read the update in use before the bundled files."""
    data_files.use(active_update)


def active_update() -> StoredUpdate | None:
    """Return the update that is read; None: the bundled knowledge is newer, or there is no other."""
    found = selected_update()
    return found if found and found.is_newer else None


def selected_update() -> StoredUpdate | None:
    """Return the update that ``current`` names; None without one. ``SparkfleetError`` if it is damaged.

    One that was made for another sparkfleet is not read: then the bundled knowledge fits this one.
    """
    link = directory() / "current"
    if not link.is_symlink():
        return None
    try:
        return _open(link.resolve())
    except SparkfleetError as error:
        if error.diagnostics[0].code == "knowledge-format-unknown":
            return None
        raise


def stored_updates() -> list[StoredUpdate]:
    """Return all readable updates, oldest first."""
    found = []
    for folder in (directory() / "versions").glob("*-*"):
        try:
            found.append(_open(folder))
        except SparkfleetError:
            continue
    return sorted(found, key=lambda one: Version(one.version))


def install(update: Update) -> bool:
    """Store an update and use it; return False if it is in use already. It must be newer.

    ``validation`` must have accepted it. Until the last step the former knowledge is in use.
    """
    target = _place(update)
    if (directory() / "current").resolve() == target.resolve() and target.is_dir():
        return False
    require_newer(update)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            complete = Path(scratch) / "update"
            write(update, complete)
            complete.rename(target)
    select(target)
    _drop_oldest(target)
    return True


def require_newer(update: Update) -> None:
    """Raise ``SparkfleetError`` unless the update is newer than the knowledge in use."""
    try:
        former = active_update()
    except SparkfleetError:
        former = None
    current = former.version if former else data_files.BUNDLED
    if Version(update.version) <= Version(current) and _place(update) != (
        former.directory if former else None
    ):
        raise SparkfleetError(
            Diagnostic(
                f"knowledge {update.version}",
                f"knowledge {current} is in use{'' if former else ' (bundled)'}",
                "a newer version",
                "`sparkfleet knowledge reset` goes back to the bundled knowledge first" if former
                else "nothing: the bundled knowledge is as new",
                code="knowledge-not-newer",
            )
        )  # fmt: skip


def write(update: Update, target: Path) -> None:
    """Write the files of an update below a new directory."""
    for name, content in {MANIFEST: update.manifest_bytes, **update.files}.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def select(target: Path) -> None:
    """Use a stored update, in one step."""
    link = directory() / f"current.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(target.relative_to(directory()))
    link.replace(directory() / "current")


def reset() -> bool:
    """Use the bundled knowledge; return False if it is in use already. Stored updates stay."""
    link = directory() / "current"
    if not link.is_symlink():
        return False
    link.unlink()
    return True


def _place(update: Update) -> Path:
    digest = hashlib.sha256(update.manifest_bytes).hexdigest()[:12]
    return directory() / "versions" / f"{update.version}-{digest}"


def _open(folder: Path) -> StoredUpdate:
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError:
        raise _damaged(folder / MANIFEST) from None
    try:
        return StoredUpdate(folder, archive.parse_manifest(content, str(folder)))
    except SparkfleetError as error:
        if error.diagnostics[0].code == "knowledge-format-unknown":
            raise
        raise _damaged(folder / MANIFEST) from None


def _drop_oldest(current: Path) -> None:
    former = [one.directory for one in stored_updates() if one.directory != current]
    for folder in former[: max(0, len(former) - HISTORY + 1)]:
        shutil.rmtree(folder, ignore_errors=True)


def _damaged(path: Path) -> SparkfleetError:
    return SparkfleetError(
        Diagnostic(
            str(path),
            "the file is missing or was changed since `sparkfleet knowledge update`",
            "the file of the update",
            "run `sparkfleet knowledge reset`, then update again",
            code="knowledge-damaged",
        )
    )
