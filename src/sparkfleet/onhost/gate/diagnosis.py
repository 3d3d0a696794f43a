"""Causes of failed starts, and progress of running ones. Standard library alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.onhost.gate import log_lines
from sparkfleet.onhost.gate.failure import Failure
from sparkfleet.onhost.gate.failure_patterns import (
    CONSEQUENCE,
    ROOT,
    VAGUE,
    WRAPPER,
    FailurePattern,
    Patterns,
)
from sparkfleet.onhost.gate.log_lines import Line

ENGINE_LOG, KERNEL_LOG = "engine log", "kernel log"

_CODE = re.compile(r"\s*(?:File \"|[\^~]+$|Traceback \(|During handling of|The above exception)|    ")
_PROGRESS_BAR = re.compile(r"%\||% Completed \|")
_ERROR = re.compile(
    r"(?:[A-Za-z_]\w{0,60}\.){0,8}"
    r"_?[A-Z]\w{0,60}(?:Error|Exception|Timeout|Exceeded|NotFound|Resources|Unavailable|Aborted|Failed)"
    r"(?:\(\w{1,60}\))?(?:: |:?$)"
)
"""The last line of a traceback."""
_OTHERS_ERROR = re.compile(
    r"(?:\w{1,60}\.){0,8}(?:ConnectionResetError|BrokenPipeError|EOFError|CancelledError|ProcessLookupError|"
    r"ChildFailedError|RayTaskError|KeyboardInterrupt|SystemExit)\b"
)
"""Errors that other processes get when one of them ends."""
_CONTEXT_LINES = 14
_ARGS_IN_LOG = re.compile(r"non-default args: \{(?P<args>.*)")
_NAME_IN_ARGS = re.compile(r"'([a-z_]{2,60})': ")
_PYDANTIC_TYPE = re.compile(r" ?\[type=[a-z_.].*")
_SHORT, _LONG = 160, 400


@dataclass(frozen=True)
class Sources:
    """All that is known of one failed start."""

    log: str
    """Of the engine; of docker where no engine started."""
    exit_code: int | None = None
    kernel_log: str = ""
    """Of the time of the start."""
    rank_logs: Mapping[str, str] = field(default_factory=dict)
    """Logs of the other ranks, by name."""
    argv: Sequence[str] | None = None
    """The container's; None: not known."""


@dataclass(frozen=True)
class _Match:
    pattern: FailurePattern
    groups: Mapping[str, str | None]
    index: int


@dataclass(frozen=True)
class _Found:
    rank: int
    failure: Failure


@functools.cache
def reader(engine: str) -> LogReader:
    """Return what reads the logs of an engine. ``KeyError`` for an unknown engine."""
    return LogReader(engine)


class LogReader:
    """Reads the logs of one engine."""

    def __init__(self, engine: str) -> None:
        """Read the patterns; they are compiled at their first use."""
        self._prefix = engines.on_host(engine).log.prefix
        self._patterns = Patterns(engine)

    def diagnose(self, log_text: str, exit_code: int | None = None) -> Failure | None:
        """Return why the engine failed, by its log and exit code alone."""
        return self.diagnose_all(Sources(log_text, exit_code))

    def diagnose_all(self, sources: Sources) -> Failure | None:
        """Return why the engine failed; None when nothing shows that it did.

        A root cause comes first: of this rank, of another rank, of the kernel. Then a consequence, then what
        the exit code says, then the engine's own error without a known cause (``unknown``).
        """
        own = self._of_log(sources.log, sources, ENGINE_LOG)
        if own and own.rank <= VAGUE:
            return own.failure
        by_rank = [self._of_log(text, sources, name) for name, text in sources.rank_logs.items()]
        other_ranks = sorted((found for found in by_rank if found), key=lambda found: found.rank)
        if other_ranks and other_ranks[0].rank <= VAGUE:
            return other_ranks[0].failure
        if kernel := self._of_kernel(sources.kernel_log):
            return kernel
        consequences = [found for found in (own, *other_ranks) if found and found.rank <= CONSEQUENCE]
        if consequences:
            return consequences[0].failure
        return self._by_exit(sources, own)

    def last_meaningful_lines(self, log_text: str, count: int) -> list[str]:
        """Return the last lines with a message: no traceback frames, progress bars or shutdown messages."""
        meaningful = [line.text.strip() for line in self._lines(log_text) if self._is_meaningful(line)]
        return meaningful[-count:] if count > 0 else []

    def phase_of(self, line: str) -> tuple[str, str] | None:
        """Return phase and text (``("load", "shards 3/13")``) of a log line that marks progress, else None.

        Phases in their order: start, download, load, tune, compile, memory, graphs, warm-up, ready.
        """
        text = log_lines.plain(line)
        for phase, regex, template in self._patterns.phases:
            match = regex.search(text)
            if match:
                return phase, template.format_map(match.groupdict())
        return None

    def progress_count(self, log_text: str) -> int:
        """Return how many lines are progress of this engine: 0 for the log of other software."""
        return sum(map(self._is_progress, self._lines(log_text)))

    def warnings(self, log_text: str) -> list[str]:
        """Return the warnings in the log that an operator should know, each once."""
        found = [
            text.format_map(match.groupdict())
            for line in self._lines(log_text)
            for regex, text in self._patterns.warnings
            if (match := regex.search(line.text))
        ]
        return list(dict.fromkeys(found))

    def _lines(self, log_text: str) -> list[Line]:
        return log_lines.lines(log_text, self._prefix)

    def _is_progress(self, line: Line) -> bool:
        known = any(regex.search(line.text) for _, regex, _ in self._patterns.phases)
        return known or self._patterns.match("progress", line.text)

    def _may_be_failure(self, line: Line) -> bool:
        """Failures are never logged below level ERROR, and some errors are harmless."""
        if line.level in ("DEBUG", "INFO", "WARNING") or not line.text or _CODE.match(line.text):
            return False
        return not self._patterns.match("harmless", line.text)

    def _is_meaningful(self, line: Line) -> bool:
        if not line.text.strip() or _CODE.match(line.text) or _PROGRESS_BAR.search(line.text):
            return False
        return line.level not in ("DEBUG", "INFO") and not self._patterns.match("harmless", line.text)

    def _of_log(self, text: str, sources: Sources, source: str) -> _Found | None:
        """Return what one rank's log shows; of several starts in it the last one that failed or succeeded."""
        flags = _flags(sources.argv, text)
        for lines in reversed(self._starts(text)):
            found = self._of_start(lines, sources.exit_code, flags)
            if found:
                return replace(found, failure=_found_in(source, found.failure))
            if self._is_ready(lines):
                return None
        return None

    def _starts(self, text: str) -> list[list[Line]]:
        """Return the lines of each start: a restarted container continues its log."""
        starts: list[list[Line]] = [[]]
        for line in self._lines(text):
            if self._patterns.match("starts", line.text):
                starts.append([])
            starts[-1].append(line)
        return starts

    def _is_ready(self, lines: list[Line]) -> bool:
        ready = [regex for phase, regex, _ in self._patterns.phases if phase == "ready"]
        return any(regex.search(line.text) for line in lines for regex in ready)

    def _of_start(
        self, lines: list[Line], exit_code: int | None, flags: frozenset[str] | None
    ) -> _Found | None:
        progress = [(index, line.process) for index, line in enumerate(lines) if self._is_progress(line)]
        shutdown = next(
            (index for index, line in enumerate(lines) if self._patterns.match("shutdown", line.text)),
            len(lines),
        )
        candidates = [
            index
            for index, line in enumerate(lines)
            if self._may_be_failure(line) and not _survived(index, line.process, progress)
        ]
        matches = [match for index in candidates for match in self._matches(lines, index, exit_code)]
        if not self._is_ready(lines):
            last = max((index for index, _ in progress), default=-1)
            matches += self._matches_at_any_level(lines, last + 1)
        matches = [match for match in matches if match.index < shutdown or match.pattern.rank <= ROOT]
        wrappers = [match.index for match in matches if match.pattern.rank == WRAPPER]
        best = min(matches, key=lambda match: _order(match, min(wrappers, default=0)), default=None)
        if best is None:
            return None
        if best.pattern.rank < WRAPPER:
            return _Found(best.pattern.rank, _explain(best, lines, flags))
        errors = [
            lines[index].text
            for index in candidates
            if index < shutdown and index not in wrappers and _is_error(lines[index].text)
        ] or [error for match in matches if (error := match.groups.get("error"))]
        if errors:
            return _Found(WRAPPER, self._ending("unknown", errors[-1]))
        if progress or any(line.process and "APIServer" not in line.process for line in lines):
            return _Found(WRAPPER, self._ending("engine-ended-silently", lines[best.index].text))
        return _Found(WRAPPER, _explain(best, lines, flags))

    def _matches(self, lines: list[Line], index: int, exit_code: int | None) -> Iterator[_Match]:
        for pattern in self._patterns.failures:
            if pattern.exit is not None and exit_code not in (None, pattern.exit):
                continue
            match = pattern.regex.search(lines[index].text)
            if match and (pattern.context is None or _is_before(lines, index, pattern.context)):
                yield _Match(pattern, match.groupdict(), index)

    def _matches_at_any_level(self, lines: list[Line], first: int) -> Iterator[_Match]:
        patterns = [pattern for pattern in self._patterns.failures if pattern.any_level]
        for index in range(first, len(lines)):
            for pattern in patterns:
                if match := pattern.regex.search(lines[index].text):
                    yield _Match(pattern, match.groupdict(), index)

    def _of_kernel(self, text: str) -> Failure | None:
        """Return what the kernel's log shows, by its last line of the lowest rank."""
        lines = [line for line in self._lines(text) if not self._patterns.match("harmless", line.text)]
        matches = [
            match
            for index in range(len(lines))
            for match in self._matches(lines, index, None)
            if match.pattern.in_kernel_log
        ]
        best = min(matches, key=lambda match: (match.pattern.rank, -match.index), default=None)
        return _found_in(KERNEL_LOG, _explain(best, lines, None)) if best else None

    def _by_exit(self, sources: Sources, own: _Found | None) -> Failure | None:
        code = sources.exit_code
        line = own.failure.line if own else ""
        if code is not None and code in self._patterns.endings_by_exit:
            found = self._ending(self._patterns.endings_by_exit[code], line)
            return _found_in(ENGINE_LOG if line else "", found)
        if own:
            return own.failure
        if code == 0 and not self.progress_count(sources.log):
            return self._ending("ended-by-itself", "")
        if code:
            meaningful = self.last_meaningful_lines(sources.log, 50)
            errors = [text for text in meaningful if _is_error(text)]
            found = self._ending("unknown", errors[-1] if errors else " | ".join(meaningful[-3:]))
            return _found_in(ENGINE_LOG if found.line else "", found)
        return None

    def _ending(self, name: str, line: str) -> Failure:
        """Return what is known of an end that no pattern explains."""
        entry = self._patterns.endings[name]
        cause = entry["cause"] if line else entry.get("cause_without_error", entry["cause"])
        cause = cause.format_map({"error": _short(line.strip(), _SHORT)})
        return Failure(Diagnostic("", cause, hint=entry["remedy"], code=name), _short(line.strip(), _LONG))


def _order(match: _Match, fatal: int) -> tuple[int, bool, int, int]:
    """Return what sorts matches: root causes first, among them those of the error that ended the engine.

    ``fatal``: line of the first wrapper. Lines before it may be of errors that the engine survived.
    """
    rank = match.pattern.rank
    group = (rank > ROOT) + (rank > VAGUE) + (rank > CONSEQUENCE)
    return group, match.index < fatal, rank, -match.index


def _survived(index: int, process: str, progress: list[tuple[int, str]]) -> bool:
    """Return whether a later line shows progress: for a worker of the same process, else of any process."""
    is_worker = process and "APIServer" not in process
    return any(later > index and (not is_worker or of == process) for later, of in progress)


def _is_before(lines: list[Line], index: int, regex: re.Pattern[str]) -> bool:
    return any(regex.search(line.text) for line in lines[max(0, index - _CONTEXT_LINES) : index])


def _is_error(text: str) -> bool:
    return bool(_ERROR.match(text)) and not _OTHERS_ERROR.match(text)


def _flags(argv: Sequence[str] | None, log_text: str) -> frozenset[str] | None:
    """Return the names of the flags that are set, from argv or the log; None: not known."""
    if argv is not None:
        return frozenset(word[2:].partition("=")[0] for word in argv if word.startswith("--"))
    match = _ARGS_IN_LOG.search(log_text)
    if match is None:
        return None
    names = _NAME_IN_ARGS.findall(match["args"][: log_lines.MAX_LINE])
    return frozenset(name.replace("_", "-") for name in names)


def _explain(match: _Match, lines: list[Line], flags: frozenset[str] | None) -> Failure:
    pattern = match.pattern
    message = lines[match.index].text.strip()
    following = list(_following(lines[match.index + 1 : match.index + 1 + pattern.more]))
    values = {name: _short(value or "", _SHORT) for name, value in match.groups.items()}
    values["more"] = _short(": ".join(following) or message, _SHORT)
    remedies = [remedy for flag, remedy in pattern.remedy_by_flag if flags and flag in flags]
    diagnostic = Diagnostic(
        "",
        _tidy(pattern.cause.format_map(values)),
        hint=_tidy((remedies or [pattern.remedy])[0].format_map(values)),
        code=pattern.id,
    )
    return Failure(
        diagnostic,
        _short(" ".join([message, *following]), _LONG),
        is_consequence=VAGUE < pattern.rank <= CONSEQUENCE,
    )


def _found_in(source: str, failure: Failure) -> Failure:
    """Return the failure with its log as location: ``engine log``, ``kernel log`` or the name of a rank."""
    return replace(failure, diagnostic=replace(failure.diagnostic, location=source))


def _following(lines: list[Line]) -> Iterator[str]:
    """Yield the lines of pydantic's message: field, reason."""
    for line in lines:
        if not line.text.strip() or line.text.strip().startswith("For further information"):
            return
        yield _PYDANTIC_TYPE.sub("", line.text.strip()).removeprefix("Value error, ")
        if _PYDANTIC_TYPE.search(line.text):
            return


def _tidy(text: str) -> str:
    """Return a sentence without what an empty value leaves in it."""
    return re.sub(r" *\(\)| +(?=[,;:.]|$)|(?<= ) +|[:;,]$", "", text).strip()


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 4]} ..."
