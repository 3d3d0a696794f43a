"""Applies and repairs the faults of the table, and keeps a list of the active ones."""

from __future__ import annotations

import fcntl
import json
import os
import urllib.request

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab import machines
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.fault import Fault
from sparkfleet_lab.fault_table import FAULTS
from sparkfleet_lab.names import Lab
from sparkfleet_lab.services import wait_for
from sparkfleet_lab.state import State

SERVICES = ("registry", "hub")

_CABLE = r"""
for number in "$@"; do
  name=$(ip -o link | sed -n "s/^$number: \([^@:]*\).*/\1/p")
  ip link set dev "$name" WORD
done
"""


def find_fault(host: str, name: str) -> Fault:
    """Return the fault of that name; an error lists the names for such a host."""
    role = host if host in SERVICES else "spark"
    for fault in FAULTS:
        if fault.name == name and fault.role == role:
            return fault
    names = ", ".join(fault.name for fault in FAULTS if fault.role == role)
    raise SparkfleetError(
        Diagnostic(
            "lab break",
            f"{host} has no fault {name!r}",
            f"one of {names}",
            "sparkfleet lab break --list",
            code="lab-argument-invalid",
        )
    )


def break_host(docker: Docker, lab: Lab, state: State, host: str, name: str) -> Fault:
    """Apply a fault to a machine, the registry or the hub."""
    fault = find_fault(host, name)
    if fault.role == "spark":
        state.machine(host)
    if fault.repair or fault.repair_lab:
        _write(lab, host, [*_read(lab, host), name])
    _apply(docker, lab, state, host, fault.lab, fault.script)
    return fault


def repair_host(docker: Docker, lab: Lab, state: State, host: str) -> list[str]:
    """Repair every fault of a host, the last first; return their names."""
    active_names = _read(lab, host)
    repaired = []
    while active_names:
        fault = find_fault(host, active_names.pop())
        _apply(docker, lab, state, host, fault.repair_lab, fault.repair)
        _write(lab, host, active_names)
        repaired.append(fault.name)
    return repaired


def repair_services(docker: Docker, lab: Lab, state: State) -> None:
    """Repair every fault of registry and hub."""
    for host in SERVICES:
        repair_host(docker, lab, state, host)


def clear(lab: Lab, host: str) -> None:
    """Remove every fault of a host from the list, since the machine is replaced."""
    _write(lab, host, [])


def active(lab: Lab, host: str) -> tuple[str, ...]:
    """Return the active faults of a host."""
    return tuple(_read(lab, host))


def _apply(  # noqa: PLR0917
    docker: Docker, lab: Lab, state: State, host: str, action: str, script: str
) -> None:
    """Run the fault's script on the host, and its action on the lab."""
    container = lab.container(host)
    if script:
        docker.run("exec", container, "sh", "-ec", script)
    match action.split(" ", 1):
        case [""]:
            pass
        case ["power", "off"]:
            docker.run("stop", container)
        case ["power", "on"]:
            docker.run("start", container)
            if host in SERVICES:
                wait_for(lab, state, host)
            else:
                machines.wait_until_up(docker, lab, state.machine(host))
        case ["power", "cycle"]:
            docker.run("restart", container)
        case ["cable", change]:
            _cable(docker, state, container, change)
        case ["hub", fault]:
            _set_hub_fault(state, fault)
        case _:
            raise AssertionError(action)


def _cable(docker: Docker, state: State, container: str, change: str) -> None:
    """Change the fabric's cable: the other ends of both twins, which are links of this computer."""
    names = [line.split()[1] for line in docker.run("exec", container, "cat", "/etc/lab/nics").splitlines()]
    ends = [docker.run("exec", container, "cat", f"/sys/class/net/{name}/iflink").strip() for name in names]
    script = _CABLE.replace("WORD", change)
    docker.run(
        "run", "--rm", "--network", "host", "--cap-add", "NET_ADMIN", state.spark_image,
        "sh", "-ec", script, "sh", *ends,
    )  # fmt: skip


def _set_hub_fault(state: State, fault: str) -> None:
    request = urllib.request.Request(  # noqa: S310  (the lab's own hub)
        f"{state.hub_url}/__lab__/fault", fault.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def _read(lab: Lab, host: str) -> list[str]:
    return _all(lab).get(host, [])


def _all(lab: Lab) -> dict[str, list[str]]:
    path = lab.directory / "faults.json"
    found: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _write(lab: Lab, host: str, names: list[str]) -> None:
    """Record a host's faults; machines may be broken, repaired and replaced side by side."""
    if not names and not lab.directory.is_dir():
        return
    directory = os.open(lab.directory, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        known = _all(lab)
        if known.get(host, []) != names:
            known[host] = names
            remaining = {key: value for key, value in known.items() if value}
            scratch = lab.directory / "faults.json.new"
            scratch.write_text(json.dumps(remaining, indent=2) + "\n")
            scratch.replace(lab.directory / "faults.json")
    finally:
        os.close(directory)
