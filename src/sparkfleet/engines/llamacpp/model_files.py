"""Which GGUF file of a model repository is served: a repository holds one model in many quantizations.

``file: "*Q4_K_M.gguf"`` names the one that is served. A model above the size limit of a file is split into
``NAME-00001-of-00003.gguf``: ``llama-server`` is given the first part and opens the others beside it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sparkfleet.engines.base import ModelFilesError

SUFFIX = ".gguf"
_PART = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")
_PROJECTOR = re.compile(r"(^|/)mmproj[^/]*\.gguf$")
_MOST_NAMES = 12


@dataclass(frozen=True)
class Choice:
    """The files that one ``file:`` pattern stands for."""

    first: str
    """Path in the repository that ``llama-server`` loads."""
    paths: tuple[str, ...]
    """All parts in order; one path where the model is not split."""


def choose(paths: Iterable[str], pattern: str) -> Choice:
    """Return the files that the pattern stands for among those of a repository, or raise ModelFilesError."""
    models = models_of(paths)
    if not models:
        raise ModelFilesError(
            "it has no GGUF file",
            "use a repository with *.gguf files (often named -GGUF), or serve this one by engine: vllm",
        )
    names = _shortened(models)
    if not pattern:
        raise ModelFilesError(
            f"it has {len(models)} GGUF models, and the service does not say which one: {names}",
            'add file: with a name or a pattern, for example file: "*Q4_K_M.gguf"',
        )
    matches = {name: choice for name, choice in models.items() if _matches(choice, pattern)}
    if not matches:
        raise ModelFilesError(f"file: '{pattern}' matches none of its GGUF files", f"one of: {names}")
    if len(matches) > 1:
        raise ModelFilesError(
            f"file: '{pattern}' matches {len(matches)} of its GGUF models: {_shortened(matches)}",
            "write more of the name, so that one is left",
        )
    (choice,) = matches.values()
    missing = _missing_parts(choice)
    if missing:
        raise ModelFilesError(
            f"{choice.first} is incomplete there: {', '.join(missing)} missing",
            "use another file of the repository",
        )
    return choice


def models_of(paths: Iterable[str]) -> dict[str, Choice]:
    """Return the GGUF models among the files of a repository by their first path; projectors are left out."""
    groups: dict[str, list[str]] = {}
    for path in sorted(paths):
        if not path.lower().endswith(SUFFIX) or _PROJECTOR.search(path):
            continue
        part = _PART.match(path)
        groups.setdefault(f"{part['stem']}-of-{part['count']}" if part else path, []).append(path)
    return {found[0]: Choice(found[0], tuple(found)) for found in groups.values()}


def _matches(choice: Choice, pattern: str) -> bool:
    """Match the whole path or its last component, and the name of a split model without its part number."""
    names = {choice.first, choice.first.rsplit("/", 1)[-1]}
    part = _PART.match(choice.first)
    if part:
        whole = f"{part['stem']}{SUFFIX}"
        names |= {whole, whole.rsplit("/", 1)[-1]}
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _missing_parts(choice: Choice) -> list[str]:
    part = _PART.match(choice.first)
    if not part:
        return []
    count = int(part["count"])
    names = [f"{part['stem']}-{number:05}-of-{count:05}{SUFFIX}" for number in range(1, count + 1)]
    return [name for name in names if name not in choice.paths]


def _shortened(models: Iterable[str]) -> str:
    names = sorted(models)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
