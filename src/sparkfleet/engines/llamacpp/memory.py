"""Memory estimate: the model file and the KV cache of ``--ctx-size`` tokens, which all slots share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparkfleet.engines.base import GIB
from sparkfleet.engines.model_architecture import from_config

CACHE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.0625, "q5_1": 0.75, "q5_0": 0.6875, "q4_1": 0.625,
    "q4_0": 0.5625, "iq4_nl": 0.5625,
}  # fmt: skip
"""Bytes of one element by ``--cache-type-k`` and ``--cache-type-v``: blocks of 32 and their scales."""


@dataclass(frozen=True)
class Estimate:
    """What one llama-server needs, GiB, without its compute buffers (below 1 GiB for most models)."""

    weights_gib: float
    cache_gib: float | None
    """None: not known."""
    context: int
    """Tokens; 0: llama-server chooses what fits."""
    reserve_gib: float
    others_gib: float
    """Memory of the Spark's other engines."""
    total_gib: float

    @property
    def fits(self) -> bool:
        """Return whether what is known fits beside the reserve and the other engines."""
        needed = self.weights_gib + (self.cache_gib or 0.0)
        return needed <= self.total_gib - self.reserve_gib - self.others_gib

    def text(self) -> str:
        """Return the estimate as one line for people."""
        cache = "KV cache unknown" if self.cache_gib is None else f"{self.cache_gib:.1f} KV cache"
        context = f" for {self.context} tokens" if self.context else ", context as it fits"
        beside = f" + {self.others_gib:.1f} other engines" if self.others_gib else ""
        verdict = "does not fit" if not self.fits else "unknown" if self.cache_gib is None else "fits"
        return (
            f"{self.weights_gib:.1f} weights + {cache}{context}{beside}"
            f" + {self.reserve_gib:.1f} reserve of {self.total_gib:.1f} GiB: {verdict}"
        )


def cache_gib(config: Mapping[str, Any], values: Mapping[str, Any], context: int) -> float | None:
    """Return the size of the KV cache; None if the model's dimensions are unknown or of another kind."""
    shape = from_config(config)
    types = [str(values.get(flag) or "f16") for flag in ("--cache-type-k", "--cache-type-v")]
    if shape is None or not context or not all(name in CACHE_BYTES for name in types):
        return None
    if shape.sliding_layers or shape.latent_layers or shape.recurrent_layers:
        return None
    elements = 2 * shape.full_layers * shape.kv_heads * shape.head_dim
    return elements * sum(CACHE_BYTES[name] for name in types) / 2 * context / GIB
