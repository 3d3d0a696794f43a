"""Packages from the Spark's own sources: installed with their dependencies, removed with just these."""

from __future__ import annotations


def observe(host: ObservedHost, name: str, _: str = "") -> dict[str, str]:
    """Return whether a package is installed."""
    output = host.output("dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}\\n", name)
    pairs = (line.split()[:2] for line in output.splitlines() if len(line.split()) > 1)
    return {"is": "installed" if any(status[1] == "i" for name, status in pairs) else "absent"}


# --- Only what is above this line is sent with the probe. ---

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from sparkfleet.contract.resources import Applied
from sparkfleet.resources import apt
from sparkfleet.resources.base import (
    Declaration,
    Host,
    Limits,
    ObservedHost,
    Resource,
    ResourceError,
    ResourceKind,
    Setting,
    Target,
)

PackageName = Annotated[str, Limits(r"^[a-z0-9][a-z0-9.+-]+$")]


class Package(ResourceKind):
    """An installed package."""

    name = "package"
    order = 30
    single_field = True
    whole_by = "is"
    settings = (
        Setting("packages", tuple[PackageName, ...], "Installed from the Spark's own package sources."),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return each package."""
        for name, where in declaration.each("packages"):
            yield installed(name, where)

    def check(self, host: Host, target: Target) -> None:
        """Refuse a package that apt does not have, or whose installation would remove another."""
        simulation = apt.simulate(host, "install", target.key)
        if simulation.code:
            apt.change(host, "update", "--quiet")
            simulation = apt.simulate(host, "install", target.key)
        if simulation.code:
            errors = [line for line in simulation.err.splitlines() if line.startswith("E:")] or [
                simulation.text
            ]
            expected = "a package of the Spark's own sources"
            raise ResourceError(
                errors[0].removeprefix("E: "), expected, "correct the name", code="apt-package-unavailable"
            )
        removed = _named("Remv|Purg", simulation.out)
        if removed:
            message = f"apt would remove {', '.join(removed)}"
            raise ResourceError(
                message, "an installation that removes nothing", "install it by hand", code="apt-conflict"
            )

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Return all packages that will be installed: those are ours to remove again."""
        return {"with": _named("Inst", apt.simulate(host, "install", target.key).out)}

    def apply(self, host: Host, target: Target) -> None:
        """Install it, without recommended packages."""
        apt.change(host, "install", target.key)

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Remove it with its dependencies; those that other packages need by now stay."""
        key, dependencies = entry.key, list(entry.before.get("with", ()))
        for names in ([*dependencies, *([] if key in dependencies else [key])], [key]):
            removed = _named("Remv|Purg", apt.simulate(host, "purge", *names).out)
            if set(removed) <= {key, *dependencies}:
                apt.change(host, "purge", *names)
                return
        message = f"other packages need {key} by now"
        hint = f"apt-get remove {key}"
        raise ResourceError(message, "no package that depends on it", hint, code="apt-conflict")

    def split(self, entry: Applied, declared: Sequence[str]) -> list[Applied]:
        """Return the dependencies that are declared by their own name, as entries of their own."""
        dependencies = list(entry.before.get("with", ()))
        own = [name for name in dependencies if f"package {name}" in declared]
        entry.before["with"] = [name for name in dependencies if name not in own]
        return [
            Applied("package", name, "", {"is": "absent", "with": [name]}, {"is": "installed"})
            for name in own
        ]


def installed(name: str, where: str) -> Resource:
    """Return a package as a resource."""
    return Resource("package", name, (("is", "installed"),), where=where)


def _named(actions: str, text: str) -> list[str]:
    return sorted(set(re.findall(rf"^(?:{actions}) (\S+)", text, re.MULTILINE)))


KIND = Package()
