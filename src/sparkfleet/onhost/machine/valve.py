"""The ``drop_caches`` valve: drops the page cache before an engine starts, and compacts fragmented memory.

On a Spark the GPU allocates from the same memory, and CUDA counts clean page cache as used: after a copy of
weights an engine would see little free memory although the kernel could free it. The driver also needs large
blocks of free memory: with small ones alone an allocation fails although there is enough in total.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparkfleet.onhost.machine.system import Memory, System

WORTH_MIB = 512
"""Page cache (MiB) below which a flush only costs time."""
LARGE_BLOCK = 16 << 20
"""Bytes of a large block of free memory. A fresh Spark has thousands (FujitsuPolycom/sparkring#173)."""
FRAGMENTED_MIB = 8 << 10
"""With less free memory (MiB) than this, few large blocks are no sign of fragmentation."""
FRAGMENTED_SHARE = 0.05
"""Share of free memory in large blocks below which it counts as fragmented: about 0.4 on a fresh Spark, below
0.01 where starts failed."""


@dataclass(frozen=True)
class Flush:
    """Result of a flush."""

    given_back: int
    """MiB of free memory more than before."""
    text: str


def is_fragmented(memory: Memory) -> bool:
    """Return whether plenty of memory is free, but little of it in large blocks."""
    if memory.large_free is None or memory.free < FRAGMENTED_MIB:
        return False
    return memory.large_free < memory.free * FRAGMENTED_SHARE


def compact(system: System) -> str:
    """Compact fragmented memory; return what was done, "" for nothing to do."""
    before = system.memory()
    if not is_fragmented(before):
        return ""
    refused = system.compact_memory()
    large = system.memory().large_free
    found = f"memory is fragmented: {before.large_free} of {before.free} MiB free in large blocks"
    return f"{found}; {f'not compacted, {refused}' if refused else f'compacted, {large} MiB now'}"


def before_start(system: System, worth_mib: int = WORTH_MIB) -> str:
    """Flush, then compact: compaction takes seconds, and helps only an engine that loads next."""
    return "; ".join(filter(None, (flush(system, worth_mib).text, compact(system))))


def flush(system: System, worth_mib: int = WORTH_MIB) -> Flush:
    """Write dirty pages and drop clean caches when there is something to gain."""
    before = system.memory()
    if before.cache < worth_mib:
        return Flush(0, f"page cache is {before.cache} MiB: nothing to drop")
    refused = system.drop_caches()
    if refused:
        return Flush(0, f"page cache of {before.cache} MiB stays: {refused}")
    after = system.memory()
    gained = max(0, after.free - before.free)
    return Flush(gained, f"dropped the page cache: {gained} MiB, {after.available} MiB available")
