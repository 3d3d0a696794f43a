"""An update as it is distributed: ``knowledge.json`` (version, format, hash of each file) and data files.

Nothing is unpacked to a disk here. Each file has the name of a data file, or the update is refused.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.errors import user_error

FORMAT = 1
"""Format of the manifest and of all data files; raised when an older sparkfleet cannot read one of them."""
MANIFEST = "knowledge.json"
MAX_ARCHIVE, MAX_FILE, MAX_TOTAL, MAX_FILES = 16 << 20, 8 << 20, 64 << 20, 2000
TIMEOUT_S = 30

_NAME = re.compile(
    r"engines/[a-z][a-z0-9_]*/(?:failure_patterns\.json|data/[a-z0-9_]+\.json(?:\.gz)?)"
    r"|onhost/gate/failure_patterns\.json"
    r"|catalog/recipes/[a-z0-9][a-z0-9._-]*\.yaml"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_VERSION = re.compile(r"\d{4}\.\d{1,2}\.\d{1,2}(?:\.\d{1,4})?")
_DAMAGED = (
    OSError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    ValueError,
)
"""What reading a truncated or damaged archive raises."""


@dataclass(frozen=True)
class Manifest:
    """``knowledge.json``."""

    format: int
    version: str
    """The day it was made, with a number for a further one of that day: ``2026.12.24.1``."""
    files: Mapping[str, str]
    """Name -> SHA-256."""


@dataclass(frozen=True)
class Update:
    """An update whose files are complete and have the hashes of its manifest."""

    manifest: Manifest
    manifest_bytes: bytes
    files: Mapping[str, bytes]
    sha256: str
    """The hash that ``--sha256`` pinned."""

    @property
    def version(self) -> str:
        """Return its version."""
        return self.manifest.version


def load(source: str, sha256: str) -> Update:
    """Return the update of a directory, a file or a URL. ``SparkfleetError`` if ``sha256`` is not its hash.

    A URL is https, http or file. The hash is that of the archive; of a directory that of ``knowledge.json``,
    which has all other hashes.
    """
    if not _SHA256.fullmatch(sha256):
        expected = "the SHA-256 of the update: 64 hex digits"
        hint = "copy it from where the update was published"
        raise user_error(
            "knowledge-hash-required", "--sha256", f"{sha256!r} is not a SHA-256", expected, hint
        )
    scheme = match[1].lower() if (match := _SCHEME.match(source)) else "file"
    if scheme in ("http", "https"):
        content = _download(source)
    elif scheme != "file":
        raise _unreadable(
            source, f"{scheme} is not a scheme of an update's URL", "download it, and use the file"
        )
    elif (path := _path(source)).is_dir():
        return _check(source, _directory(source, path, sha256), sha256)
    else:
        content = _read(source, path, MAX_ARCHIVE)
    _require_hash(source, content, sha256)
    return _check(source, dict(_members(source, content)), sha256)


def pack(version: str, files: Mapping[str, bytes]) -> bytes:
    """Return the archive (.tar.gz) of an update; equal input, equal bytes."""
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    manifest = json.dumps({"format": FORMAT, "version": version, "files": hashes}, indent=1) + "\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in {MANIFEST: manifest.encode(), **{name: files[name] for name in hashes}}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def bundled_files() -> dict[str, bytes]:
    """Return the files that this sparkfleet bundles, by name."""
    root = Path(str(resources.files("sparkfleet")))
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(paths.items()) if is_data_file(name)}


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Return a manifest. ``SparkfleetError`` if it is none, or of another format."""
    try:
        format_ = codec.parse(dict[str, Any], content, MANIFEST).get("format")
        if isinstance(format_, int) and format_ != FORMAT:
            hint = (
                "install the sparkfleet that this update is made for"
                if format_ > FORMAT
                else "use a newer update"
            )
            raise user_error("knowledge-format-unknown", where, f"format {format_}", f"format {FORMAT}", hint)
        manifest = codec.parse(Manifest, content, MANIFEST)
    except ValueError as error:
        raise _unreadable(where, str(error).splitlines()[0]) from None
    if not _VERSION.fullmatch(manifest.version):
        raise _unreadable(where, f"{MANIFEST} has no valid version: {manifest.version!r}")
    return manifest


def is_data_file(name: str) -> bool:
    """Return whether an update may have a file of this name: data of the package, or another recipe."""
    if not _NAME.fullmatch(name) or ".." in name:
        return False
    return name.startswith("catalog/") or resources.files("sparkfleet").joinpath(name).is_file()


def _check(source: str, files: dict[str, bytes], sha256: str) -> Update:
    content = files.pop(MANIFEST, None)
    if content is None:
        raise _unreadable(source, f"there is no {MANIFEST}")
    manifest = parse_manifest(content, source)
    _require_data_files(source, (*files, *manifest.files))
    missing = sorted(manifest.files.keys() - files.keys())
    added = sorted(files.keys() - manifest.files.keys())
    changed = [name for name in files if hashlib.sha256(files[name]).hexdigest() != manifest.files.get(name)]
    for names, what in ((missing, "is missing"), (added, f"is not in {MANIFEST}"), (changed, "is damaged")):
        if names:
            raise _unreadable(source, f"{names[0]} {what}")
    return Update(manifest, content, files, sha256)


def _require_data_files(source: str, names: Iterable[str]) -> None:
    for name in names:
        if not is_data_file(name):
            expected = "the names of sparkfleet's data files: never code, never a path outside"
            raise user_error("knowledge-path-invalid", source, f"a file {name!r}", expected, _REMAKE)


def _require_hash(source: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.lower():
        hint = "compare it with the published hash; do not use the new hash without knowing why it differs"
        raise user_error("knowledge-hash-mismatch", source, f"SHA-256 {found}", sha256.lower(), hint)


def _path(source: str) -> Path:
    """Return the path that a source names, which may be a file URL (of this machine, as curl reads it)."""
    return Path(unquote(urlsplit(source).path) if _SCHEME.match(source) else source)


def _directory(source: str, folder: Path, sha256: str) -> dict[str, bytes]:
    content = _read(source, folder / MANIFEST, MAX_FILE)
    _require_hash(f"{source}/{MANIFEST}", content, sha256)
    names = parse_manifest(content, source).files
    _require_data_files(source, names)
    return {MANIFEST: content} | {name: _read(source, folder / name, MAX_FILE) for name in names}


def _members(source: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of an archive."""
    total = count = 0
    try:
        for name, member in _zip(content) if content.startswith(b"PK") else _tar(content):
            total, count = total + len(member), count + 1
            if len(member) > MAX_FILE or total > MAX_TOTAL or count > MAX_FILES:
                raise ValueError("it is larger than any update")
            yield name.removeprefix("./"), member
    except _DAMAGED as error:
        raise _unreadable(source, f"the archive is damaged, truncated or none: {error}") from None


def _tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            if member.isdir():
                continue
            file = archive.extractfile(member) if member.isreg() else None
            # A link has no content of its own: the name of none is valid.
            yield (member.name, file.read(MAX_FILE + 1)) if file else (f"{member.name} (a link)", b"")


def _zip(content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                with archive.open(entry) as file:
                    yield entry.filename, file.read(MAX_FILE + 1)


def _read(source: str, path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(
            source, f"{path.name} cannot be read: {error.strerror}", f"check the path: ls -l {path}"
        ) from None
    if len(content) > limit:
        raise _unreadable(source, f"{path.name} is larger than any update")
    return content


def _download(url: str) -> bytes:
    import httpx  # noqa: PLC0415  (for a URL alone)

    content = bytearray()
    try:
        with httpx.stream("GET", url, timeout=TIMEOUT_S, follow_redirects=True) as response:
            if not response.is_success:
                raise _unreadable(url, f"the server responded with HTTP {response.status_code}")
            for part in response.iter_bytes():
                content += part
                if len(content) > MAX_ARCHIVE:
                    raise _unreadable(url, "it is larger than any update")
    except httpx.HTTPError as error:
        raise _unreadable(url, f"it cannot be downloaded: {error or type(error).__name__}") from None
    return bytes(content)


_REMAKE = "have the update made again (`make knowledge`)"


def _unreadable(
    where: str, found: str, hint: str = "fetch the update again, and compare its hash"
) -> SparkfleetError:
    expected = "a directory, a .tar.gz or .zip of `make knowledge`, or the URL of one"
    return user_error("knowledge-unreadable", where, found, expected, hint)
