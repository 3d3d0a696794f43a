"""The least rate of a transfer: a peer that sends a byte a minute would otherwise hold a job for ever.

A timeout of a socket restarts with every byte. So the bytes of a window are counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from time import monotonic
from typing import TypeVar

from sparkfleet.onhost.artifacts.errors import StageError

T = TypeVar("T")

LEAST_RATE = 16 << 10
"""Bytes a second below which a transfer is given up, on average over a window."""
WINDOW_S = 600.0
"""Seconds of a window."""
HUB_CLIENT_WINDOW_S = 3 * 3600.0
"""Seconds of a window of ``hf``, which keeps large parts in memory before it writes them."""
CHECK_S = 1.0
"""Seconds between two checks of a transfer."""
TOO_SLOW = f"at least {LEAST_RATE >> 10} KiB/s are expected"
"""In the message of a transfer that was given up."""
CODE = "transfer-too-slow"


class TooSlowError(Exception):
    """A transfer was given up; the text names the sender, what it sends, and both rates."""


class Pace:
    """Judges one transfer by its bytes. A window begins when the one before had enough of them."""

    def __init__(self, sender: str, subject: str, window_s: float = WINDOW_S) -> None:
        """Begin the first window; ``sender`` and ``subject`` are for people."""
        self._sender, self._subject, self._window_s = sender, subject, window_s
        self.restart(0)

    def restart(self, have: int) -> None:
        """Begin a window: the transfer waits for something else than its sender."""
        self._began, self._had = monotonic(), have

    def check(self, have: int) -> None:
        """Take the number of all bytes that have arrived. Raise TooSlowError after a slow window."""
        seconds, got = monotonic() - self._began, have - self._had
        if got < 0 or (seconds >= self._window_s and got >= LEAST_RATE * self._window_s):
            self.restart(have)
        elif seconds >= self._window_s:
            rate = f"{got} bytes of {self._subject} in {seconds:.0f} s, {got / seconds / 1024:.1f} KiB/s"
            raise TooSlowError(f"{self._sender} sent {rate}; {TOO_SLOW}")


def run(pace: Pace, transfer: Callable[[Callable[[int], None]], T]) -> T:
    """Run a transfer and return its result. Raise TooSlowError when its pace is too slow.

    ``transfer`` calls its argument with the size of each part that arrived. It runs in a thread, because
    names, handshakes and headers may hold it, too; the thread of a transfer that was given up ends with its
    next part, or with the program.
    """
    future: Future[T] = Future()
    have, ended = 0, False

    def arrived(count: int) -> None:
        nonlocal have
        if ended:
            raise TooSlowError("given up")
        have += count

    def work() -> None:
        try:
            future.set_result(transfer(arrived))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while not wait([future], CHECK_S).done:
            pace.check(have)
    finally:
        ended = True
    return future.result(0)


def too_slow(location: str, error: TooSlowError, sender: str, *, source_failed: bool = False) -> StageError:
    """Return the error of a job whose transfer was given up."""
    hint = f"check the network between this Spark and {sender}, then run again; completed data is kept"
    return StageError(location, str(error), hint, code=CODE, source_failed=source_failed)
