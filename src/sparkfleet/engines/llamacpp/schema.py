"""What ``llama-server`` of one release accepts.

The flags are read from the release's source (``tools/add_llamacpp_flags.py``): llama.cpp cannot print
them as data. A release is loaded on first use.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sparkfleet import data_files
from sparkfleet.contract import codec

FILE = Path(__file__).parent / "data" / "releases.json"
FORMAT = 1

Kind = Literal["value", "two_values", "bool", "switch", "help"]
"""value: takes one value; bool: has a ``--no-`` form; switch: has none; help: prints and exits."""


@dataclass(frozen=True)
class Flag:
    """One flag of ``llama-server``."""

    name: str
    """The long name, as ``--ctx-size``."""
    kind: Kind
    type: str = "str"
    """str, int, float, tristate (on, off, auto), on_off, or int_or_word (a number or one of ``choices``)."""
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    default: str = ""
    """As ``--help`` shows it; "" if computed or unknown."""
    env: str = ""
    """Variable that sets the flag where the command line does not."""
    hint: str = ""
    """Placeholder of the value in ``--help``."""
    help: str = ""
    deprecated: bool = False
    removed: str = ""
    """Replacement of a removed flag, with which the server exits."""

    @property
    def takes_value(self) -> bool:
        """Return whether a value follows the flag."""
        return self.kind in ("value", "two_values")


@dataclass(frozen=True)
class Schema:
    """Everything that one ``llama-server`` accepts."""

    version: str
    commit: str
    """Commit of llama.cpp that the flags were read from."""
    flags: Mapping[str, Flag] = field(repr=False)

    @functools.cached_property
    def options(self) -> Mapping[str, Flag]:
        """Every spelling of a flag -> the flag: canonical names, aliases, negatives."""
        return {
            option: flag
            for flag in self.flags.values()
            for option in (flag.name, *flag.aliases, *flag.negatives)
        }

    @functools.cached_property
    def variables(self) -> Mapping[str, Flag]:
        """Environment variable -> the flag that it sets."""
        found = {flag.env: flag for flag in self.flags.values() if flag.env}
        no = {name.replace("LLAMA_ARG_", "LLAMA_ARG_NO_"): f for name, f in found.items() if f.negatives}
        return {**no, **found}


def versions() -> tuple[str, ...]:
    """Return the bundled releases, oldest first."""
    return tuple(sorted(_releases(), key=_numbers))


@functools.cache
def load(version: str) -> Schema:
    """Return the schema of exactly that bundled release. ``KeyError`` when it is not bundled."""
    entry = _releases()[version]
    flags = {name: _flag(name, fields) for name, fields in entry["flags"].items()}
    return Schema(version, entry["commit"], flags)


def nearest(version: str) -> tuple[Schema, bool]:
    """Return the schema that is closest to ``version``, and whether it is that very release.

    Closest is the newest bundled release at or below it, else the oldest one. A build number (``b1234``) or
    an empty version gives the newest, not exact.
    """
    known = versions()
    if version in known:
        return load(version), True
    numbers = _numbers(version)
    if not numbers:
        return load(known[-1]), False
    below = [name for name in known if _numbers(name) <= numbers]
    return load(below[-1] if below else known[0]), False


@functools.cache
def _releases() -> dict[str, dict[str, Any]]:
    content = data_files.read("sparkfleet.engines.llamacpp", "data/releases.json")
    data = codec.parse(dict[str, Any], content, FILE.name)
    if data.get("format") != FORMAT:
        raise ValueError(f"{FILE.name}: format {data.get('format')}, expected {FORMAT}; reinstall sparkfleet")
    releases: dict[str, dict[str, Any]] = data["releases"]
    return releases


def _flag(name: str, fields: Mapping[str, Any]) -> Flag:
    lists = {key: tuple(fields.get(key, ())) for key in ("choices", "aliases", "negatives")}
    return Flag(**{"name": name, **fields, **lists})


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.removesuffix("-dev").split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()
