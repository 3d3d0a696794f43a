"""Bytes and seconds in words that people read."""

from __future__ import annotations


def size(count: int) -> str:
    """Return bytes as ``19.4 GiB``, ``812 MiB`` or ``3 KiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def duration(seconds: float) -> str:
    """Return seconds as ``8 s``, ``6 min`` or ``1 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
