"""Causes of failed starts, and progress of running ones: the engine's log matched against known patterns.

Patterns for every engine (kernel, container runtime, network) are in ``failure_patterns.json`` beside this
module, those of one engine in its folder, each with its source and a sample of the real text.
Standard library alone.
"""

from __future__ import annotations

import functools
import json
import pkgutil
import re
from dataclasses import dataclass
from typing import Any

from sparkfleet import engines

_FRAME = re.compile(r"\s*(?:File \"|[\^~]+$|Traceback \(|During handling of|The above exception)")
_PROGRESS = re.compile(r"%\||% Completed \|")
_SIGNALS = {
    132: (
        "illegal-instruction",
        "the engine ended with an illegal instruction (SIGILL): code for another CPU",
    ),
    134: ("aborted", "the engine aborted itself (SIGABRT)"),
    137: ("killed", "the engine was killed (SIGKILL): most often the kernel, for lack of memory"),
    139: ("crashed", "the engine crashed (SIGSEGV)"),
}
_COMMAND_EXITS = {
    126: ("command-not-executable", "the container's command is not executable"),
    127: ("command-missing", "the container's command does not exist in the image"),
}


_LEVELS = {"D": "DEBUG", "I": "INFO", "W": "WARNING", "E": "ERROR"}
"""Levels of loggers that write one letter."""


@dataclass(frozen=True)
class Diagnosis:
    """The cause of a failed start."""

    id: str
    cause: str
    remedy: str
    line: str
    """The engine's own line; "" when the cause is known from the exit code alone."""


@dataclass(frozen=True)
class _Pattern:
    id: str
    rank: int
    regex: re.Pattern[str]
    cause: str
    remedy: str
    exit: int | None
    more: int


@functools.cache
def patterns(engine: str) -> dict[str, list[dict[str, Any]]]:
    """Return the patterns of an engine and those of all engines: ``failures``, ``harmless``, ``warnings``,
    ``phases``.
    """
    own = _read(f"sparkfleet.engines.{engine}", engines.on_host(engine).log.patterns)
    shared = _read("sparkfleet.onhost.gate", "failure_patterns.json")
    kinds = ("failures", "harmless", "warnings", "phases")
    return {kind: [*own.get(kind, ()), *shared.get(kind, ())] for kind in kinds}


def _read(package: str, name: str) -> dict[str, list[dict[str, Any]]]:
    content = pkgutil.get_data(package, name)
    if content is None:
        raise FileNotFoundError(f"{package} has no {name}")
    data: dict[str, list[dict[str, Any]]] = json.loads(content)
    return data


@functools.cache
def reader(engine: str) -> LogReader:
    """Return what reads the logs of an engine. ``KeyError`` for an unknown engine."""
    return LogReader(engine)


class LogReader:
    """Reads the logs of one engine."""

    def __init__(self, engine: str) -> None:
        """Read the patterns; they are compiled at their first use."""
        self._prefix = engines.on_host(engine).log.prefix
        self._patterns = patterns(engine)

    def diagnose(self, log_text: str, exit_code: int | None = None) -> Diagnosis | None:
        """Return why the engine failed; None when log and exit code match nothing known.

        Root causes come before wrappers (``rank``); among equals, what the engine logged last counts.
        """
        lines = _lines(log_text)
        best: tuple[_Pattern, re.Match[str], int] | None = None
        for index in range(len(lines) - 1, -1, -1):
            if not self._may_be_failure(lines[index]):
                continue
            for pattern in self._failures:
                if best is not None and pattern.rank >= best[0].rank:
                    continue
                if pattern.exit is not None and exit_code not in (None, pattern.exit):
                    continue
                match = pattern.regex.search(lines[index])
                if match:
                    best = (pattern, match, index)
        return self._explain(*best, lines) if best else _by_exit(exit_code)

    def last_meaningful_lines(self, log_text: str, count: int) -> list[str]:
        """Return the last lines with a message: no traceback frames, progress bars or shutdown messages."""
        meaningful = [line for line in _lines(log_text) if self._is_meaningful(line)]
        return meaningful[-count:] if count > 0 else []

    def phase_of(self, line: str) -> tuple[str, str] | None:
        """Return phase and text (``("load", "shards 3/13")``) of a log line that marks progress, else None.

        Phases in their order: start, download, load, tune, compile, memory, graphs, warm-up, ready.
        """
        text = line.rstrip("\r\n").rpartition("\r")[2]
        for phase, regex, template in self._phases:
            match = regex.search(text)
            if match:
                return phase, template.format_map(match.groupdict())
        return None

    def warnings(self, log_text: str) -> list[str]:
        """Return the warnings in the log that an operator should know, each once."""
        known = [(re.compile(entry["re"]), entry["text"]) for entry in self._patterns["warnings"]]
        found = [
            text.format_map(match.groupdict())
            for line in _lines(log_text)
            for regex, text in known
            if (match := regex.search(line))
        ]
        return list(dict.fromkeys(found))

    @functools.cached_property
    def _failures(self) -> tuple[_Pattern, ...]:
        return tuple(
            _Pattern(
                entry["id"],
                entry["rank"],
                re.compile(entry["re"]),
                entry["cause"],
                entry["remedy"],
                entry.get("exit"),
                entry.get("more", 0),
            )
            for entry in self._patterns["failures"]
        )

    @functools.cached_property
    def _harmless(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(entry["re"]) for entry in self._patterns["harmless"])

    @functools.cached_property
    def _phases(self) -> tuple[tuple[str, re.Pattern[str], str], ...]:
        entries = self._patterns["phases"]
        return tuple((entry["phase"], re.compile(entry["re"]), entry["text"]) for entry in entries)

    def _may_be_failure(self, line: str) -> bool:
        """Failures are never logged below level ERROR, and some errors are harmless."""
        return self._level(line) not in ("DEBUG", "INFO", "WARNING") and not self._is_harmless(line)

    def _is_meaningful(self, line: str) -> bool:
        message = self._prefix.sub("", line)
        if not message.strip() or message.startswith("    "):
            return False
        if _FRAME.match(message) or _PROGRESS.search(message):
            return False
        return self._level(line) not in ("DEBUG", "INFO") and not self._is_harmless(line)

    def _level(self, line: str) -> str:
        match = self._prefix.match(line)
        return _LEVELS.get(match["level"], match["level"]) if match else ""

    def _is_harmless(self, line: str) -> bool:
        return any(regex.search(line) for regex in self._harmless)

    def _explain(self, pattern: _Pattern, match: re.Match[str], index: int, lines: list[str]) -> Diagnosis:
        following = [line.strip() for line in lines[index + 1 : index + 1 + pattern.more]]
        message = self._prefix.sub("", lines[index]).strip()
        values = {name: _short(value or "", 160) for name, value in match.groupdict().items()}
        values["more"] = _short(" ".join(following) or message, 160)
        return Diagnosis(
            pattern.id,
            pattern.cause.format_map(values).strip(),
            pattern.remedy.format_map(values),
            _short(" ".join([message, *following]), 400),
        )


def _lines(log_text: str) -> list[str]:
    return [line.rpartition("\r")[2] for line in log_text.replace("\r\n", "\n").split("\n")]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _by_exit(exit_code: int | None) -> Diagnosis | None:
    if exit_code in _SIGNALS:
        name, cause = _SIGNALS[exit_code]
        return Diagnosis(name, cause, "read the host's kernel log of that minute (dmesg -T)", "")
    if exit_code in _COMMAND_EXITS:
        name, cause = _COMMAND_EXITS[exit_code]
        return Diagnosis(name, cause, "leave command and entrypoint to sparkfleet, or take another image", "")
    return None
