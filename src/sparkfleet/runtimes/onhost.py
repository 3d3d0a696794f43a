"""The runtime of this Spark, and the units of its daemon. Standard library alone."""

from __future__ import annotations

from sparkfleet.runtimes.base import Images, Runtime
from sparkfleet.runtimes.docker.onhost import daemon

DAEMON_UNITS = (daemon.UNIT,)
"""systemd units that a service's unit is ordered after."""


def runtime() -> Runtime:
    """Return the driver; nothing is requested of the daemon yet."""
    from sparkfleet.runtimes.docker.onhost.driver import DockerRuntime  # noqa: PLC0415  (a plan needs none)

    return DockerRuntime()


def images() -> Images:
    """Return the images of this Spark."""
    from sparkfleet.runtimes.docker.onhost.images import DockerImages  # noqa: PLC0415  (as above)

    return DockerImages()
