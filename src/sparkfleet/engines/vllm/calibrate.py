"""Memory figures from the log of a started engine: they replace the intervals of the estimate."""

from __future__ import annotations

import re

from sparkfleet.engines.vllm.memory import Measured, Settings

_WEIGHTS = re.compile(r"Model loading took ([\d.]+) Gi?B")
_POOL = re.compile(r"Available KV cache memory: (-?[\d.]+) GiB")


def measured(log_text: str, flags: Settings, total_gib: float) -> Measured | None:
    """Return the figures from the log of an engine with these flags; None if one is missing.

    ``total_gib`` is the Spark's memory: the engine's share without weights and KV cache is the overhead.
    """
    weights, pool = _WEIGHTS.findall(log_text), _POOL.findall(log_text)
    if not weights or not pool or flags.kv_cache_gib:
        return None
    overhead = flags.utilization * total_gib - float(weights[-1]) - float(pool[-1])
    return Measured(float(weights[-1]), max(0.0, overhead), flags)
