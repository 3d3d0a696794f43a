"""Lines of a log without what surrounds a message: colours, time stamps, names of processes and ranks, the
prefixes of docker, compose, journald, Ray and NCCL. Standard library alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sparkfleet import engines

MAX_LINE = 3000
"""Characters of a line that are read: a pattern never sees more."""
_KEPT_END = 1000
_MAX_PREFIXES = 10

_COLOUR = re.compile(
    r"(?:\x1b|\^\[|\\x1b|\\033|\\u001b)?\[(?:\d{1,3};){0,4}\d{1,3}m|\x1b\[[\d;?]{0,12}[A-Za-z]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufeff]")
_ENGINES = "|".join(map(re.escape, engines.host_names()))
_LEVEL = r"(?P<level>TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_DATE = r"\d{4}[-/]\d\d[-/]\d\d"
_DAY = r"[A-Z][a-z]{2} [ \d]\d"
_KERNEL_TIME = rf" *\d{{1,9}}\.\d{{3,6}}|[A-Z][a-z]{{2}} {_DAY} {_CLOCK} \d{{4}}"

_PREFIXES = tuple(
    re.compile(prefix)
    for prefix in (
        # Sep 14 08:11:40 spark-01 docker[1234]:      journald, syslog
        rf"<?(?:<\d{{1,3}}>)?{_DAY} {_CLOCK} [\w.-]{{1,64}} [\w@./-]{{1,64}}(?:\[\d+\])?: ?",
        # 2026-09-14T08:11:40.123456789Z  [2026-09-14 08:11:40 TP0]      docker logs -t, SGLang, Python, Ray
        rf"\[?{_DATE}[T ]{_CLOCK} ?(?:Z|UTC|[+-]\d\d:?\d\d)?(?: [A-Z]{{2}}\d+){{0,3}}\]?(?:[ \t]|$)",
        # spark-01 docker[1234]:      after the time of journalctl -o short-iso
        r"[\w.-]{1,64} [\w@./-]{1,64}\[\d+\]: ?",
        r"(?:stdout|stderr) [FP] ",
        r"kernel: ",
        # [ 1234.567890]  [Mon Sep 14 08:11:40 2026]      dmesg, dmesg -T
        rf"(?:<\d{{1,3}}>)?\[(?:{_KERNEL_TIME})\](?:\[ *[TC]\d+\])? ",
        # vllm-head-1  |      docker compose
        r"[A-Za-z0-9][\w.-]{0,63} {0,24}\| ?",
        # (EngineCore_DP0 pid=120)  (RayWorkerWrapper pid=7, ip=10.0.0.2)
        r"\((?=[^()]{0,100}\b(?:pid|ip)=)(?P<process>[^()]{1,100})\) ?",
        # spark-01:71:71 [0] NCCL INFO      NCCL WARN stays: such lines name causes
        r"[\w.-]{1,64}:\d+:\d+ \[\d+\] NCCL (?P<level>INFO|TRACE) ",
        # > quoted      [vLLM]  vLLM STDERR:      launchers
        rf"(?:> ?){{1,3}}(?=\S|$)|(?i:\[(?:{_ENGINES})\] |(?:{_ENGINES}) STD(?:OUT|ERR): )",
        # [rank1]:  [Rank 1]  [default0]:  [1,0]<stderr>:
        r"\[(?:default|[Rr]ank) ?\d+\]:? ?",
        r"\[\d+,\d+\]<std(?:out|err)>: ?",
        # [E1224 13:23:05.483840160 ProcessGroupNCCL.cpp:542]  W0914 08:11:40.123456 1234 foo.cc:12]
        rf"\[?(?P<level>[DIWEF])\d{{4}} {_CLOCK} +(?:\d+ +)?[\w./-]{{1,80}}:\d+\] ?",
        # INFO:      ERROR -  [ERROR]  WARNING:root:  | INFO |      uvicorn, Python's logging
        rf"(?:[-|] ?)?{_LEVEL}(?::[\w.]{{1,60}}:|:| +[-|](?= )| +(?=[\w./]+:\d+ -- ))[ \t]{{0,8}}",
        r"[\w./]{1,80}:\d+ -- ",
        rf"\[{_LEVEL}\](?:[ :\t]|$) ?",
        rf"- [\w.]{{1,80}} - {_LEVEL} - ",
    )
)
_WARNING = re.compile(r"(?:\S{1,300}:\d+: )?(?:[\w.]{1,80}\.)?\w{0,40}Warning: ")
_LOGFMT = re.compile(r'time="?[^" ]{1,40}"? level=(?P<level>[a-z]+) msg="?')
_LEVELS = {
    "T": "DEBUG",
    "D": "DEBUG",
    "I": "INFO",
    "W": "WARNING",
    "E": "ERROR",
    "F": "CRITICAL",
    "TRACE": "DEBUG",
    "NOTICE": "INFO",
    "WARN": "WARNING",
    "FATAL": "CRITICAL",
}


@dataclass(frozen=True)
class Line:
    """One line of a log."""

    text: str
    """The message. Spaces at its start stay: they tell a traceback's frames from its error."""
    level: str = ""
    """DEBUG, INFO, WARNING, ERROR or CRITICAL, the innermost one; "" when the line has none."""
    process: str = ""
    """What the innermost ``(EngineCore_DP0 pid=120)`` says; "" when there is none."""


def lines(log_text: str, engine_prefix: re.Pattern[str]) -> list[Line]:
    """Return the lines of a log. ``engine_prefix``: what the engine's logger writes; group ``level``."""
    return [_line(text, engine_prefix) for text in _split(log_text)]


def plain(line: str) -> str:
    """Return a line without colours, and of one that redraws itself (progress bars) the last state."""
    text = _CONTROL.sub("", _COLOUR.sub("", line.rstrip("\r\n").rpartition("\r")[2])).rstrip()
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - _KEPT_END - 5]} ... {text[-_KEPT_END:]}"


def _split(log_text: str) -> Iterator[str]:
    for line in log_text.replace("\r\n", "\n").split("\n"):
        yield from _of_json_file(line) if line.startswith('{"log":"') else (plain(line),)


def _of_json_file(line: str) -> Iterator[str]:
    """Yield the text of a line of docker's json-file log driver."""
    try:
        texts = str(json.loads(line)["log"]).splitlines()
    except (ValueError, KeyError, TypeError):
        texts = [line]
    yield from map(plain, texts)


def _line(text: str, engine_prefix: re.Pattern[str]) -> Line:
    level = process = ""
    for _ in range(_MAX_PREFIXES):
        match = next(filter(None, (one.match(text) for one in (*_PREFIXES, engine_prefix))), None)
        if match is None or not match.end():
            break
        groups = match.groupdict()
        level = groups.get("level") or level
        process = groups.get("process") or process
        text = text[match.end() :]
    if match := _LOGFMT.match(text):
        level = match["level"].upper()
    elif _WARNING.match(text):
        level = "WARNING"
    return Line(text, _LEVELS.get(level, level), process)
