"""Linux swap: off now, and off at boot by fstab."""

from __future__ import annotations

FSTAB = "/etc/fstab"


def observe(host: ObservedHost, _: str, __: str = "") -> dict[str, str]:
    """Return the swap devices now, and at boot by fstab."""
    now = [line.split()[0] for line in (host.read("/proc/swaps") or "").splitlines()[1:]]
    return {"now": " ".join(now), "at boot": " ".join(line.split()[0] for line in swap_lines(host))}


def swap_lines(host: ObservedHost) -> list[str]:
    """Return the lines of fstab for swap."""
    lines = (host.read(FSTAB) or "").splitlines()
    return [line for line in lines if not line.lstrip().startswith("#") and line.split()[2:3] == ["swap"]]


# --- Only what is above this line is sent with the probe. ---

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files
from sparkfleet.resources.base import (
    Declaration,
    Host,
    ObservedHost,
    Resource,
    ResourceKind,
    Setting,
    Target,
    must,
)

COMMENT = "# off by sparkfleet: "
"""Before a line of fstab that we disabled."""


class LinuxSwap(ResourceKind):
    """Swap of the whole Spark."""

    name = "linux_swap"
    order = 60
    empty = "off"
    settings = (
        Setting(
            "swap",
            Literal["leave", "off"],
            "off: no swap now, and none at boot (lines of fstab become comments).",
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return no swap."""
        if declaration.values.get("swap") == "off":
            fields = (("now", ""), ("at boot", ""))
            yield Resource("linux_swap", "swap", fields, where=declaration.where("swap"))

    def apply(self, host: Host, target: Target) -> None:
        """Turn swap off now and at boot."""
        for device in str(target.live["now"]).split():
            must(host, ("swapoff", device), 600)
        disabled = set(swap_lines(host))
        _edit_fstab(host, lambda line: COMMENT + line if line in disabled else line)

    def revert(self, host: Host, entry: Applied, names: tuple[str, ...]) -> None:
        """Enable the lines of fstab again, and turn the swap of before on."""
        if "at boot" in names:
            _edit_fstab(host, lambda line: line.removeprefix(COMMENT))
        if "now" in names:
            for device in str(entry.before["now"]).split():
                must(host, ("swapon", device))


def _edit_fstab(host: Host, edit: Callable[[str], str]) -> None:
    path = Path(host.path(FSTAB))
    if not path.exists():
        return
    text, info = path.read_text(encoding="utf-8"), path.stat()
    new = "\n".join(edit(line) for line in text.split("\n"))
    if new != text:
        host_files.write(path, new.encode(), stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid))


KIND = LinuxSwap()
