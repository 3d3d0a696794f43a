"""Somebody who asks an engine again and again, from outside the Spark, and notes each answer."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException

from tests.lab.machine import Machine

EVERY_S = 0.1


@dataclass(frozen=True)
class Call:
    """One request: when it began (unix time), and the model that answered; "" when nobody did."""

    at: float
    model: str


@dataclass
class Caller:
    """Asks a Spark's port 8000 ten times a second until it is stopped."""

    machine: Machine
    calls: list[Call] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        url = f"http://{self.machine.address}:8000/v1/models"
        while not self._over.wait(EVERY_S):
            at = time.time()
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    model = json.load(answer)["data"][0]["id"]
            except (OSError, HTTPException, ValueError):  # an engine that stops may hang up half-way
                model = ""
            self.calls.append(Call(at, model))

    def lost_before(self, moment: float) -> int:
        """Return how many calls that began before a moment nobody answered."""
        return sum(not call.model for call in self.calls if call.at < moment)

    def gap(self, new: str) -> float:
        """Return the seconds between the last answer of another model and the first of this one."""
        first = min(call.at for call in self.calls if call.model == new)
        return first - max(call.at for call in self.calls if call.model and call.at < first)
