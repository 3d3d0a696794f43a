"""Packs the programs for a Spark into one zip file. Runs on the operator's machine.

The same sources always produce the same bytes (fixed order, times and modes; no compression, since
compressors differ), so the hash of the file on a Spark detects outdated programs.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from sparkfleet import data_files, engines, runtimes
from sparkfleet.onhost.collectors import RESOURCE_PARTS
from sparkfleet.resources import kinds, registry

MAIN = """\
import sys

from sparkfleet.onhost.main import main

sys.exit(main(sys.argv[1:]))
"""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can have."""
ON_SPARK = (
    "sparkfleet.contract",
    "sparkfleet.onhost",
    "sparkfleet.resources",
)
"""Packages whose modules run on a Spark."""
ENGINE_MODULES = ("__init__.py", "host.py", "openai_api.py")
"""On-host modules that all engines share."""
ENGINE_FILES = ("__init__.py", "onhost.py", "failure_patterns.json")
"""On-host files of each engine."""
SINGLE = (
    "sparkfleet/data_files.py",
    "sparkfleet/runtimes/__init__.py",
    "sparkfleet/runtimes/base.py",
    "sparkfleet/runtimes/errors.py",
    "sparkfleet/runtimes/onhost.py",
    "sparkfleet/units.py",
)
"""Modules of other packages that run on a Spark."""
COLLECTORS = frozenset({"__init__", "basics", "commands", "state", *RESOURCE_PARTS})
"""Collectors that the programs use; the others are sent with the probe only."""


@functools.cache
def build() -> bytes:
    """Return the zipapp, for ``python3 -I -B FILE COMMAND ...``."""
    members = {"__main__.py": MAIN, "sparkfleet/__init__.py": ""}
    for package in ON_SPARK:
        members |= dict(_texts(resources.files(package), package.replace(".", "/")))
    members |= dict(_engines())
    members |= dict(_runtimes())
    for path in SINGLE:
        members[path] = (
            resources.files("sparkfleet").joinpath(path.partition("/")[2]).read_text(encoding="utf-8")
        )
    folder = kinds.__name__.replace(".", "/")
    members |= {f"{folder}/{kind}.py": registry.source(kind) for kind in registry.names()}
    for name in [name for name in members if name.endswith("/failure_patterns.json")]:
        package, _, file = name.replace("/", ".", name.count("/") - 1).partition("/")
        members[name] = _without_samples(data_files.read(package, file))
    for name in [name for name in members if name.startswith("sparkfleet/onhost/collectors/")]:
        if name.rsplit("/", 1)[1].removesuffix(".py") not in COLLECTORS:
            del members[name]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, wherever this is packed
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name].encode())
    return buffer.getvalue()


def _engines() -> Iterator[tuple[str, str]]:
    """Yield path and text of the on-host parts of every engine."""
    root = resources.files(engines)
    for name in ENGINE_MODULES:
        yield f"sparkfleet/engines/{name}", root.joinpath(name).read_text(encoding="utf-8")
    for folder in engines.folders():
        for source in map(folder.joinpath, ENGINE_FILES):
            if source.is_file():
                yield f"sparkfleet/engines/{folder.name}/{source.name}", source.read_text(encoding="utf-8")


def _runtimes() -> Iterator[tuple[str, str]]:
    """Yield path and text of the driver of every runtime."""
    for name in runtimes.names():
        folder, where = resources.files(runtimes).joinpath(name), f"sparkfleet/runtimes/{name}"
        if folder.joinpath("onhost").is_dir():
            yield f"{where}/__init__.py", folder.joinpath("__init__.py").read_text(encoding="utf-8")
            yield from _texts(folder.joinpath("onhost"), f"{where}/onhost")


def _without_samples(patterns: bytes) -> str:
    """Return failure patterns without what only their tests and documentation read."""
    unused = ("sample", "samples", "near_misses", "source", "why")
    data = {
        kind: [{key: value for key, value in entry.items() if key not in unused} for entry in entries]
        for kind, entries in json.loads(patterns).items()
    }
    return json.dumps(data, separators=(",", ":"))


def _texts(folder: Traversable, where: str) -> Iterator[tuple[str, str]]:
    """Yield path in the zipapp and text of each program and data file in and below ``folder``."""
    for source in folder.iterdir():
        if source.is_dir():
            yield from _texts(source, f"{where}/{source.name}")
        elif source.name.endswith((".py", ".json")):
            yield f"{where}/{source.name}", source.read_text(encoding="utf-8")


@functools.cache
def sha256() -> str:
    """Return the SHA-256 of ``build()`` in hex."""
    return hashlib.sha256(build()).hexdigest()
