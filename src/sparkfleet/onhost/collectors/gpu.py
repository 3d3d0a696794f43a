"""The GPU as its driver tells it. Part of a preflight, never of the look that a plan takes: it is slow."""

from __future__ import annotations

import re

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def look_at_gpu() -> dict[str, Any]:
    """Return name, driver and the newest CUDA of the driver; ``error`` with the driver's own words."""
    if not basics.which("nvidia-smi"):
        return {"error": "nvidia-smi is not there"}
    code, out, err = commands.run(
        "nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"
    )
    if code != 0:
        return {"error": commands.last_line(out + err) or "nvidia-smi failed without a word"}
    fields = [field.strip() for field in out.strip().splitlines()[0].split(",")]
    header = commands.run("nvidia-smi")[1]
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", header)
    return {
        "count": len(out.strip().splitlines()),
        "name": fields[0],
        "driver": fields[1],
        "compute": fields[2],
        "cuda": cuda.group(1) if cuda else "",
    }
