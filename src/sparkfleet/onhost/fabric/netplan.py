"""netplan on this Spark: checks our file, writes it, and has only our links follow it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sparkfleet.contract.fabric import MODE, NETPLAN_FILE
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System, systemctl

NETWORKD = "systemd-networkd.service"


def own_file(system: System) -> Path:
    """Return the path of our file."""
    return system.paths.netplan / NETPLAN_FILE


def own_text(system: System) -> str:
    """Return the text of our file; "" without it."""
    try:
        return own_file(system).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def refusal(system: System, text: str) -> str:
    """Return why netplan rejects our file beside the present ones; "": it does not.

    Runs in a temporary root directory: nothing on the system changes.
    """
    with tempfile.TemporaryDirectory(prefix="sparkfleet-netplan-") as scratch:
        folder = Path(scratch) / "etc/netplan"
        if system.paths.netplan.is_dir():
            shutil.copytree(system.paths.netplan, folder)
        (folder / NETPLAN_FILE).unlink(missing_ok=True)
        if text:
            files.write_atomic(folder / NETPLAN_FILE, text, MODE)
        result = system.run(("netplan", "generate", "--root-dir", scratch))
    return result.text.replace(scratch, "") if result.code else ""


def write(system: System, text: str) -> None:
    """Write our file atomically; "" removes it."""
    if text:
        files.write_atomic(own_file(system), text, MODE)
    else:
        own_file(system).unlink(missing_ok=True)


def activate(system: System, renderer: str, links: Iterable[str], declared: Iterable[str]) -> str:
    """Have ``links`` follow the files; return "" or what failed.

    Not by ``netplan apply``, which takes down everything that it renders, including the management link.
    ``declared``: the links that our file names now.
    """
    steps: list[tuple[str, ...]] = [("netplan", "generate")]
    if renderer == "NetworkManager":
        steps.append(("nmcli", "connection", "reload"))
        steps += [("nmcli", "connection", "up", f"netplan-{link}") for link in declared]
    else:
        if not runs(system):
            steps.append(("systemctl", "start", NETWORKD))
        steps.append(("networkctl", "reload"))
        steps += [("networkctl", "reconfigure", link) for link in links]
    ran = [(argv, system.run(argv)) for argv in steps]
    return next((f"{' '.join(argv)}: {done.text}" for argv, done in ran if done.code), "")


def runs(system: System) -> bool:
    """Return whether networkd runs."""
    return systemctl(system, "is-active", NETWORKD).out.strip() == "active"
