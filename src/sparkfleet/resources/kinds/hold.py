"""Installed packages that no upgrade changes (``apt-mark hold``)."""

from __future__ import annotations


def observe(host: ObservedHost, pattern: str, _: str = "") -> dict[str, str]:
    """Return which installed packages of a pattern are held, and which are free to be upgraded."""
    output = host.output("dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}\\n", pattern)
    pairs = (line.split()[:2] for line in output.splitlines() if len(line.split()) > 1)
    found = sorted({(name, status) for name, status in pairs if status[1] == "i"})
    held = " ".join(name for name, status in found if status[0] == "h")
    return {"held": held, "free": " ".join(name for name, status in found if status[0] != "h")}


# --- Only what is above this line is sent with the probe. ---

from collections.abc import Iterator, Sequence
from typing import Annotated

from sparkfleet.contract.resources import Applied
from sparkfleet.resources.base import (
    Declaration,
    Host,
    Limits,
    ObservedHost,
    Resource,
    ResourceKind,
    Setting,
    Target,
    must,
)

PackagePattern = Annotated[str, Limits(r"^[a-z0-9*?][a-z0-9.+*?-]*$")]


class Hold(ResourceKind):
    """Packages of a pattern on hold."""

    name = "hold"
    order = 40
    single_field = True
    empty = "held"
    settings = (
        Setting(
            "hold",
            tuple[PackagePattern, ...],
            "Installed packages that no upgrade changes (apt-mark hold), for example nvidia-driver-*.",
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return each pattern."""
        for pattern, where in declaration.each("hold"):
            yield Resource("hold", pattern, (("free", ""),), where=where)

    def show(self, name: str, value: str) -> str:
        """Return the packages that are free."""
        return f"{value} free" if value and name == "free" else super().show(name, value)

    def apply(self, host: Host, target: Target) -> None:
        """Hold the packages that are free."""
        _mark(host, "hold", str(target.live["free"]).split())

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Free the packages that were free before."""
        _mark(host, "unhold", str(entry.before["free"]).split())


def _mark(host: Host, action: str, names: Sequence[str]) -> None:
    if names:
        must(host, ("apt-mark", action, *names))


KIND = Hold()
