"""The journal of one rollout or another job: enough to finish it after a kill, and to report it.

Its directory has the request, ``events.jsonl`` (``contract.rollout.Event``, one a line), the state before any
change, and the result. A step is on disk before it begins.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sparkfleet.contract.codec import Document
from sparkfleet.contract.rollout import RESULT, STEP, Event
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System

POLL_S = 0.2
EVENTS = "events.jsonl"
CHANGES = frozenset({"stop", "remove"})
"""Steps from which on a job must reach its end: services are stopped."""
PROMOTE = "promote"
"""A step that must be on disk: a reboot must not revert what it promoted."""
BALLAST = 256 * 1024
"""Bytes reserved for the last steps, for a disk that fills up in between."""

D = TypeVar("D", bound=Document)


class Journal:
    """One job's directory. Events may come from several threads.

    With ``fallback``, a directory in memory, a job that has stopped something continues although its
    directory cannot be written (full, read-only, broken disk): what it writes goes there then.
    """

    def __init__(self, directory: Path, now: Callable[[], float], fallback: Path | None = None) -> None:
        """Open the directory and continue its events. Raise ContractError for one that cannot be read."""
        self.directory = directory
        self.fallback = fallback
        self._now = now
        self._lock = threading.Lock()
        self._events = read_events(directory, fallback=fallback)
        self._next = self._events[-1].n + 1 if self._events else 0

    def request(self, kind: type[D]) -> D:
        """Return the request. Raise ContractError, or FileNotFoundError."""
        path = self.directory / "request.json"
        request = files.read_document(kind, path)
        if request is None:
            raise FileNotFoundError(path)
        return request

    def result(self, kind: type[D]) -> D | None:
        """Return the result, None while there is none. Raise ContractError."""
        return read_result(kind, self.directory, self.fallback)

    def before(self, kind: type[D]) -> D | None:
        """Return the state before any change; None before it was recorded. Raise ContractError."""
        return files.read_document(kind, self.directory / "before.json")

    def keep_before(self, state: Document) -> None:
        """Write the state for a restore, and the ballast."""
        files.write_atomic(self.directory / "ballast", "\0" * BALLAST)
        files.write_document(self.directory / "before.json", state)

    def last(self, step: str) -> Event | None:
        """Return the newest event of that step, None when it never began."""
        return next((event for event in reversed(self._events) if event.step == step), None)

    def first(self, step: str) -> Event | None:
        """Return the oldest event of that step, None when it never began."""
        return next((event for event in self._events if event.step == step), None)

    def last_note(self, phase: str) -> str:
        """Return the text of the newest event of that phase, "" without one."""
        return next((event.text for event in reversed(self._events) if event.phase == phase), "")

    def count(self, step: str) -> int:
        """Return how often a step began."""
        return sum(event.step == step for event in self._events)

    def step(self, step: str, text: str = "", **fields: Any) -> None:
        """Write, synced to disk, that a step begins now."""
        self._append(STEP, sync=True, step=step, text=text, **fields)

    def log(self, kind: str, text: str, **fields: Any) -> None:
        """Write an event for people. A full disk must not stop a job: a failure here is dropped."""
        try:
            self._append(kind, sync=False, text=text, **fields)
        except OSError:
            return

    def finish(self, result: Document) -> None:
        """Write the result: the job is finished."""
        with suppress(OSError):
            files.remove(self.directory / "ballast")
        try:
            files.write_document(self.directory / "result.json", result)
        except OSError as error:
            if self.fallback is None:
                raise
            _warn(f"the result of {self.directory.name} cannot be written: {error}: {result.to_json()}")
            with suppress(OSError):  # then systemd's journal alone has it
                files.write_document(self.fallback / "result.json", result)
        self.log(RESULT, str(getattr(result, "text", "")), result=result.to_json())

    def _append(self, kind: str, *, sync: bool, **fields: Any) -> None:
        with self._lock:
            event = Event(self._next, kind, round(self._now(), 3), **fields)
            line = json.dumps(event.to_json())  # ASCII: no character that some reader takes for a line's end
            try:
                self._write(line, sync=sync)
            except OSError as error:
                if self.fallback is None or event.step == PROMOTE or not self.has_changed:
                    raise
                _warn(f"{self.directory} cannot be written: {error}: {event.step or kind}: {event.text}")
                with suppress(OSError):  # kept in memory: it is needed until the end of this program
                    self.fallback.mkdir(parents=True, exist_ok=True)
                    files.append_line(self.fallback / EVENTS, line, sync=False)
            self._events.append(event)
            self._next += 1

    def _write(self, line: str, *, sync: bool) -> None:
        try:
            files.append_line(self.directory / EVENTS, line, sync=sync)
        except OSError:
            if not sync:
                raise
            files.remove(self.directory / "ballast")
            files.append_line(self.directory / EVENTS, line, sync=sync)

    @property
    def has_changed(self) -> bool:
        """Return whether the job has stopped something: before that, it must not continue unrecorded."""
        return any(event.step in CHANGES for event in self._events)


def _warn(text: str) -> None:
    """Write to stderr, which systemd puts into its journal."""
    sys.stderr.write(f"sparkfleet: {text}\n")


def follow_events(
    system: System,
    directory: Path,
    kind: type[D],
    since: int,
    wait_s: float,
    *,
    stopped: Callable[[], list[Event]],
    fallback: Path | None = None,
) -> list[Event]:
    """Return a job's events from number ``since`` on; wait up to ``wait_s`` seconds for new ones.

    The result is last. It is that of ``result.json`` when its event was lost, by a full disk or a kill.
    Without news these are the events of ``stopped``, which checks whether the job runs. Raise ContractError
    for files that cannot be read.
    """
    deadline = system.monotonic() + wait_s
    while True:
        result = read_result(kind, directory, fallback)
        events = read_events(directory, since, fallback)
        if result is not None and not any(event.kind == RESULT for event in events):
            text = str(getattr(result, "text", ""))
            return [*events, Event(since + len(events), RESULT, text=text, result=result.to_json())]
        if events:
            return events
        if system.monotonic() >= deadline:
            return stopped()
        system.sleep(POLL_S)


def read_result(kind: type[D], directory: Path, fallback: Path | None) -> D | None:
    """Return the result of a job, None while there is none. Raise ContractError."""
    found = files.read_document(kind, directory / "result.json")
    return files.read_document(kind, fallback / "result.json") if found is None and fallback else found


def read_events(directory: Path, since: int = 0, fallback: Path | None = None) -> list[Event]:
    """Return the events from number ``since`` on; a torn line (a kill while writing) is skipped.

    Raise ContractError for an event of another shape, or of a newer version.
    """
    events = _events_of(directory / EVENTS)
    if fallback:
        events = sorted((*events, *_events_of(fallback / EVENTS)), key=lambda event: event.n)
    return [event for event in events if event.n >= since]


def _events_of(path: Path) -> list[Event]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    events = []
    for line in text.split("\n"):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        events.append(Event.from_json(data, str(path)))
    return events
