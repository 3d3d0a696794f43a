"""Bytes and seconds as text for people."""

from __future__ import annotations

from datetime import UTC, datetime

STEP = MIB_IN_GIB = 1024
SMALL = 90
"""Below this count, the smaller unit is used: 75 s, not 1 min."""
HOUR, DAY = 3600, 86400


def size(count: int) -> str:
    """Return bytes as ``19.4 GiB``, ``812 MiB`` or ``3 KiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < STEP:
            return f"{value:.0f} {unit}"
        value /= STEP
    return f"{value:.1f} GiB"


def duration(seconds: float) -> str:
    """Return seconds as ``8 s``, ``6 min`` or ``1 h 10 min``."""
    if seconds < SMALL:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < SMALL else f"{minutes // 60} h {minutes % 60} min"


def age(seconds: float) -> str:
    """Return a time that has passed in its largest unit: ``40 s``, ``12 min``, ``2 h``, ``3 days``."""
    if seconds < HOUR:
        return duration(max(0.0, seconds))
    if seconds < 2 * DAY:
        return f"{seconds // HOUR:.0f} h"
    return f"{seconds // DAY:.0f} days"


def moment(at: float) -> str:
    """Return a Unix time for people, in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
