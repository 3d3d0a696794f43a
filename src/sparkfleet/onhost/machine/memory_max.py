"""``MemoryMax`` of the units of sparkfleet, whatever an engine, a registry or a hub sends.

An engine is in no unit of sparkfleet. The page cache of a job's files counts, too, and is reclaimed at the
limit.
"""

from __future__ import annotations

SUPERVISOR_MIB, ROLLOUT_MIB, JOB_MIB = 512, 2048, 4096


def memory_max(mib: int) -> str:
    """Return the property of a unit."""
    return f"MemoryMax={mib}M"
