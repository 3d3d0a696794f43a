"""The probe's program: reads the state of a Spark, changes nothing. Standard library, Python 3.10 or later.

It is sent with the command over SSH, so nothing is left on the Spark. Imports are most of its cost: a module
that not every probe needs is imported where it is needed.
"""

PARTS = (
    "sparkfleet.runtimes.errors",
    "basics",
    "commands",
    "machine",
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
"""The modules of every probe, in loading order: each after those that it imports. Those of the runtimes come
before the last one (``OperatorRuntime.collectors``)."""

PREFLIGHT_PARTS = (
    "footprints",
    "gpu",
    "profiles",
    "reach",
    "system",
    "preflight",
)
"""Only for a preflight; loaded before the last of PARTS, like all that follow."""

STORAGE_PARTS = ("storage",)
"""Only for a prune."""
RESOURCE_PARTS = ("resources",)
"""Only where resources are declared or were applied by a run."""
FABRIC_PARTS = ("fabric",)
"""Only for members of a cluster."""
PACKAGE_PARTS = ("packages",)
"""Only where Docker or the NVIDIA container toolkit may be installed."""
