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
from contextlib import contextmanager

from sparkfleet.exit_codes import Code

SHOW_CURSOR = "\x1b[?25h"
_working: dict[str, str] = {}


@contextmanager
def changing(host: str) -> Iterator[None]:
    """Name a host in the message for as long as it is being changed."""
    _working[host] = ""
    try:
        yield
    finally:
        _working.pop(host, None)


def record(host: str, phase: str) -> None:
    """Record what is being done on a host that is being changed."""
    if host in _working:
        _working[host] = phase


def message() -> str:
    """Return which hosts are being changed now, as text."""
    if not _working:
        return "interrupted: no host was being changed"
    hosts = ", ".join(f"{host} ({phase})" if phase else host for host, phase in sorted(_working.items()))
    return f"interrupted: what has begun continues on {hosts}; run again to follow it to its end"


def end_on_interrupt() -> None:
    """End the program with its exit code at Ctrl-C, and say what continues on which host."""
    try:
        settings = termios.tcgetattr(0)
    except (OSError, termios.error):
        settings = None

    def end(*_: object) -> None:
        try:
            if settings:  # a password prompt has switched the echo off
                termios.tcsetattr(0, termios.TCSANOW, settings)
            sys.stdout.flush()
            sys.stderr.write(f"{SHOW_CURSOR if sys.stderr.isatty() else ''}\n{message()}\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError, termios.error):
            pass  # nowhere to write
        finally:
            os._exit(Code.INTERRUPTED)

    signal.signal(signal.SIGINT, end)
