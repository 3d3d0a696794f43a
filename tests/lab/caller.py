"""A client that requests an engine continuously, from outside the Spark, and records each response."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException

from tests.lab.machine import Machine

INTERVAL_S = 0.1


@dataclass(frozen=True)
class Call:
    """One request: when it began (unix time), and the model that answered; "" without an answer."""

    at: float
    model: str


@dataclass
class Caller:
    """Sends ten requests a second to a Spark's port 8000 until it is stopped."""

    machine: Machine
    calls: list[Call] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        url = f"http://{self.machine.address}:8000/v1/models"
        while not self._stopped.wait(INTERVAL_S):
            at = time.time()
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    model = json.load(response)["data"][0]["id"]
            except (
                OSError,
                HTTPException,
                ValueError,
            ):  # a stopping engine may close the connection
                model = ""
            self.calls.append(Call(at, model))

    def failures_before(self, moment: float) -> int:
        """Return how many requests that began before a moment had no answer."""
        return sum(not call.model for call in self.calls if call.at < moment)

    def gap(self, new: str) -> float:
        """Return the seconds between the last answer of another model and the first of this one."""
        first = min(call.at for call in self.calls if call.model == new)
        return first - max(call.at for call in self.calls if call.model and call.at < first)
