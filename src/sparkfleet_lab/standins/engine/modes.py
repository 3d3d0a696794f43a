"""Faults of the stand-in: ``LAB_ENGINE`` has modes, ``mode[:value[:value]]``, separated by commas.

crash-at-start[:CODE]          ends right after its arguments were read
crash-after-load[:CODE]        ends after the weights were loaded
crash-later:SECONDS[:CODE]     ends SECONDS after it was ready; CODE 137: killed
cuda-oom                       out of memory while graphs are captured
nv-illegal-instruction         a kernel for another GPU fails at warm-up
port-taken                     the port is in use
memory-moves[:STARTS]          memory is freed while it is measured, in the first STARTS (1) starts
hangs-loading                  stops at the first shard and never continues
eats-memory                    allocates LAB_ENGINE_EAT_MIB (1024) while loading, 64 MiB a step; never ready
wedged                         /health responds 200, completions never respond
wrong-name                     serves under another name than configured
no-tokens                      answers, but no counter changes
wrong-answer                   answers, but wrongly
empty-answer                   answers with an empty text
only-thinks                    answers in ``reasoning`` alone, like a reasoning model that ran out of tokens
slow-second[:SECONDS]          the second completion takes SECONDS (90)
ignores-sigterm                ignores SIGTERM
spec-none-accepted             drafts tokens, accepts none

``LAB_ENGINE_SLOW=SECONDS`` sets the duration of the start. Each variable may also be in the file
``lab-engine.env`` in ``HF_HOME`` (``NAME=VALUE`` lines), so that a lab can change it without a new container.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODES = frozenset(
    line.split()[0].partition("[")[0].partition(":")[0]
    for line in (__doc__ or "").split("\n\n")[1].splitlines()
)


@dataclass(frozen=True)
class Settings:
    """The lab's settings of this engine."""

    modes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Mode -> its values."""
    start_s: float = 0.5
    eat_mib: int = 1024
    total_gib: float = 119.7
    """Memory that the engine reports: that of a GB10, whatever machine the lab runs on."""
    free_gib: float = 112.0

    def __contains__(self, mode: str) -> bool:
        """Return whether a mode is set."""
        return mode in self.modes

    def value(self, mode: str, index: int, default: float) -> float:
        """Return a mode's numeric value."""
        values = self.modes.get(mode, ())
        return float(values[index]) if len(values) > index else default


def settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; an unknown mode is an error, since a test that sets it would prove nothing."""
    variables = {**_from_file(environ), **environ}
    modes = {}
    for word in filter(None, variables.get("LAB_ENGINE", "").split(",")):
        name, *values = word.strip().split(":")
        if name not in MODES:
            raise SystemExit(f"LAB_ENGINE: no mode {name!r}; there are {', '.join(sorted(MODES))}")
        modes[name] = tuple(values)
    return Settings(
        modes=modes,
        start_s=float(variables.get("LAB_ENGINE_SLOW") or Settings.start_s),
        eat_mib=int(variables.get("LAB_ENGINE_EAT_MIB") or Settings.eat_mib),
        total_gib=float(variables.get("LAB_ENGINE_TOTAL_GIB") or Settings.total_gib),
        free_gib=float(variables.get("LAB_ENGINE_FREE_GIB") or Settings.free_gib),
    )


def _from_file(environ: Mapping[str, str]) -> dict[str, str]:
    path = Path(environ.get("HF_HOME") or "/nowhere") / "lab-engine.env"
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
