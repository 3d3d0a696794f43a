"""The drivers of the runtimes on this Spark by name, and its images. Standard library alone.

The driver of the runtime NAME is ``DRIVER`` in ``runtimes/NAME/onhost/driver.py``. A runtime that runs
containers has ``IMAGES`` in ``runtimes/NAME/onhost/images.py``; there is one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sparkfleet.runtimes.base import Images, Runtime, RuntimeRefusedError


@cache
def names(file: str = "driver.py") -> tuple[str, ...]:
    """Return the names of all runtimes with a driver, or another file on the host, sorted."""
    from importlib import resources  # noqa: PLC0415  (a plan needs no driver)

    folders = resources.files(__package__ or "").iterdir()
    return tuple(sorted(one.name for one in folders if one.joinpath(f"onhost/{file}").is_file()))


@cache
def runtime(name: str) -> Runtime:
    """Return the driver of a runtime; nothing is requested of its daemon yet.

    Raise RuntimeRefusedError for a runtime that these programs do not have.
    """
    if name not in names():
        raise RuntimeRefusedError(f"these programs do not have the runtime {name}")
    found: Runtime = _module(name, "driver").DRIVER
    return found


@cache
def images() -> Images:
    """Return the images of this Spark."""
    found: Images = _module(names("images.py")[0], "images").IMAGES
    return found


def _module(name: str, part: str) -> Any:
    import importlib  # noqa: PLC0415  (as above)

    return importlib.import_module(f"{__package__}.{name}.onhost.{part}")
