"""An engine's memory as logged at its last start, for the next estimate of the same model and image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparkfleet import engines
from sparkfleet.config.resolved import Service


def measured(service: Service, record: Mapping[str, Any], total_gib: float) -> object:
    """Return the figures of the generation that a Spark keeps; None when it was another model or image."""
    same = (record.get("model"), record.get("revision")) == (service.weights.repo, service.weights.revision)
    log = (record.get("gate_result") or {}).get("memory_log")
    if not log or not same or service.image.mark not in str(record.get("image")):
        return None
    engine = engines.get(service.engine)
    return engine.measured(service, record.get("argv", ()), "\n".join(log), total_gib)
