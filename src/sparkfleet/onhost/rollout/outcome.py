"""The sentence that describes the result of a rollout."""

from __future__ import annotations

from sparkfleet.contract.rollout import FAILED, INTERRUPTED, PROMOTED, REMOVED, RESTORED, RolloutResult


def sentence(result: RolloutResult) -> str:
    """Return a result in one sentence."""
    name, cause, restored = result.service, result.cause, ", ".join(result.serving)
    without = f", {result.downtime_s:.1f} s without service" if result.downtime_s else ""
    return {
        PROMOTED: f"{name} serves generation {result.generation}{without}",
        RESTORED: f"{name} did not pass: {cause}. {restored} serves again{without}",
        FAILED: f"{name} did not pass, and no service is proven to answer now: {cause}",
        REMOVED: f"{name} is removed",
        INTERRUPTED: f"{name}: interrupted before any service stopped; nothing changed",
    }.get(result.outcome, f"{name}: {result.outcome}, nothing was touched: {cause}")
