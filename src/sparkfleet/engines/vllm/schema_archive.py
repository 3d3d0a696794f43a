"""Bundled schemas: what every known vLLM release accepts, in one small file.

Releases differ little from each other, so each entry (a flag, a key of a nested config, a registered name) is
kept once per run of releases in which it is the same: ``[first, last, entry]``, with indices into
``versions``. The file is small and loads in milliseconds, and since when and until when something exists can
be read off directly.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from sparkfleet import data_files
from sparkfleet.contract import codec

FILE = Path(__file__).parent / "data" / "releases.json.gz"
FORMAT = 1

Runs = dict[str, list[list[Any]]]
"""Name -> runs of ``[index of the first release, index of the last one, entry]``."""
Table = dict[str, Runs]


@functools.cache
def read(path: Path | None = None) -> dict[str, Any]:
    """Return the archive as it is stored: ``versions``, ``flags``, ``classes``, ``registries``, ``packages``.

    ``path``: of another archive than the one in use.
    """
    packed = (
        path.read_bytes() if path else data_files.read("sparkfleet.engines.vllm", "data/releases.json.gz")
    )
    data = codec.parse(dict[str, Any], gzip.decompress(packed), str(path or FILE.name))
    if data.get("format") != FORMAT:
        raise ValueError(
            f"{path or FILE.name}: format {data.get('format')}, not {FORMAT}; install the matching sparkfleet"
        )
    return data


def at(runs: Runs, index: int) -> dict[str, Any]:
    """Return name -> entry of everything that exists in the release of that index."""
    return {
        name: entry
        for name, entries in runs.items()
        for first, last, entry in entries
        if first <= index <= last
    }


def release(data: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return one release's part of the bundle, in the form of a schema dump. ``KeyError`` when it is not
    there.
    """
    try:
        index = data["versions"].index(version)
    except ValueError:
        raise KeyError(version) from None
    classes = {name: at(runs, index) for name, runs in data["classes"].items()}
    return {
        "vllm_version": version,
        "flags": at(data["flags"], index),
        "json_classes": {name: fields for name, fields in classes.items() if fields},
        "registries": {name: at(runs, index) for name, runs in data["registries"].items()},
        "packages": at(data["packages"], index),
    }


def pack(dumps: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bundle of these schema dumps (the form that ``release`` returns); equal input, equal
    bytes.
    """
    ordered = sorted(dumps, key=lambda dump: Version(dump["vllm_version"]))

    def table(part: str) -> Table:
        names = sorted({name for dump in ordered for name in dump[part]})
        return {name: _runs([dump[part].get(name, {}) for dump in ordered]) for name in names}

    data = {
        "format": FORMAT,
        "versions": [dump["vllm_version"] for dump in ordered],
        "flags": _runs([dump["flags"] for dump in ordered]),
        "classes": table("json_classes"),
        "registries": table("registries"),
        "packages": _runs([dump["packages"] for dump in ordered]),
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return gzip.compress(text.encode(), mtime=0)


def _runs(releases: list[Mapping[str, Any]]) -> Runs:
    runs: Runs = {}
    for index, entries in enumerate(releases):
        for name, entry in entries.items():
            known = runs.setdefault(name, [])
            if known and known[-1][1] == index - 1 and known[-1][2] == entry:
                known[-1][1] = index
            else:
                known.append([index, index, entry])
    return dict(sorted(runs.items()))
