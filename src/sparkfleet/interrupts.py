"""Ctrl-C of a run: one handler for every command that has connections.

An exception would not do: Python raises it in whichever greenlet runs, and the threads of paramiko drop
SystemExit. pyinfra's own handler ends with 0.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sparkfleet.exit_codes import Code

SHOW_CURSOR = "\x1b[?25h"


@dataclass
class _Work:
    """What is being done on a host."""

    count: int = 0
    """Of its parts: an operation of the host itself, a copy to another host."""
    phase: str = ""


_working: dict[str, _Work] = {}
_watchers: list[Any] = []
"""Keeps what watches for signals."""


def begin(host: str, phase: str = "") -> None:
    """Name a host in the message until ``end`` was called as often."""
    work = _working.setdefault(host, _Work())
    work.count += 1
    work.phase = work.phase or phase


def end(host: str) -> None:
    """End what ``begin`` began."""
    _working[host].count -= 1
    if not _working[host].count:
        del _working[host]


@contextmanager
def changing(host: str, phase: str = "") -> Iterator[None]:
    """Name a host in the message for as long as it is being changed."""
    begin(host, phase)
    try:
        yield
    finally:
        end(host)


def record(host: str, phase: str) -> None:
    """Record what is being done on a host that is being changed."""
    if host in _working:
        _working[host].phase = phase


def message() -> str:
    """Return which hosts are being changed now, as text."""
    if not _working:
        return "interrupted: no host was being changed"
    working = sorted((host, work.phase) for host, work in _working.items())
    hosts = ", ".join(f"{host} ({phase})" if phase else host for host, phase in working)
    return f"interrupted: what has begun continues on {hosts}; run again to follow it to its end"


def end_on_interrupt() -> None:
    """End the program with its exit code at Ctrl-C, and say what continues on which host."""
    try:
        settings = termios.tcgetattr(0)
    except (OSError, termios.error):
        settings = None

    def stop(*_: object) -> None:
        try:
            if settings:  # a password prompt has switched the echo off
                termios.tcsetattr(0, termios.TCSANOW, settings)
            for stream in (sys.stdout, sys.stderr):
                with suppress(RuntimeError, ValueError, AttributeError):  # it is being written to
                    stream.flush()
            # Not by a stream, which cannot be used while it is being written to.
            os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}\n{message()}\n".encode())
        except (OSError, termios.error):
            pass  # nowhere to write
        finally:
            os._exit(Code.INTERRUPTED)

    signal.signal(signal.SIGINT, stop)


def wake_event_loop() -> None:
    """Have gevent's loop handle a signal at once.

    One that arrives right before the loop waits would be handled with the next event only, seconds later.
    """
    import gevent  # noqa: PLC0415  (only for commands that connect)

    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watcher = gevent.get_hub().loop.io(read, 1, ref=False)
    watcher.start(os.read, read, 64)
    _watchers.append(watcher)
