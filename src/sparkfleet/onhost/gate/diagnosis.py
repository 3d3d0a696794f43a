"""Why an engine did not come up, and how far it is: its log read against known patterns.

``failure_patterns.json`` beside this module holds the patterns, each with its source and a sample of the
engine's real wording. Standard library alone: this runs on the Spark as well as with the operator.
"""

from __future__ import annotations

import functools
import json
import pkgutil
import re
from dataclasses import dataclass
from typing import Any

_PREFIX = re.compile(
    r"^(?:\([^)]*\)\s*)?(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\d\d-\d\d [\d:]+ (?:\[[^\]]*\] ?)?"
)
"""What vLLM's logger puts before a message: ``(EngineCore pid=7) INFO 11-20 19:35:21 [core.py:133] ``."""
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


@dataclass(frozen=True)
class Diagnosis:
    """The cause of a failed start."""

    id: str
    cause: str
    remedy: str
    line: str
    """The engine's own line; "" where the exit code alone tells."""


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
def patterns() -> dict[str, list[dict[str, Any]]]:
    """Return the pattern file: ``failures``, ``harmless``, ``warnings``, ``phases``."""
    content = pkgutil.get_data(__package__ or "sparkfleet.onhost.gate", "failure_patterns.json")
    if content is None:
        raise FileNotFoundError("failure_patterns.json is not beside diagnose.py")
    data: dict[str, list[dict[str, Any]]] = json.loads(content)
    return data


def diagnose(log_text: str, exit_code: int | None = None) -> Diagnosis | None:
    """Return why the engine failed; None when nothing known is in its log and its exit code tells nothing.

    Root causes come before wrappers (``rank``); among equals, what the engine said last counts.
    """
    lines = _lines(log_text)
    best: tuple[_Pattern, re.Match[str], int] | None = None
    for index in range(len(lines) - 1, -1, -1):
        if not _may_be_failure(lines[index]):
            continue
        for pattern in _failures():
            if best is not None and pattern.rank >= best[0].rank:
                continue
            if pattern.exit is not None and exit_code not in (None, pattern.exit):
                continue
            match = pattern.regex.search(lines[index])
            if match:
                best = (pattern, match, index)
    return _explain(*best, lines) if best else _by_exit(exit_code)


def last_meaningful_lines(log_text: str, count: int) -> list[str]:
    """Return the last lines that say something: no traceback frames, progress bars or talk of shutting
    down.
    """
    kept = [line for line in _lines(log_text) if _is_meaningful(line)]
    return kept[-count:] if count > 0 else []


def phase_of(line: str) -> tuple[str, str] | None:
    """Return phase and text (``("load", "shards 3/13")``) of a log line that marks progress; None otherwise.

    Phases in their order: start, download, load, tune, compile, memory, graphs, warm-up, ready.
    """
    text = line.rstrip("\r\n").rpartition("\r")[2]
    for phase, regex, template in _phases():
        match = regex.search(text)
        if match:
            return phase, template.format_map(match.groupdict())
    return None


def warnings(log_text: str) -> list[str]:
    """Return what the log warns of that an operator should know, each once."""
    known = [(re.compile(entry["re"]), entry["text"]) for entry in patterns()["warnings"]]
    found = [
        text.format_map(match.groupdict())
        for line in _lines(log_text)
        for regex, text in known
        if (match := regex.search(line))
    ]
    return list(dict.fromkeys(found))


@functools.cache
def _failures() -> tuple[_Pattern, ...]:
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
        for entry in patterns()["failures"]
    )


@functools.cache
def _harmless() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(entry["re"]) for entry in patterns()["harmless"])


@functools.cache
def _phases() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    return tuple((entry["phase"], re.compile(entry["re"]), entry["text"]) for entry in patterns()["phases"])


def _lines(log_text: str) -> list[str]:
    return [line.rpartition("\r")[2] for line in log_text.replace("\r\n", "\n").split("\n")]


def _may_be_failure(line: str) -> bool:
    """A failure is never said below level ERROR, and some errors are none."""
    return _level(line) not in ("DEBUG", "INFO", "WARNING") and not _is_harmless(line)


def _is_meaningful(line: str) -> bool:
    said = _PREFIX.sub("", line)
    if not said.strip() or said.startswith("    ") or _FRAME.match(said) or _PROGRESS.search(said):
        return False
    return _level(line) not in ("DEBUG", "INFO") and not _is_harmless(line)


def _level(line: str) -> str:
    match = _PREFIX.match(line)
    return match["level"] if match else ""


def _is_harmless(line: str) -> bool:
    return any(regex.search(line) for regex in _harmless())


def _explain(pattern: _Pattern, match: re.Match[str], index: int, lines: list[str]) -> Diagnosis:
    following = [line.strip() for line in lines[index + 1 : index + 1 + pattern.more]]
    said = _PREFIX.sub("", lines[index]).strip()
    words = {name: _short(value or "", 160) for name, value in match.groupdict().items()}
    words["more"] = _short(" ".join(following) or said, 160)
    cause = pattern.cause.format_map(words).strip()
    return Diagnosis(
        pattern.id, cause, pattern.remedy.format_map(words), _short(" ".join([said, *following]), 400)
    )


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
