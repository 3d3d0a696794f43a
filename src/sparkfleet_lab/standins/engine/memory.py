"""Would it fit? vLLM's own three checks at start, with the memory that the lab says there is. In GiB."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .model import Model, ModelError
from .modes import Settings

GIB = 1024**3
_OVERHEAD_GIB = 1.5
"""Peak activation, buffers outside torch and CUDA graphs, as a round figure."""


@dataclass(frozen=True)
class Pool:
    """What is left for the KV cache."""

    gib: float
    tokens: int
    max_model_len: int

    @property
    def concurrency(self) -> float:
        """Return how many sequences of full length fit."""
        return self.tokens / self.max_model_len


def check_free(said: argparse.Namespace, settings: Settings) -> None:
    """Refuse to start when less memory is free than shall be used."""
    want = settings.total_gib * said.gpu_memory_utilization
    if settings.free_gib < want:
        raise ModelError(
            f"ValueError: Free memory on device cuda:0 ({settings.free_gib:.2f}/{settings.total_gib:.2f} "
            "GiB) on startup is less than desired GPU memory utilization "
            f"({said.gpu_memory_utilization}, {want:.2f} GiB). Decrease GPU memory "
            "utilization or reduce GPU memory used by other processes."
        )


def pool(model: Model, said: argparse.Namespace, weights_gib: float, length: int, settings: Settings) -> Pool:
    """Return the KV cache's size, or refuse as vLLM does when one sequence of full length does not fit."""
    gib = settings.total_gib * said.gpu_memory_utilization - weights_gib - _OVERHEAD_GIB
    if said.kv_cache_memory_bytes:
        gib = said.kv_cache_memory_bytes / GIB
    if gib <= 0:
        raise ModelError(
            "ValueError: No available memory for the cache blocks. "
            "Try increasing `gpu_memory_utilization` when initializing the engine."
        )
    a_token = max(1, bytes_per_token(model, said.kv_cache_dtype))
    need = length * a_token / GIB
    if need > gib:
        raise ModelError(
            f"ValueError: To serve at least one request with the model's max seq len ({length}), "
            f"{need:.2f} GiB KV cache is needed, which is larger than the available KV cache memory "
            f"({gib:.2f} GiB). Based on the available memory, the estimated maximum model length is "
            f"{int(gib * GIB / a_token) // 16 * 16}. Try increasing `gpu_memory_utilization` or decreasing "
            "`max_model_len` when initializing the engine."
        )
    return Pool(gib, int(gib * GIB / a_token), length)


def bytes_per_token(model: Model, dtype: str) -> int:
    """Return the KV cache's bytes a token: keys and values of the layers whose cache grows."""
    text = model.text
    layers = int(text.get("num_hidden_layers") or 1)
    if kinds := text.get("layer_types"):
        layers = sum(kind == "full_attention" for kind in kinds)
    elif pattern := text.get("hybrid_override_pattern"):
        layers = pattern.count("*")
    heads = int(text.get("num_global_key_value_heads") or text.get("num_key_value_heads") or 1)
    size = int(text.get("global_head_dim") or text.get("head_dim") or 128)
    return 2 * layers * heads * size * (1 if "8" in dtype else 2)
