"""The argument parser of llama-server, from the release's own list of flags."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

FILE = Path(__file__).with_name("release.json")
_TRUE = ("on", "enabled", "true", "1")
_FALSE = ("off", "disabled", "false", "0")
_AUTO = ("auto", "-1")


@dataclass(frozen=True)
class Release:
    """One release of llama.cpp."""

    version: str
    commit: str
    flags: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Options:
    """The values of flags from the command line and the environment."""

    values: Mapping[str, Any]

    def text(self, name: str, default: str = "") -> str:
        """Return a flag's text."""
        return str(self.values.get(name, default))

    def number(self, name: str, default: int) -> int:
        """Return a flag's number."""
        return int(self.values.get(name, default))

    def on(self, name: str, *, default: bool = False) -> bool:
        """Return whether a switch is on."""
        return bool(self.values.get(name, default))


def load_release() -> Release:
    """Return the release that this image imitates."""
    data = json.loads(Path(os.environ.get("LAB_LLAMA_RELEASE") or FILE).read_text())
    return Release(data["version"], data["commit"], data["flags"])


def parse(args: Sequence[str], release: Release, environ: Mapping[str, str] = os.environ) -> Options:
    """Return the options; an argument that llama-server refuses ends the program with 1."""
    known = {
        option: (name, entry, option not in entry.get("negatives", ()))
        for name, entry in release.flags.items()
        for option in (name, *entry.get("aliases", ()), *entry.get("negatives", ()))
    }
    values = _from_environment(release, environ)
    rest = list(args)
    while rest:
        option = rest.pop(0)
        if option.startswith("--"):
            option = option.replace("_", "-")
        if option not in known:
            _refuse(f"error: invalid argument: {option}")
        name, entry, positive = known[option]
        kind = entry["kind"]
        if kind == "help":
            _print_and_exit(name, release)
        elif kind in ("bool", "switch"):
            values[name] = positive
        elif len(rest) < (count := 2 if kind == "two_values" else 1):
            _refuse_value(option, entry, "expected value for argument")
        else:
            taken = [rest.pop(0) for _ in range(count)]
            values[name] = taken if count > 1 else _value(option, entry, taken[0])
    return Options(values)


def _from_environment(release: Release, environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, entry in release.flags.items():
        text = environ.get(entry.get("env", ""), "")
        if text and entry["kind"] in ("bool", "switch"):
            values[name] = text in _TRUE
        elif text:
            values[name] = text
    return values


def _value(option: str, entry: Mapping[str, Any], text: str) -> Any:
    kind = entry.get("type", "str")
    error = entry.get("removed") and f"the argument has been removed. {entry['removed']}"
    if kind in ("tristate", "on_off"):
        args = (*_TRUE, *_FALSE, *(_AUTO if kind == "tristate" else ()))
        if text not in args:
            error = f"error: unknown value for {option}: '{text}'\n"
    elif kind == "int" or (kind == "int_or_word" and text not in entry["choices"]):
        number = re.match(r"\s*[+-]?\d+", text)
        if number is None:
            error = error or "stoi"
        elif not error:
            return int(number.group())
    elif kind == "float":
        try:
            return float(text)
        except ValueError:
            error = "stof"
    elif entry.get("choices") and text not in entry["choices"]:
        error = f"Unsupported cache type: {text}" if "f16" in entry["choices"] else "invalid value"
    if error:
        _refuse_value(option, entry, error)
    return text


def _refuse_value(option: str, entry: Mapping[str, Any], error: str) -> NoReturn:
    _refuse(
        f'error while handling argument "{option}": {error}\n\nusage:\n{_usage(entry, option)}\n\n'
        "to show complete usage, run with -h"
    )


def _usage(entry: Mapping[str, Any], option: str) -> str:
    return f"{option} {entry.get('hint', '')}".ljust(39) + f" {entry.get('help', '')}\n"


def _print_and_exit(name: str, release: Release) -> NoReturn:
    if name == "--version":
        sys.stderr.write(f"version: {release.version} ({release.commit})\n")
    else:
        for flag, entry in release.flags.items():
            sys.stdout.write(_usage(entry, ", ".join([*entry.get("aliases", ()), flag])))
    raise SystemExit(0)


def _refuse(text: str) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    raise SystemExit(1)
