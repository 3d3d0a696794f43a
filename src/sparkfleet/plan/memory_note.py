"""The statement on memory in a plan: will the engine fit, by what is known of model, flags and Spark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparkfleet.plan.model import Change, Sign, Step
from sparkfleet.spec.resolved import Host, Service
from sparkfleet.vllm import argv, memory, schema, shape

MIB_IN_GIB = 1024


def estimate(host: Host, service: Service, total_mib: int) -> memory.Estimate:
    """Return the memory of a service on a Spark of ``total_mib`` MiB, its other services counted in."""
    machine = memory.Machine(
        total_gib=total_mib / MIB_IN_GIB,
        reserve_gib=host.reserve_gib,
        others_gib=sum(_budget(other, total_mib) for other in host.services if other.name != service.name),
    )
    return _alone(service, machine)


def _budget(service: Service, total_mib: int) -> float:
    return _alone(service, memory.Machine(total_gib=total_mib / MIB_IN_GIB)).budget_gib


def _alone(service: Service, machine: memory.Machine) -> memory.Estimate:
    known = schema.nearest(service.image.vllm)[0] if service.image.vllm else None
    words = argv.render(service.weights.repo, dict(service.flags), known)
    config: Mapping[str, Any] = dict(service.weights.config)
    loaded = sum(
        file.size for weights in service.repositories for file in weights.files if _is_weights(file.path)
    )
    settings = memory.settings(argv.parse(words, known).values, known)
    return memory.estimate(shape.from_config(config), loaded, settings, machine)


def _is_weights(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".pt", ".gguf"))


def memory_note(host: Host, service: Service, total_mib: int) -> Change:
    """Return the estimate as a line of the plan: a statement, no change."""
    return Change(Step.SERVICE, Sign.NOTE, "memory", new=estimate(host, service, total_mib).text())
