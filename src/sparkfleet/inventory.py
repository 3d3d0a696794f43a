"""The fleet of an inventory: for ``inventories/<fleet>.py`` (pyinfra), and for every command.

The whole of ``inventories/lab.py``::

    from sparkfleet.inventory import load as _load
    sparks = _load(__file__)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from sparkfleet.catalog.load import Catalog
from sparkfleet.config import load as spec_load
from sparkfleet.config.load import LoadedFleet
from sparkfleet.config.lock_data import Lock
from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import Fleet, Host
from sparkfleet.errors import error_text
from sparkfleet.knowledge import store
from sparkfleet.lock import lockfile
from sparkfleet.suggest import did_you_mean

LOCAL = "@local"
"""``ssh: {hostname: "@local"}``: the Spark that sparkfleet runs on; no SSH is used."""


class Pins(Enum):
    """How fleet.lock is used."""

    REQUIRED = "required"
    """An image or model without an entry is an error."""
    OPTIONAL = "optional"
    """Entries are used; a missing entry or file is no error."""
    IGNORED = "ignored"
    """Images and revisions stay as declared."""


@dataclass
class Loading:
    """How ``load`` reads the inventory for a command of ``sparkfleet``, and the error that ended it."""

    pins: Pins
    error: SparkfleetError | None = None


_loading: Loading | None = None


@contextmanager
def loading(pins: Pins) -> Iterator[Loading]:
    """Have ``load``, which pyinfra calls from the inventory file, use these pins and keep its error."""
    global _loading  # noqa: PLW0603  (pyinfra executes the file and passes nothing to it)
    _loading = Loading(pins)
    try:
        yield _loading
    finally:
        _loading = None


def load_fleet(inventory: Path, *, pins: Pins = Pins.REQUIRED) -> Fleet:
    """Return the fleet of ``inventories/<fleet>.py`` (or of the directory ``inventories/<fleet>``).

    Raise ``SparkfleetError`` with every error of every file.
    """
    loaded = read_fleet(inventory, pins=pins)
    if loaded.diagnostics:
        raise SparkfleetError(*loaded.diagnostics)
    return loaded.fleet


def read_fleet(inventory: Path, *, pins: Pins = Pins.REQUIRED) -> LoadedFleet:
    """Return what the files of a fleet declare, as far as it is valid, and every error of every file."""
    places = spec_load.fleet_paths(inventory)

    def lock() -> Lock | None:
        return None if pins is Pins.IGNORED else lockfile.read(places.lock)

    catalog = partial(Catalog.read, places.recipes)
    return spec_load.read(places, catalog, lock, pins_required=pins is Pins.REQUIRED)


def load(inventory_file: str) -> list[tuple[str, dict[str, Any]]]:
    """Return pyinfra's hosts: ``(name, data)``, with the resolved host under ``data["sparkfleet"]``.

    If the files have errors, print all of them and exit before any host is contacted.
    """
    store.activate()
    try:
        fleet = load_fleet(Path(inventory_file), pins=_loading.pins if _loading else Pins.REQUIRED)
    except SparkfleetError as error:
        if _loading is not None:
            _loading.error = error
            raise SystemExit(1) from None
        print(error_text(error), file=sys.stderr)  # noqa: T201  (pyinfra's logger is not set up yet, and prefixes lines)
        print(f"\nErrors: {len(error.diagnostics)}. No host was contacted.", file=sys.stderr)  # noqa: T201
        # pyinfra shows no traceback of SystemExit.
        raise SystemExit(1) from None
    for warning in fleet.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    return [
        (_pyinfra_name(host), {**dict(host.ssh), "sparkfleet": codec.plain(host)}) for host in fleet.hosts
    ]


def host_names(inventory: Path) -> list[str]:
    """Return the names of a fleet's host files, also of invalid ones; [] if there is no such fleet."""
    try:
        return [path.stem for path in spec_load.host_files(spec_load.fleet_paths(inventory))]
    except SparkfleetError:
        return []


def inventory_missing(path: Path) -> Diagnostic:
    """Return the error of a fleet directory without the file that pyinfra executes."""
    return Diagnostic(
        str(path),
        "the inventory file does not exist",
        "a file with: from sparkfleet.inventory import load; sparks = load(__file__)",
        "create the file, or run `sparkfleet init`",
        code="fleet-unknown",
    )


def unknown_hosts(named: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[Diagnostic]:
    """Return an error for each pattern of an option (option -> patterns) that matches no known host."""
    if not names:
        return []
    expected = f"one of: {', '.join(dict.fromkeys(name for name in names if name != LOCAL))}"
    return [
        Diagnostic(
            f"{option} {pattern}",
            "no host matches",
            expected,
            did_you_mean(pattern, names, ""),
            code="host-unknown",
        )
        for option, patterns in named.items()
        for pattern in patterns
        if not any(fnmatch(name, pattern) for name in names)
    ]


def _pyinfra_name(host: Host) -> str:
    """Return pyinfra's name of the host: ``@local`` for the machine that runs it."""
    return LOCAL if dict(host.ssh).get("ssh_hostname") == LOCAL else host.name
