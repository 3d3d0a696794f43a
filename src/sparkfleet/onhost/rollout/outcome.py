"""Outcomes of a rollout, and the sentence that describes each."""

from __future__ import annotations

from typing import Any

PROMOTED, RESTORED, FAILED = "promoted", "restored", "failed"
REMOVED, INTERRUPTED = "removed", "interrupted"


def sentence(result: dict[str, Any]) -> str:
    """Return a result in one sentence."""
    name, cause, back = result["service"], result.get("cause", ""), ", ".join(result.get("serving", ()))
    down = result.get("downtime_s")
    without = f", {down:.1f} s without service" if down else ""
    return {
        PROMOTED: f"{name} serves generation {result['generation']}{without}",
        RESTORED: f"{name} did not pass: {cause}. {back} serves again{without}",
        FAILED: f"{name} did not pass, and no service is proven to answer now: {cause}",
        REMOVED: f"{name} is removed",
        INTERRUPTED: f"{name}: interrupted before any service stopped; nothing changed",
    }.get(result["outcome"], f"{name}: {result['outcome']}, nothing was touched: {cause}")
