"""The read-only look at a Spark. Runs there (standard library only, Python 3.10 and later) and changes
nothing.

Sent over SSH with the command, so that nothing is left on the Spark. Imports are most of what a probe costs
there: a module that not every probe needs is imported where it is needed.
"""

SHARED = ("sparkfleet.runtimes.errors", "sparkfleet.runtimes.docker.onhost.api")
"""Modules of others that the probe has, too, in the order in which they are loaded before PARTS."""

PARTS = (
    "basics",
    "commands",
    "docker",
    "memory",
    "paths",
    "ports",
    "state",
    "toolkit",
    "units",
    "user",
    "weights",
    "main",
)
"""The modules in the order in which they are loaded there: each after those that it imports."""

PREFLIGHT_PARTS = (
    "engine",
    "footprints",
    "gpu",
    "reach",
    "system",
    "preflight",
)
"""Sent along for a preflight alone, before the last of PARTS: a plan's look stays small and fast."""

STORED_PARTS = ("stored",)
"""Sent along only when all that lies on the disks is asked for."""
ITEMS_PARTS = ("resources",)
"""Sent along where something is declared of the Spark itself, or was put there, before the last of PARTS."""
FABRIC_PARTS = ("fabric",)
"""Sent along to the Sparks of a cluster alone."""
PACKAGE_PARTS = ("packages",)
"""Sent along where Docker may be installed: only a Spark without it, or without the toolkit, asks apt."""
