"""The GPU of this Spark, as its driver reports it."""

from __future__ import annotations

from sparkfleet.onhost.machine.system import System

GPU_S = 30.0
"""Seconds for the driver to answer; a driver that hangs takes longer."""
_PROCESSES = ("nvidia-smi", "--query-compute-apps=pid,process_name", "--format=csv,noheader")


def processes(system: System) -> tuple[str, ...] | None:
    """Return pid and name of each process that computes on the GPU; None: the driver does not report them."""
    result = system.run(_PROCESSES, GPU_S)
    if result.code:
        return None
    return tuple(line.strip() for line in result.out.splitlines() if line.strip())
