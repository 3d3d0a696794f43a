"""The parts of a look that only a preflight takes: they cost seconds, and ask the network."""

from __future__ import annotations

import time

from sparkfleet.onhost.collectors import engine, footprints, gpu, reach, system

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def look(request: dict[str, Any], part: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Return every part of the preflight; ``part`` turns what fails into that part's error."""
    begin = time.monotonic()
    found = {
        "system": part(system.look_at_system),
        "gpu": part(gpu.look_at_gpu),
        "engine": part(engine.look_at_engine),
        "reach": part(reach.look_at_reach, request["urls"]),
        "footprints": part(footprints.look_at_footprints, request["programs"], request["directories"]),
    }
    return {**found, "clock": part(system.look_at_clock, begin)}  # last: it tells how long the rest took
