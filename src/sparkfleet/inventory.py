"""The fleet of an inventory: for ``inventories/<fleet>.py`` (pyinfra), and for every command.

The whole of ``inventories/lab.py``::

    from sparkfleet.inventory import load as _load
    sparks = _load(__file__)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sparkfleet.catalog.load import Catalog
from sparkfleet.config import load as spec_load
from sparkfleet.config.locked import Lock
from sparkfleet.config.resolved import Fleet, Host, to_json
from sparkfleet.errors import SparkfleetError
from sparkfleet.lock import lockfile

LOCAL = "@local"
"""``ssh: {hostname: "@local"}``: the Spark that sparkfleet runs on; no SSH is used."""


def load_fleet(inventory: Path, *, need_lock: bool = True) -> Fleet:
    """Return the fleet of ``inventories/<fleet>.py`` (or of the directory ``inventories/<fleet>``).

    Raise ``SparkfleetError`` with every error of every file. Without ``need_lock`` images and revisions stay
    as declared.
    """
    places = spec_load.find(inventory)

    def lock() -> Lock | None:
        return lockfile.read(places.lock) if need_lock else None

    return spec_load.fleet(places, lambda: Catalog.of(places.recipes), lock)


def load(inventory_file: str) -> list[tuple[str, dict[str, Any]]]:
    """Return pyinfra's hosts: ``(name, data)``, with the resolved host under ``data["sparkfleet"]``.

    If the files have errors, print all of them and exit before any host is contacted.
    """
    try:
        fleet = load_fleet(Path(inventory_file))
    except SparkfleetError as error:
        print(error, file=sys.stderr)  # noqa: T201  (pyinfra's logger is not set up yet, and prefixes lines)
        print(f"\nErrors: {len(error.diagnostics)}. No host was contacted.", file=sys.stderr)  # noqa: T201
        # pyinfra shows no traceback of SystemExit.
        raise SystemExit(1) from None
    for warning in fleet.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    return [(_pyinfra_name(host), {**dict(host.ssh), "sparkfleet": to_json(host)}) for host in fleet.hosts]


def _pyinfra_name(host: Host) -> str:
    """Return pyinfra's name of the host: ``@local`` for the machine that runs it."""
    return LOCAL if dict(host.ssh).get("ssh_hostname") == LOCAL else host.name
