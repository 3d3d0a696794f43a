"""What an engine said of its memory at its last start, for the next estimate of the same model and image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparkfleet.config.resolved import Service
from sparkfleet.engines.vllm import args, calibrate, memory, schema


def measured(service: Service, kept: Mapping[str, Any], total_gib: float) -> memory.Measured | None:
    """Return the figures of the generation that a Spark keeps; None when it was another model or image."""
    same = (kept.get("model"), kept.get("revision")) == (service.weights.repo, service.weights.revision)
    log = (kept.get("gate_result") or {}).get("memory_log")
    if not log or not same or service.image.mark not in str(kept.get("image")):
        return None
    known = schema.nearest(service.image.vllm)[0]
    flags = memory.settings(args.parse(kept.get("argv", ()), known).values, known)
    return calibrate.measured("\n".join(log), flags, total_gib)
