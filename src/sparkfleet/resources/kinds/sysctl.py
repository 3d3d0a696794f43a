"""Kernel settings: now, and at boot by a file of ours in /etc/sysctl.d."""

from __future__ import annotations

import os

FILE = "/etc/sysctl.d/90-sparkfleet.conf"
DIRECTORIES = ("/usr/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")
"""A file replaces one with the same name in those before."""


def observe(host: ObservedHost, name: str, _: str = "") -> dict[str, str]:
    """Return a setting now, in our file, and in the last file after ours that sets it."""
    text = host.read("/proc/sys/" + name.replace(".", "/"))
    observed = {"now": " ".join((text or "").split()), "at boot": settings_in(host, FILE).get(name, "")}
    later = [path for path in later_files(host) if name in settings_in(host, path)]
    if later:
        observed.update(later=later[-1], set=settings_in(host, later[-1])[name])
    return observed if text is not None else {"is": "no such setting", **observed}


def settings_in(host: ObservedHost, path: str) -> dict[str, str]:
    """Return what a file sets at boot."""
    lines = (host.read(path) or "").splitlines()
    pairs = (line.strip().lstrip("-").partition("=") for line in lines if "=" in line)
    found = {name.strip().replace("/", "."): " ".join(value.split()) for name, _, value in pairs}
    return {name: value for name, value in found.items() if name[:1] not in "#;"}


def later_files(host: ObservedHost) -> list[str]:
    """Return the files of settings that are read after ours, in their order."""
    found = {
        name: folder + "/" + name
        for folder in DIRECTORIES
        if os.path.isdir(host.path(folder))
        for name in os.listdir(host.path(folder))
        if name.endswith(".conf") and not name.startswith(".")
    }
    return [found[name] for name in sorted(found) if name > os.path.basename(FILE)]


# --- Only what is above this line is sent with the probe. ---

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files, validators
from sparkfleet.resources.base import (
    MARK,
    Declaration,
    Fields,
    Host,
    Limits,
    ObservedHost,
    Resource,
    ResourceKind,
    Setting,
    Target,
    conflict,
)

SysctlName = Annotated[str, Limits(r"^[a-z]\w*(\.[\w-]+)+$")]


class Sysctl(ResourceKind):
    """A kernel setting."""

    name = "sysctl"
    order = 50
    settings = (
        Setting(
            "sysctls",
            dict[SysctlName, str | int | None],
            "As vm.swappiness: 10. Set now and, by /etc/sysctl.d/90-sparkfleet.conf, at boot.",
            merged=True,
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return each setting."""
        for name, value, where in declaration.entries("sysctls"):
            text = " ".join(str(value).split())
            yield Resource("sysctl", name, (("now", text), ("at boot", text)), where=where)

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return that the kernel has no such setting, or which file overrides ours at boot."""
        del recorded
        name, declared = resource.key, dict(resource.fields)["now"]
        if live.get("is", ""):
            path = validators.sysctl_path(name)
            return conflict(resource, f"there is no setting {name}", f"a file {path}", "correct the name")
        if live.get("set", declared) == declared:
            return None
        return conflict(
            resource,
            f"{live['later']} sets {name} to {live['set']} at every boot, after our file",
            "no other file that sets it, or the same value",
            f"remove {name} from {live['later']}, or from the declaration",
        )

    def check(self, host: Host, target: Target) -> None:
        """Try the value."""
        validators.check_sysctl(host, target.key, target.fields["now"])

    def apply(self, host: Host, target: Target) -> None:
        """Set it now and at boot."""
        _set(host, target.key, target.fields["now"])
        _write(host, {**settings_in(host, FILE), target.key: target.fields["at boot"]})

    def revert(self, host: Host, entry: Applied, names: tuple[str, ...]) -> None:
        """Restore the value of before, now and at boot."""
        if "now" in names:
            _set(host, entry.key, entry.before["now"])
        if "at boot" in names:
            lines = settings_in(host, FILE)
            _write(host, {name: value for name, value in lines.items() if name != entry.key})


def _set(host: Host, name: str, value: str) -> None:
    Path(host.path(validators.sysctl_path(name))).write_text(f"{value}\n", encoding="utf-8")


def _write(host: Host, lines: Mapping[str, str]) -> None:
    path = Path(host.path(FILE))
    if not lines:
        path.unlink(missing_ok=True)
        return
    text = "".join(f"{name} = {value}\n" for name, value in sorted(lines.items()))
    host_files.write(path, f"{MARK}\n{text}".encode(), 0o644, host_files.ROOT)


KIND = Sysctl()
