"""A systemd unit that runs or does not, now and at boot: earlyoom."""

from __future__ import annotations


def observe(host: ObservedHost, unit: str, _: str = "") -> dict[str, str]:
    """Return whether a unit runs, and whether it starts at boot."""
    return host.unit(unit)


# --- Only what is above this line is sent with the probe. ---

from collections.abc import Iterator, Mapping
from typing import Literal

from sparkfleet.contract.resources import Applied
from sparkfleet.resources.base import (
    Declaration,
    Fields,
    Host,
    ObservedHost,
    Resource,
    ResourceKind,
    Setting,
    Target,
    must,
)
from sparkfleet.resources.kinds import package


class Service(ResourceKind):
    """The state of a systemd unit."""

    name = "service"
    order = 70
    settings = (
        Setting(
            "earlyoom",
            Literal["leave", "install", "forbid"],
            "install: installed and running; forbid: stopped and not started at boot.",
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return the unit and, where it is to be installed, its package."""
        choice, where = declaration.values.get("earlyoom"), declaration.where("earlyoom")
        if choice in {"install", "forbid"}:
            boot, now = ("enabled", "active") if choice == "install" else ("disabled", "inactive")
            yield Resource("service", "earlyoom.service", (("at boot", boot), ("now", now)), where=where)
        if choice == "install":
            yield package.installed("earlyoom", where)

    def reverted_fields(self, entry: Applied, live: Fields) -> tuple[str, ...]:
        """Return the fields to revert; none of a unit that went with its package."""
        return () if live.get("unit") == "missing" else super().reverted_fields(entry, live)

    def apply(self, host: Host, target: Target) -> None:
        """Start or stop the unit, now and at boot."""
        # A stopped unit may not exist at all, so systemd is not called.
        differ = {name: value for name, value in target.fields.items() if target.live[name] != value}
        _set(host, target.key, differ)

    def revert(self, host: Host, entry: Applied, names: tuple[str, ...]) -> None:
        """Start or stop the unit as before."""
        _set(host, entry.key, {name: entry.before[name] for name in names})


def _set(host: Host, unit: str, fields: Mapping[str, str]) -> None:
    if "at boot" in fields:
        verb = "enable" if fields["at boot"] == "enabled" else "disable"
        must(host, ("systemctl", verb, "--quiet", unit))
    if "now" in fields:
        must(host, ("systemctl", "start" if fields["now"] == "active" else "stop", unit), 120)


KIND = Service()
