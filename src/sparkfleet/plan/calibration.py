"""An engine's memory as logged at its last start, for the next estimate of the same model and image."""

from __future__ import annotations

from sparkfleet import engines
from sparkfleet.contract.generation import CurrentGeneration
from sparkfleet.desired_state import Service


def measured(service: Service, record: CurrentGeneration | None, total_gib: float) -> object:
    """Return the figures of the generation that a Spark keeps; None when it was another model or image."""
    if record is None:
        return None
    same = (record.model, record.revision, record.runtime) == (
        *(service.weights.repo, service.weights.revision),
        service.runtime,
    )
    log = record.gate_result.memory_log
    if not log or not same or (service.image and service.image.mark not in record.image):
        return None
    engine = engines.get(service.engine)
    return engine.measured(service, record.argv, "\n".join(log), total_gib)
