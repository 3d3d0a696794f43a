"""How a model is split over the Sparks of a cluster, against their number and against the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Service

TENSOR, PIPELINE, DATA = "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"
SIZES = (TENSOR, PIPELINE, DATA)
"""Flags over which a model is split; their product is the number of GPUs, one a Spark."""
EXPERTS = "enable-expert-parallel"
"""Spreads experts over the GPUs that there are: it has no size of its own."""
_EXPERT_FIELDS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Where configs say how many experts there are; vLLM looks at the same."""


def gpus(flags: Mapping[str, Any]) -> int:
    """Return the number of GPUs by the flags."""
    return math.prod(_sizes(flags).values())


def diagnostics(service: Service, sparks: int) -> list[Diagnostic]:
    """Return what does not fit: GPUs and Sparks, heads, layers and experts of the locked model."""
    origin, flags = dict(service.origin), dict(service.flags)
    sizes = {name: size for name, size in _sizes(flags).items() if size != 1}

    def where(*names: str) -> str:
        return next((origin[f"flags.{name}"] for name in names), origin["service"])

    config = dict(service.weights.config)
    found = [_sparks(sizes, sparks, where)]
    if config:
        found += [_heads(config, sizes, where), _layers(config, sizes, where)]
        found += [_no_experts(config, where)] if flags.get(EXPERTS) is True else []
    return [one for one in found if one]


_Where = Callable[..., str]


def _sizes(flags: Mapping[str, Any]) -> dict[str, int]:
    values = {name: flags.get(name, 1) for name in SIZES}
    return {name: value if isinstance(value, int) else 1 for name, value in values.items()}


def _sparks(sizes: Mapping[str, int], sparks: int, where: _Where) -> Diagnostic | None:
    gpus = math.prod(sizes.values())
    if gpus == sparks:
        return None
    split = " x ".join(f"{name} {size}" for name, size in sizes.items()) or "no flag of parallelism"
    remedy = f"change the flags, or 'hosts:' ({sparks} Sparks, one GPU each)"
    message = f"{split}: {gpus} GPUs on {sparks} Sparks"
    return Diagnostic(
        where(*sizes), message, "as many as there are Sparks", remedy, code="parallelism-invalid"
    )


def _heads(config: Mapping[str, Any], sizes: Mapping[str, int], where: _Where) -> Diagnostic | None:
    tensor = sizes.get(TENSOR, 1)
    if tensor < 1:
        return None
    heads, shared = _number(config, "num_attention_heads"), _number(config, "num_key_value_heads")
    remedy = f"split by {PIPELINE} instead, or use another number of Sparks"
    if heads % tensor:
        message = f"{TENSOR} {tensor} does not divide the model's {heads} attention heads"
        return Diagnostic(where(TENSOR), message, f"a divisor of {heads}", remedy, code="parallelism-invalid")
    if shared and shared % tensor and tensor % shared:
        message = f"{TENSOR} {tensor} for a model with {shared} heads of keys and values"
        return Diagnostic(
            where(TENSOR),
            message,
            f"a divisor of {shared}, or a multiple",
            remedy,
            code="parallelism-invalid",
        )
    return None


def _layers(config: Mapping[str, Any], sizes: Mapping[str, int], where: _Where) -> Diagnostic | None:
    stages, layers = sizes.get(PIPELINE, 1), _number(config, "num_hidden_layers")
    if not layers or stages <= layers:
        return None
    message = f"{PIPELINE} {stages} for a model of {layers} layers"
    return Diagnostic(
        where(PIPELINE),
        message,
        "a layer or more for each stage",
        "use fewer stages",
        code="parallelism-invalid",
    )


def _no_experts(config: Mapping[str, Any], where: _Where) -> Diagnostic | None:
    if _number(config, *_EXPERT_FIELDS):
        return None
    message = f"{EXPERTS} for a model without experts"
    return Diagnostic(
        where(EXPERTS), message, "a mixture of experts", "remove the flag", code="parallelism-invalid"
    )


def _number(config: Mapping[str, Any], *names: str) -> int:
    """Return the first of these fields that is a number; 0: the config has none of them."""
    inner = config.get("text_config")
    for part in (inner if isinstance(inner, Mapping) else {}, config):
        for name in names:
            value = part.get(name)
            if isinstance(value, list) and value:  # some have one a layer
                value = max((one for one in value if isinstance(one, int)), default=0)
            if isinstance(value, int) and value > 0:
                return value
    return 0
