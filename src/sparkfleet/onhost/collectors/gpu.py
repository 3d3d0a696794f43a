"""The GPU as nvidia-smi reports it: slow, so only for a preflight."""

from __future__ import annotations

import re
import time

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


LOAD = ("utilization.gpu", "power.draw", "clocks.sm")
SAMPLES, PAUSE_S = 3, 1.0
LIKELY_LIMITED = (90, 30)
"""Busy (%) at this power (W) or less: worth further samples."""


def collect_load() -> dict[str, Any]:
    """Return utilization (%), power (W) and clock (MHz) of the GPU: several samples if the power is low."""
    samples: list[dict[str, float | None]] = []
    while len(samples) < SAMPLES:
        time.sleep(PAUSE_S if samples else 0)
        sample = _sample()
        samples.append(sample)
        busy, watts = sample["percent"], sample["watts"]
        if busy is None or watts is None or busy < LIKELY_LIMITED[0] or watts > LIKELY_LIMITED[1]:
            break
    return {"samples": samples}


def _sample() -> dict[str, float | None]:
    argv = ("nvidia-smi", "--query-gpu=" + ",".join(LOAD), "--format=csv,noheader,nounits")
    code, out, err = commands.run(*argv)
    if code != 0:
        raise OSError(commands.last_line(out + err) or "nvidia-smi failed without output")
    columns = out.partition("\n")[0].split(",")
    numbers = [re.match(r"\s*(\d+(?:\.\d+)?)", word) for word in columns]
    values = [float(number[1]) if number else None for number in numbers] + [None] * len(LOAD)
    return dict(zip(("percent", "watts", "mhz"), values, strict=False))
