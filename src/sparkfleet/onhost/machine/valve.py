"""The ``drop_caches`` valve: drops the page cache before an engine starts.

On a Spark the GPU allocates from the same memory, and CUDA counts clean page cache as used: after a copy of
weights an engine would see little free memory although the kernel could free it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparkfleet.onhost.machine.system import System

WORTH_MIB = 512
"""Page cache (MiB) below which a flush only costs time."""


@dataclass(frozen=True)
class Flush:
    """Result of a flush."""

    given_back: int
    """MiB of free memory more than before."""
    text: str


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
