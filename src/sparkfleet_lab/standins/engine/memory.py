"""vLLM's own three memory checks at start, with the memory that the lab configures. In GiB."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from . import log
from .model import Model, ModelError
from .modes import Settings

GIB = 1024**3
_OVERHEAD_GIB = 1.5
"""Peak activation, buffers outside torch and CUDA graphs, roughly."""


_FAILED = Path("/tmp/lab-memory-moved")  # noqa: S108  (of the container: the count lives as long as it)


@dataclass(frozen=True)
class Pool:
    """The memory for the KV cache."""

    gib: float
    tokens: int
    max_model_len: int

    @property
    def concurrency(self) -> float:
        """Return how many sequences of full length fit."""
        return self.tokens / self.max_model_len


def check_free(args: argparse.Namespace, settings: Settings) -> None:
    """Refuse to start if less memory is free than the engine is configured to use."""
    required = settings.total_gib * args.gpu_memory_utilization
    if settings.free_gib < required:
        raise ModelError(
            f"ValueError: Free memory on device cuda:0 ({settings.free_gib:.2f}/{settings.total_gib:.2f} "
            "GiB) on startup is less than desired GPU memory utilization "
            f"({args.gpu_memory_utilization}, {required:.2f} GiB). Decrease GPU memory "
            "utilization or reduce GPU memory used by other processes."
        )


def measure(settings: Settings) -> None:
    """End like vLLM when memory is freed while it is measured, as often as the mode says."""
    failed = int(_FAILED.read_text()) if _FAILED.is_file() else 0
    if "memory-moves" in settings and failed < settings.value("memory-moves", 0, 1):
        _FAILED.write_text(str(failed + 1))
        before = settings.free_gib - 30
        log.die_in_core(
            f"AssertionError: Error in memory profiling. Initial free memory {before:.2f} GiB, current free "
            f"memory {before + 7:.2f} GiB. This happens when other processes sharing the same container "
            "release GPU memory while vLLM is profiling during initialization. To fix this, ensure "
            "consistent GPU memory allocation or isolate vLLM in its own container."
        )


def pool(model: Model, args: argparse.Namespace, weights_gib: float, length: int, settings: Settings) -> Pool:
    """Return the KV cache's size; refuse like vLLM if one sequence of full length does not fit."""
    gib = settings.total_gib * args.gpu_memory_utilization - weights_gib - _OVERHEAD_GIB
    if args.kv_cache_memory_bytes:
        gib = args.kv_cache_memory_bytes / GIB
    if gib <= 0:
        raise ModelError(
            "ValueError: No available memory for the cache blocks. "
            "Try increasing `gpu_memory_utilization` when initializing the engine."
        )
    per_token = max(1, bytes_per_token(model, args.kv_cache_dtype))
    required_gib = length * per_token / GIB
    if required_gib > gib:
        raise ModelError(
            f"ValueError: To serve at least one request with the model's max seq len ({length}), "
            f"{required_gib:.2f} GiB KV cache is needed, which is larger than the available KV cache memory "
            f"({gib:.2f} GiB). Based on the available memory, the estimated maximum model length is "
            f"{int(gib * GIB / per_token) // 16 * 16}. Try increasing `gpu_memory_utilization` or decreasing "
            "`max_model_len` when initializing the engine."
        )
    return Pool(gib, int(gib * GIB / per_token), length)


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
