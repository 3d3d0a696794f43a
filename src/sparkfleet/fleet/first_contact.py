"""The first login to Sparks that no file declares yet: is it reachable, and how much memory has it?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra.api.config import Config
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State, StateStage

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import known_hosts, pyinfra_patches, shell
from sparkfleet.fleet.connection.unreachable import connect_diagnostic
from sparkfleet.fleet.run.fleet_plan import hang_up
from sparkfleet.probe import frame

_COMMAND = "grep MemTotal /proc/meminfo; cat /sys/class/dmi/id/product_name 2>/dev/null || true"
_KIB_PER_GIB = 1 << 20
TIMEOUT_S = 15


@dataclass(frozen=True)
class Contact:
    """What the first login found."""

    name: str
    memory_gib: float | None = None
    """Total memory; None: unknown."""
    product: str = ""
    diagnostic: Diagnostic | None = None
    """Why there was no login."""


def contacts(hosts: Mapping[str, Mapping[str, Any]]) -> list[Contact]:
    """Log in to each host at the same time. ``hosts``: name -> pyinfra's SSH data (``ssh_hostname``, ...)."""
    known_hosts.use()
    pyinfra_patches.remember_connectors()
    pyinfra_patches.decode_any_bytes()
    data = [(name, dict(one)) for name, one in hosts.items()]
    state = State(Inventory((data, {})), Config(CONNECT_TIMEOUT=TIMEOUT_S))
    state.set_stage(StateStage.Connect)
    greenlets = [state.pool.spawn(_contact, host) for host in state.inventory]
    return [greenlet.get() for greenlet in greenlets]


def _contact(host: PyinfraHost) -> Contact:
    try:
        host.connect(raise_exceptions=True)
    except Exception as error:  # noqa: BLE001  (every failure is that host's answer)
        return Contact(host.name, diagnostic=connect_diagnostic(host.name, host.data.dict(), error))
    try:
        nonce = frame.new_nonce()
        command = shlex.join(frame.wrap(nonce, ("/bin/sh", "-c", _COMMAND)))
        _, output = shell.run_shell(host, command, timeout_s=TIMEOUT_S)
        found = frame.find(output.stdout_lines, nonce)
        return _read(host.name, found.text.splitlines() if found else [])
    finally:
        hang_up(host)


def _read(name: str, lines: Sequence[str]) -> Contact:
    memory = next((line.split()[1] for line in lines if line.startswith("MemTotal:")), None)
    product = next((line.strip() for line in lines if line and not line.startswith("MemTotal:")), "")
    return Contact(name, int(memory) / _KIB_PER_GIB if memory else None, product)
