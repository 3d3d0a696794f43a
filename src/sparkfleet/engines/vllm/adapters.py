"""LoRA adapters in ``lora-modules``: those of the hub are staged and pinned like the model. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparkfleet.engines.base import ExtraModel

FLAG = "lora-modules"
_OF_HUB = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")


def of_hub(value: Any) -> Iterator[ExtraModel]:
    """Yield the repositories that adapters name: ``NAME=OWNER/REPO``, also with ``@REVISION``."""
    for entry in _entries(value):
        if found := _OF_HUB.fullmatch(path_of(entry)):
            yield ExtraModel(FLAG, found["repo"], found["revision"] or "")


def pinned(value: Any, directories: Mapping[str, str]) -> Any:
    """Return the flag with the directories of repositories (in the container) instead of their names.

    Other entries stay as they are written: the arguments of running engines must not change.
    """
    if isinstance(value, list):
        return [_pinned(entry, directories) for entry in value]
    return _pinned(value, directories)


def is_of_hub(path: str) -> bool:
    """Return whether the path of an adapter is a repository of the hub."""
    return _OF_HUB.fullmatch(path) is not None


def path_of(entry: Any) -> str:
    """Return the path of one adapter; "" if it has none."""
    if isinstance(entry, Mapping):
        return str(entry.get("path", ""))
    return entry.partition("=")[2] if isinstance(entry, str) and "," not in entry else ""


def _entries(value: Any) -> list[Any]:
    return [_read(entry) for entry in (value if isinstance(value, list) else [value])]


def _read(entry: Any) -> Any:
    """Return an adapter that is written as JSON as a mapping."""
    try:
        read = json.loads(entry) if isinstance(entry, str) and entry.startswith("{") else entry
    except ValueError:
        return entry
    return read if isinstance(read, dict) else entry


def _pinned(written: Any, directories: Mapping[str, str]) -> Any:
    entry = _read(written)
    found = _OF_HUB.fullmatch(path_of(entry))
    directory = directories.get(found["repo"]) if found else None
    if directory is None:
        return written
    return (
        {**entry, "path": directory} if isinstance(entry, dict) else f"{entry.partition('=')[0]}={directory}"
    )
