"""Memory estimate: what an engine needs on a Spark, and whether vLLM's own check at start will pass.

vLLM takes ``--gpu-memory-utilization`` of the whole memory. From that go the weights, the activations of
the largest batch, the CUDA graphs and the runtime; the rest is the KV cache, which must hold at least one
sequence of ``--max-model-len``. All is in GiB. Activations and graphs are known to an interval alone, until
an engine's own log says them (``calibrate``); so what depends on them is an interval, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sparkfleet.engines.base import GIB, TOTAL_GIB
from sparkfleet.engines.model_architecture import DEFAULT_VOCABULARY, ModelArchitecture
from sparkfleet.engines.vllm.schema import Schema

ACTIVATION_MIB_PER_TOKEN = (0.35, 1.0)
"""Per token of ``--max-num-batched-tokens``; measured on GB10: 1.39 GiB at 2048, 5.30 GiB at 8224."""
GRAPHS_GIB = (0.3, 5.0)
RUNTIME_GIB = 1.0
"""CUDA context and libraries."""
LOGIT_BYTES = 12
"""Per sequence and vocabulary entry: three copies in float32."""
MAX_NUM_SEQS = 1024
BATCHED_TOKENS = 8192
"""Defaults of ``vllm serve`` on a GPU of 70 GiB or more."""
SMALL_GPU_GIB = 70
SMALL_MAX_NUM_SEQS, SMALL_BATCHED_TOKENS = 256, 2048
"""The same on a smaller one."""
UTILIZATION = 0.92
OUTSIDE_SHARE = 0.046
"""What an engine takes outside of its share, in the CPU's part of the same memory. Measured once: 5.6 of
121.7 GiB (DeepSeek-v4-Flash-One-DGX-Spark#10). It counts against the reserve, not in the verdict."""

Verdict = Literal["fits", "tight", "does not fit", "unknown"]
"""tight: the intervals decide; unknown: the model's dimensions are unknown."""


@dataclass(frozen=True)
class Interval:
    """Low and high end."""

    low: float
    high: float


@dataclass(frozen=True)
class Settings:
    """The flags that determine an engine's memory."""

    max_model_len: int = 0
    """Tokens; 0: the model's own context."""
    max_num_seqs: int = MAX_NUM_SEQS
    batched_tokens: int = BATCHED_TOKENS
    utilization: float = UTILIZATION
    kv_dtype: str = "auto"
    eager: bool = False
    parallel: int = 1
    """GPUs that share the model: tensor times pipeline parallel."""
    kv_cache_gib: float = 0
    """``--kv-cache-memory-bytes``: size of the KV cache, regardless of utilization; 0: not set."""
    cpu_offload_gib: float = 0
    """``--cpu-offload-gb``: weights that are kept outside of the share, in the same memory."""
    kv_offload_gib: float = 0
    """``--kv-offloading-size``: KV cache that is kept there."""


@dataclass(frozen=True)
class Machine:
    """The memory of one Spark."""

    total_gib: float = TOTAL_GIB
    reserve_gib: float = 12.0
    """Reserved for everything but engines."""
    others_gib: float = 0.0
    """Memory of this Spark's other engines."""
    is_assumed: bool = False
    """The total was neither read nor declared."""


@dataclass(frozen=True)
class Measured:
    """Memory figures from an engine's log (``calibrate``)."""

    weights_gib: float
    overhead_gib: float
    """Activations, graphs and runtime together."""
    flags: Settings
    """What it ran with: the overhead holds as long as batch and graphs are the same."""

    def holds_for(self, flags: Settings) -> bool:
        """Return whether an engine with these flags would have the same overhead."""
        same = ("max_num_seqs", "batched_tokens", "eager", "parallel")
        return all(getattr(self.flags, name) == getattr(flags, name) for name in same)


@dataclass(frozen=True)
class Estimate:
    """The memory of one engine."""

    verdict: Verdict
    budget_gib: float
    """Memory that the engine reserves: it must be available at its start."""
    weights_gib: float
    overhead: Interval
    """Activations, CUDA graphs and runtime."""
    pool: Interval
    """What is left for the KV cache."""
    max_model_len: int
    one_sequence: Interval
    """KV cache of one sequence of max-model-len."""
    all_sequences: Interval
    """The same for max-num-seqs of them. They need not fit at once: the rest waits."""
    sequences: Interval
    """How many sequences of max-model-len fit at once."""
    largest_len: int
    """The largest max-model-len that certainly fits; 0: none or unknown."""
    left_gib: float
    """What is left of the Spark's memory for everything but engines."""
    reserve_gib: float
    total_gib: float
    offloaded_gib: float = 0.0
    """Weights and KV cache outside of the budget: pinned memory of the CPU, which is the same memory."""
    is_assumed: bool = False
    """The total was neither read nor declared."""

    @property
    def leaves_reserve(self) -> bool:
        """Return whether the Spark keeps its reserve."""
        return self.left_gib >= self.reserve_gib

    def text(self) -> str:
        """Return the estimate as one line for people."""
        if self.verdict == "unknown":
            kv = "KV unknown"
        else:
            kv = f"{_span(self.one_sequence)} KV for one {_tokens(self.max_model_len)} sequence"
        offloaded = f"{self.offloaded_gib:.1f} offloaded + " if self.offloaded_gib else ""
        assumed = " (assumed)" if self.is_assumed else ""
        line = (
            f"{self.weights_gib:.1f} weights + {offloaded}{kv} (room for {_span(self.pool)})"
            f" + {self.reserve_gib:.1f} reserve of {self.total_gib:.1f} GiB{assumed}: {self.verdict}"
        )
        if self.verdict in ("tight", "does not fit") and self.largest_len:
            line += f"; max-model-len {self.largest_len} would fit"
        return line if self.leaves_reserve else f"{line}; {self.left_gib:.1f} GiB left, less than the reserve"


def settings(
    values: Mapping[str, Any], schema: Schema | None = None, total_gib: float = TOTAL_GIB
) -> Settings:
    """Return the settings of parsed flags (``argv.parse(...).values``), with the release's own defaults.

    Some depend on the Spark's memory.
    """
    small = total_gib < SMALL_GPU_GIB
    seqs, tokens = (SMALL_MAX_NUM_SEQS, SMALL_BATCHED_TOKENS) if small else (MAX_NUM_SEQS, BATCHED_TOKENS)
    default = schema.flags.get("--gpu-memory-utilization") if schema else None
    fallback = default.default if default is not None else UTILIZATION
    tensor = _number(values.get("--tensor-parallel-size"), 1)
    pipeline = _number(values.get("--pipeline-parallel-size"), 1)
    return Settings(
        max_model_len=max(0, int(_number(values.get("--max-model-len"), 0))),
        max_num_seqs=int(_number(values.get("--max-num-seqs"), seqs)),
        batched_tokens=int(_number(values.get("--max-num-batched-tokens"), tokens)),
        utilization=_number(values.get("--gpu-memory-utilization"), _number(fallback, UTILIZATION)),
        kv_dtype=str(values.get("--kv-cache-dtype", "auto")),
        eager=values.get("--enforce-eager") is True,
        parallel=int(tensor * pipeline),
        kv_cache_gib=_number(values.get("--kv-cache-memory-bytes"), 0) / GIB,
        cpu_offload_gib=_number(values.get("--cpu-offload-gb"), 0),
        kv_offload_gib=_number(values.get("--kv-offloading-size"), 0),
    )


def estimate(
    shape: ModelArchitecture | None,
    weights_bytes: int,
    flags: Settings,
    machine: Machine,
    measured: Measured | None = None,
    *,
    tables_gib: float = 0.0,
) -> Estimate:
    """Return what one engine needs and whether it fits; ``weights_bytes`` are the model's and drafters'.

    ``tables_gib``: of these the tables that are offloaded to the CPU's memory, on this Spark.
    """
    moved = tables_gib + flags.cpu_offload_gib
    weights = measured.weights_gib if measured else max(0.0, weights_bytes / GIB / flags.parallel - moved)
    overhead = _overhead(shape, flags, measured)
    if flags.kv_cache_gib:
        pool = Interval(flags.kv_cache_gib, flags.kv_cache_gib)
        budget = weights + overhead.high + flags.kv_cache_gib
    else:
        budget = flags.utilization * machine.total_gib
        pool = Interval(budget - weights - overhead.high, budget - weights - overhead.low)
    length = flags.max_model_len or (shape.context if shape else 0)
    one = _one_sequence(shape, length, flags)
    offloaded = moved + flags.kv_offload_gib
    left = machine.total_gib - budget - machine.others_gib - offloaded
    return Estimate(
        verdict=_verdict(shape, length, pool, one, left),
        budget_gib=budget,
        weights_gib=weights,
        overhead=overhead,
        pool=pool,
        max_model_len=length,
        one_sequence=one,
        all_sequences=Interval(one.low * flags.max_num_seqs, one.high * flags.max_num_seqs),
        sequences=Interval(_ratio(pool.low, one.high), _ratio(pool.high, one.low)),
        largest_len=_largest(shape, pool.low, flags),
        left_gib=left - OUTSIDE_SHARE * machine.total_gib,
        reserve_gib=machine.reserve_gib,
        total_gib=machine.total_gib,
        offloaded_gib=offloaded,
        is_assumed=machine.is_assumed,
    )


def _overhead(shape: ModelArchitecture | None, flags: Settings, measured: Measured | None) -> Interval:
    if measured is not None and measured.holds_for(flags):
        return Interval(measured.overhead_gib, measured.overhead_gib)
    vocabulary = shape.vocabulary if shape else DEFAULT_VOCABULARY
    logits = flags.max_num_seqs * vocabulary * LOGIT_BYTES / GIB
    low, high = (per_token * flags.batched_tokens / 1024 for per_token in ACTIVATION_MIB_PER_TOKEN)
    graphs = (0.0, 0.0) if flags.eager else GRAPHS_GIB
    return Interval(low + logits + graphs[0] + RUNTIME_GIB, high + logits + graphs[1] + RUNTIME_GIB)


def _one_sequence(shape: ModelArchitecture | None, length: int, flags: Settings) -> Interval:
    """Return one sequence's cache; hybrids may store their state twice (``--mamba-cache-mode align``)."""
    if shape is None:
        return Interval(0, 0)
    shape_args = (flags.kv_dtype, flags.batched_tokens, flags.parallel)
    low = shape.sequence(length, *shape_args)
    high = low + (shape.fixed(shape_args[0], length, *shape_args[1:]) if shape.is_hybrid else 0)
    return Interval(low / GIB, high / GIB)


def _verdict(
    shape: ModelArchitecture | None, length: int, pool: Interval, one: Interval, left: float
) -> Verdict:
    if pool.high <= 0 or left < 0:
        return "does not fit"
    if shape is None or not length:
        return "unknown"
    if pool.low >= one.high:
        return "fits"
    return "tight" if pool.high >= one.low else "does not fit"


def _largest(shape: ModelArchitecture | None, pool_gib: float, flags: Settings) -> int:
    """Return the largest length, in whole 1024 tokens, whose sequence fits into the pool."""
    if shape is None or not shape.context:
        return 0
    low, high = 0, shape.context // 1024
    while low < high:
        middle = (low + high + 1) // 2
        if _one_sequence(shape, middle * 1024, flags).high <= pool_gib:
            low = middle
        else:
            high = middle - 1
    return low * 1024


def _ratio(pool: float, one: float) -> float:
    return max(pool, 0) / one if one else 0


def _number(value: Any, otherwise: float) -> float:
    """Return a number; the default for anything else, which the check reports."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def _span(interval: Interval) -> str:
    low, high = f"{interval.low:.1f}", f"{interval.high:.1f}"
    return low if low == high else f"{low}..{high}"


def _tokens(count: int) -> str:
    return f"{count // 1024}K" if count and count % 1024 == 0 else str(count)
