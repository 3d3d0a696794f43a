"""Updates for tests: an archive with some files, and an archive with a mistake."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.knowledge import archive
from sparkfleet.knowledge.archive import FORMAT, MANIFEST

IMAGES = "engines/vllm/data/images.json"
PATTERNS = "engines/vllm/failure_patterns.json"
RECIPE = "catalog/recipes/brand-new.yaml"
NEW_RECIPE = b"""\
recipe: brand-new
extends: nemotron-3-nano-30b-a3b-nvfp4
title: A recipe of an update
"""
VERSION = "2027.1.2"


FAILURE = {
    "id": "brand-new-failure",
    "rank": 1,
    "re": "BrandNewError: (?P<what>\\w+)",
    "cause": "a failure that only the update knows: {what}",
    "remedy": "nothing",
    "source": "test",
    "samples": [{"text": "BrandNewError: x", "source": "test"}],
    "near_misses": ["BrandOldError: x"],
}


@dataclass(frozen=True)
class Pinned:
    """What ``sparkfleet knowledge update`` is called with."""

    source: str
    sha256: str

    @property
    def args(self) -> tuple[str, ...]:
        return ("knowledge", "update", self.source, "--sha256", self.sha256)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def images(**more: str) -> bytes:
    """The bundled table of images with more releases of NVIDIA's."""
    data = json.loads(archive.bundled_files()[IMAGES])
    return json.dumps({**data, "ngc": {**data["ngc"], **more}}).encode()


def patterns(**changes: Any) -> bytes:
    """The patterns of vLLM and one more, with these changes."""
    data = json.loads(archive.bundled_files()[PATTERNS])
    return json.dumps({**data, "failures": [{**FAILURE, **changes}, *data["failures"]]}).encode()


def manifest(files: Mapping[str, bytes], version: str = VERSION, format_: int = FORMAT) -> bytes:
    hashes = {name: digest(content) for name, content in files.items()}
    return json.dumps({"format": format_, "version": version, "files": hashes}).encode()


def pinned(tmp_path: Path, content: bytes, name: str = "update.tar.gz") -> Pinned:
    path = tmp_path / name
    path.write_bytes(content)
    return Pinned(str(path), digest(content))


def good(tmp_path: Path, files: Mapping[str, bytes] | None = None, version: str = VERSION) -> Pinned:
    if files is None:
        files = {IMAGES: images(**{"99.01": "0.33.0"}), RECIPE: NEW_RECIPE}
    return pinned(tmp_path, archive.pack(version, files), f"update-{version}.tar.gz")


def folder(tmp_path: Path, files: Mapping[str, bytes]) -> Pinned:
    root = tmp_path / "folder"
    content = manifest(files)
    for name, text in {MANIFEST: content, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return Pinned(str(root), digest(content))


def zipped(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return packed.getvalue()


def tarred(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue())


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member
