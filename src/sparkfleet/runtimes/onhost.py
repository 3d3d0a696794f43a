"""The drivers of the runtimes on this Spark by name, and the units of their daemons. Standard library alone.

The driver of the runtime NAME is ``DRIVER`` in ``runtimes/NAME/onhost/driver.py``.
"""

from __future__ import annotations

from functools import cache

from sparkfleet.runtimes.base import Images, Runtime, RuntimeRefusedError
from sparkfleet.runtimes.docker.onhost import daemon

DAEMON_UNITS = (daemon.UNIT,)
"""systemd units that a service's unit is ordered after."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all runtimes with a driver, sorted; on a Spark as well."""
    from importlib import resources  # noqa: PLC0415  (a plan needs no driver)

    folders = resources.files(__package__ or "").iterdir()
    return tuple(sorted(one.name for one in folders if one.joinpath("onhost/driver.py").is_file()))


@cache
def runtime(name: str) -> Runtime:
    """Return the driver of a runtime; nothing is requested of its daemon yet.

    Raise RuntimeRefusedError for a runtime that these programs do not have.
    """
    import importlib  # noqa: PLC0415  (as above)

    if name not in names():
        raise RuntimeRefusedError(f"these programs do not have the runtime {name}")
    found: Runtime = importlib.import_module(f"{__package__}.{name}.onhost.driver").DRIVER
    return found


def images() -> Images:
    """Return the images of this Spark."""
    from sparkfleet.runtimes.docker.onhost.images import DockerImages  # noqa: PLC0415  (as above)

    return DockerImages()
