"""Kernel settings, swap, groups, and whether a unit runs."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources import validators
from sparkfleet.onhost.resources.base import RefusedError, Thing, must
from sparkfleet.onhost.resources.files import write
from sparkfleet.onhost.state.units import MARK

COMMENT = "# off by sparkfleet: "
"""Before a line of fstab that is a comment now."""
ROOT = (0, 0)


# kernel settings


def check_sysctl(_: System, thing: Thing) -> None:
    """Refuse a setting that the kernel does not have, or a value that it does not take."""
    validators.try_sysctl(thing.key, thing.want["now"])


def put_sysctl(_: System, thing: Thing) -> None:
    """Set it now and at boot."""
    _set(thing.key, thing.want["now"])
    _write_settings({**resources.sysctl_lines(), thing.key: thing.want["at boot"]})


def back_sysctl(_: System, entry: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    """Set it to the value of before, now and at boot."""
    if "now" in fields:
        _set(entry["key"], entry["before"]["now"])
    if "at boot" in fields:
        lines = resources.sysctl_lines()
        _write_settings({name: value for name, value in lines.items() if name != entry["key"]})


def _set(name: str, value: str) -> None:
    Path(resources.sysctl_path(name)).write_text(f"{value}\n", encoding="utf-8")


def _write_settings(lines: Mapping[str, str]) -> None:
    path = Path(resources.SYSCTL_FILE)
    if not lines:
        path.unlink(missing_ok=True)
        return
    text = "".join(f"{name} = {value}\n" for name, value in sorted(lines.items()))
    write(path, f"{MARK}\n{text}".encode(), 0o644, ROOT)


# swap


def put_swap(system: System, thing: Thing) -> None:
    """No swap now, none at boot."""
    for device in str(thing.live["now"]).split():
        must(system, ("swapoff", device), 600)
    off = set(resources.swap_lines())
    _edit_fstab(lambda line: COMMENT + line if line in off else line)


def back_swap(system: System, entry: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    """Make the comments lines again, and use the swap of before."""
    if "at boot" in fields:
        _edit_fstab(lambda line: line.removeprefix(COMMENT))
    if "now" in fields:
        for device in str(entry["before"]["now"]).split():
            must(system, ("swapon", device))


def _edit_fstab(change: Callable[[str], str]) -> None:
    path = Path(resources.FSTAB)
    if not path.exists():
        return
    text, info = path.read_text(encoding="utf-8"), path.stat()
    new = "\n".join(change(line) for line in text.split("\n"))
    if new != text:
        write(path, new.encode(), stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid))


# groups


def put_group(system: System, thing: Thing) -> None:
    """Make the user a member; who logs in from now on has the group."""
    if "missing" in thing.live:
        raise RefusedError(str(thing.live["missing"]), "a group and a user that are there")
    group, _, user = thing.key.partition(" ")
    must(system, ("gpasswd", "--add", user, group))


def back_group(system: System, entry: Mapping[str, Any], _: tuple[str, ...]) -> None:
    """Take the user out of the group."""
    group, _, user = entry["key"].partition(" ")
    must(system, ("gpasswd", "--delete", user, group))


# units


def put_service(system: System, thing: Thing) -> None:
    """Start or stop a unit, now and at boot."""
    # What is stopped already may be a unit that is not there at all: nothing to be told to systemd.
    _unit(system, thing.key, {name: value for name, value in thing.want.items() if thing.live[name] != value})


def back_service(system: System, entry: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    """Make the unit run, or not, as before."""
    _unit(system, entry["key"], {name: entry["before"][name] for name in fields})


def _unit(system: System, unit: str, want: Mapping[str, str]) -> None:
    if "at boot" in want:
        must(system, ("systemctl", "enable" if want["at boot"] == "enabled" else "disable", "--quiet", unit))
    if "now" in want:
        must(system, ("systemctl", "start" if want["now"] == "active" else "stop", unit), 120)
