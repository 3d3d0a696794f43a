"""Runs a program with a time limit that holds, also for one that SIGKILL does not end.

``subprocess.run`` kills a program at its limit, and then waits for its end without one: a program in
uninterruptible sleep (a GPU driver, a disk, NFS) would hold its caller for ever.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

ENDS_S = 5.0
"""Seconds for a program to end after SIGKILL, before it is left."""
MISSING, NOT_STARTED, TIMED_OUT = 127, 126, 124
"""Exit codes of a program that is not there, that could not be started, and that took too long."""


@dataclass(frozen=True)
class CommandResult:
    """A finished command."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def text(self) -> str:
        """Return its output, stderr first."""
        return (self.err.strip() or self.out.strip()).strip()


def run(argv: Sequence[str], timeout_s: float, *, stdin: str | None = None, **options: Any) -> CommandResult:
    """Run a program to its end, ``timeout_s`` at most. ``options`` are those of ``subprocess.Popen``.

    Never raises: the codes above say why a program has none of its own.
    """
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            **options,
        )
    except FileNotFoundError:
        return CommandResult(MISSING, err=f"{argv[0]}: no such command")
    except (OSError, subprocess.SubprocessError) as error:
        return CommandResult(NOT_STARTED, err=f"{argv[0]}: {getattr(error, 'strerror', None) or error}")
    try:
        out, err = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        abandon(process)
        return CommandResult(TIMED_OUT, err=f"{' '.join(argv)}: no end after {timeout_s:.0f} s")
    except BaseException:
        process.kill()
        raise
    return CommandResult(process.returncode, out, err)


def abandon(process: subprocess.Popen[str]) -> None:
    """Kill a process; do not wait for one that SIGKILL does not end."""
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDS_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with suppress(OSError):  # stdin may have data that nobody reads
                stream.close()
