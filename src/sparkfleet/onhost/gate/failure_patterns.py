"""Patterns of an engine's log: failures, what is harmless, progress. Standard library alone.

Those for every engine (kernel, container runtime, network) are in ``failure_patterns.json`` beside this
module, those of one engine in its folder. ``docs/how-to/add-a-failure-pattern.md`` says what an entry has.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparkfleet import data_files, engines

ROOT, VAGUE, CONSEQUENCE, WRAPPER = 3, 5, 8, 9
"""Highest rank of a root cause, of one that another line may explain better, of a consequence (its cause is
on another rank or in the kernel's log), and of an error that says only that something failed."""

KINDS = ("failures", "endings", "harmless", "warnings", "phases", "starts", "progress", "shutdown")


@dataclass(frozen=True)
class FailurePattern:
    """What a known failure logs. ``cause`` and ``remedy`` are templates for the groups of ``regex``."""

    id: str
    rank: int
    regex: re.Pattern[str]
    cause: str
    remedy: str
    exit: int | None = None
    """The exit code that such a failure has; None: any."""
    more: int = 0
    """Following lines that belong to the message, most."""
    context: re.Pattern[str] | None = None
    """Must match one of the lines before."""
    remedy_by_flag: tuple[tuple[str, str], ...] = ()
    """Remedies for those who set a flag."""
    in_kernel_log: bool = False
    """Whether the kernel logs it."""
    any_level: bool = False
    """Whether a line below level ERROR shows it, too, when nothing follows that line."""


@functools.cache
def read(engine: str) -> dict[str, list[dict[str, Any]]]:
    """Return the patterns of an engine and those of all engines, by kind."""
    own, shared = engine_patterns(engine), shared_patterns()
    return {kind: [*own.get(kind, ()), *shared.get(kind, ())] for kind in KINDS}


def engine_patterns(engine: str) -> dict[str, list[dict[str, Any]]]:
    """Return the patterns of an engine alone, by kind."""
    return _read(f"sparkfleet.engines.{engine}", engines.on_host(engine).log.patterns)


def shared_patterns() -> dict[str, list[dict[str, Any]]]:
    """Return the patterns of all engines, by kind."""
    return _read("sparkfleet.onhost.gate", "failure_patterns.json")


def _read(package: str, name: str) -> dict[str, list[dict[str, Any]]]:
    data: dict[str, list[dict[str, Any]]] = json.loads(data_files.read(package, name))
    return data


class Patterns:
    """The patterns of one engine, compiled at their first use."""

    def __init__(self, engine: str) -> None:
        """Read them."""
        self._entries = read(engine)
        self._regexes: dict[str, tuple[re.Pattern[str], ...]] = {}

    @functools.cached_property
    def failures(self) -> tuple[FailurePattern, ...]:
        """All failures."""
        return tuple(map(_failure, self._entries["failures"]))

    @functools.cached_property
    def phases(self) -> tuple[tuple[str, re.Pattern[str], str], ...]:
        """Phase, regex and text of each progress marker."""
        return tuple(
            (entry["phase"], re.compile(entry["re"]), entry["text"]) for entry in self._entries["phases"]
        )

    @functools.cached_property
    def warnings(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        """Regex and text of each warning."""
        return tuple((re.compile(entry["re"]), entry["text"]) for entry in self._entries["warnings"])

    @functools.cached_property
    def endings(self) -> Mapping[str, Mapping[str, str]]:
        """Cause and remedy of ends that no line explains, by id."""
        return {entry["id"]: entry for entry in self._entries["endings"]}

    @functools.cached_property
    def endings_by_exit(self) -> Mapping[int, str]:
        """Their ids by exit code."""
        return {entry["exit"]: entry["id"] for entry in self._entries["endings"] if "exit" in entry}

    def match(self, kind: str, text: str) -> bool:
        """Return whether a pattern of ``kind`` (harmless, starts, progress, shutdown) matches."""
        if kind not in self._regexes:
            self._regexes[kind] = tuple(re.compile(entry["re"]) for entry in self._entries[kind])
        return any(regex.search(text) for regex in self._regexes[kind])


def _failure(entry: Mapping[str, Any]) -> FailurePattern:
    return FailurePattern(
        entry["id"],
        entry["rank"],
        re.compile(entry["re"]),
        entry["cause"],
        entry["remedy"],
        entry.get("exit"),
        entry.get("more", 0),
        re.compile(entry["context"]) if "context" in entry else None,
        tuple(entry.get("remedy_by_flag", {}).items()),
        entry.get("log") == "kernel",
        entry.get("any_level", False),
    )
