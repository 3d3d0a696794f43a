"""The sentence that describes the result of a rollout."""

from __future__ import annotations

from sparkfleet.contract.rollout import (
    FAILED,
    INTERRUPTED,
    PROMOTED,
    REMOVED,
    RESTORED,
    RolloutResult,
    first_start,
    serving_now,
)


def sentence(result: RolloutResult) -> str:
    """Return a result in one sentence."""
    name, cause = result.service, result.cause
    without = f", {result.downtime_s:.1f} s without service" if result.downtime_s else ""
    return {
        PROMOTED: f"{name} serves generation {result.generation}{without}{first_start(result)}",
        RESTORED: f"{name} did not pass: {cause}{first_start(result)}. {serving_now(result)}{without}",
        FAILED: f"{name} did not pass: {cause}{first_start(result)}. {serving_now(result)}",
        REMOVED: f"{name} is removed",
        INTERRUPTED: f"{name}: interrupted before any service stopped; nothing changed",
    }.get(result.outcome, f"{name}: {result.outcome}, nothing was touched: {cause}")
