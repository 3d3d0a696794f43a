"""The GPU as nvidia-smi reports it: slow, so only for a preflight."""

from __future__ import annotations

import re

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def collect_gpu() -> dict[str, Any]:
    """Return name, driver and the driver's newest CUDA; or ``error``, as nvidia-smi prints it."""
    if not basics.which("nvidia-smi"):
        return {"error": "nvidia-smi is not installed"}
    code, out, err = commands.run(
        "nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"
    )
    if code != 0:
        return {"error": commands.last_line(out + err) or "nvidia-smi failed without output"}
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
