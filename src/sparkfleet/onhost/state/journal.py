"""The journal of one rollout, in ``swaps/<id>/``: enough to finish it after a kill, and to report it.

``events.jsonl`` has one JSON object a line. Each has ``n`` (0, 1, 2 ...), ``at`` (unix time), ``kind``:

- ``step``: ``step`` (check, create, stop, start, gate, promote, restore ...) begins; on disk before it does
- ``phase``: progress of the engine's start: ``phase``, ``text``, ``seconds`` since its start
- ``waiting``: no progress for a while: ``text`` is what is waited for, ``seconds``
- ``note``: information: ``text``
- ``result``: the end; the same as ``result.json``
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.onhost.machine import files

BALLAST = 256 * 1024
"""Bytes kept aside for the last steps, for a disk that fills up in between."""


class Journal:
    """One rollout's directory. Events may come from several threads."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        """Open the directory; what was written before is kept and continued."""
        self.directory = directory
        self._now = now
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = read_events(directory)
        self._next = self._events[-1]["n"] + 1 if self._events else 0

    @property
    def request(self) -> RolloutRequest:
        """Return the request."""
        data = files.read_json(self.directory / "request.json")
        if data is None:
            raise FileNotFoundError(self.directory / "request.json")
        return RolloutRequest.from_json(data)

    @property
    def result(self) -> dict[str, Any] | None:
        """Return the result, None while there is none."""
        return files.read_json(self.directory / "result.json")

    @property
    def before(self) -> dict[str, Any]:
        """Return the recorded state of the replaced services; {} before it was recorded."""
        return files.read_json(self.directory / "before.json") or {}

    def keep_before(self, state: dict[str, Any]) -> None:
        """Write the state for a restore, and the ballast."""
        files.write_atomic(self.directory / "ballast", "\0" * BALLAST)
        files.write_json(self.directory / "before.json", state)

    def last(self, step: str) -> dict[str, Any] | None:
        """Return the newest event of that step, None when it never began."""
        for event in reversed(self._events):
            if event.get("step") == step:
                return dict(event)
        return None

    def first(self, step: str) -> dict[str, Any] | None:
        """Return the oldest event of that step, None when it never began."""
        return next((dict(event) for event in self._events if event.get("step") == step), None)

    def count(self, step: str) -> int:
        """Return how often a step began."""
        return sum(event.get("step") == step for event in self._events)

    def step(self, step: str, text: str = "", **data: Any) -> None:
        """Write, synced to disk, that a step begins now."""
        self._append({"kind": "step", "step": step, "text": text, **data}, sync=True)

    def log(self, kind: str, text: str, **data: Any) -> None:
        """Write an event for people. A full disk must not stop a rollout: a failure here is dropped."""
        try:
            self._append({"kind": kind, "text": text, **data}, sync=False)
        except OSError:
            return

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result: the rollout is finished."""
        files.remove(self.directory / "ballast")
        files.write_json(self.directory / "result.json", result)
        self.log("result", result.get("text", ""), **{k: v for k, v in result.items() if k != "text"})

    def _append(self, event: dict[str, Any], *, sync: bool) -> None:
        with self._lock:
            whole = {"n": self._next, "at": round(self._now(), 3), **event}
            line = json.dumps(whole)  # ASCII: no character that some reader takes for the end of a line
            try:
                files.append_line(self.directory / "events.jsonl", line, sync=sync)
            except OSError:
                if not sync:
                    raise
                files.remove(self.directory / "ballast")
                files.append_line(self.directory / "events.jsonl", line, sync=sync)
            self._events.append(whole)
            self._next += 1


def read_events(directory: Path, since: int = 0) -> list[dict[str, Any]]:
    """Return the events from number ``since`` on. A torn line (a kill while writing) is left out."""
    try:
        text = (directory / "events.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    events = []
    for line in text.split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("n"), int) and event["n"] >= since:
            events.append(event)
    return events
