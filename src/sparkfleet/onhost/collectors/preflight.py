"""The parts of the probe that only a preflight needs: they take seconds and use the network."""

from __future__ import annotations

import time

from sparkfleet.onhost.collectors import footprints, gpu, profiles, reach, system

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def collect(
    request: dict[str, Any], part: Callable[..., dict[str, Any]], runtimes: list[Any]
) -> dict[str, Any]:
    """Return every part of the preflight; ``part`` turns an exception into that part's error.

    ``runtimes``: their collectors for a preflight, of the runtime that runs containers.
    """
    begin = time.monotonic()
    found = {
        "system": part(system.collect_system),
        "gpu": part(gpu.collect_gpu),
        "load": part(gpu.collect_load),
        "blocks": part(system.collect_blocks),
        "nvidia": part(system.collect_nvidia),
        "engine": part(runtimes[0].collect) if runtimes else None,
        "reach": part(reach.collect_reach, request["urls"]),
        "footprints": part(footprints.collect_footprints, request["programs"], request["directories"]),
        "profiles": part(profiles.collect_profiles),
    }
    return {**found, "clock": part(system.collect_clock, begin)}  # last: it has the duration of the rest
