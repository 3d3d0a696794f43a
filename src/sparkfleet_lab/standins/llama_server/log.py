"""Log lines in the format of llama.cpp: time since the start, level, text."""

from __future__ import annotations

import sys
import time

_STARTED = time.monotonic()


def line(text: str, level: str = "I") -> None:
    """Write one line to stderr; level is I, W or E."""
    micro = int((time.monotonic() - _STARTED) * 1e6)
    minutes, rest = divmod(micro, 60_000_000)
    stamp = f"{minutes}.{rest // 1_000_000:02}.{rest // 1000 % 1000:03}.{rest % 1000:03}"
    sys.stderr.write(f"{stamp} {level} {text}\n")
    sys.stderr.flush()


def srv(function: str, text: str, level: str = "I") -> None:
    """Write one line of the server."""
    line(f"srv  {function[:12]:>12}: {text}", level)


def common(function: str, text: str, level: str = "I") -> None:
    """Write one line of the code that llama.cpp's programs share."""
    line(f"cmn  {function[:12]:>12}: {text}", level)


def slot(function: str, task: int, text: str) -> None:
    """Write one line of the slot that works on a request."""
    line(f"slot {function[:12]:>12}: id  3 | task {task} | {text}")
