"""Docker and the NVIDIA container toolkit are installed, where that is declared: the first part of `host`."""

from __future__ import annotations

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, fleet_run
from sparkfleet.plan import docker_install
from sparkfleet.plan.model import Entry, Step

LOG = "/run/sparkfleet-packages.log"
INSTALL_S = 1800
"""Seconds for a download over a slow line, and its installation."""
APT = (
    *("apt-get", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"),
    *("-o", "Dpkg::Options::=--force-confold", "install"),
)
DETACHED = (
    *("systemd-run", "--quiet", "--wait", "--collect", "--setenv=DEBIAN_FRONTEND=noninteractive"),
    *("--setenv=LC_ALL=C.UTF-8", "--setenv=NEEDRESTART_SUSPEND=1"),
    *("/bin/sh", "-c", f'exec "$@" >{LOG} 2>&1', "sh"),
)
"""In a unit of its own: a connection that is lost must not end dpkg half-way."""


def install(act: executor.Acting, entries: tuple[Entry, ...]) -> None:
    """Install the packages of the plan, then look again and show the rest of the plan before it is done."""
    packages = tuple(word for entry in entries for word in docker_install.words(entry.steps(Step.DOCKER)))
    act.tell("docker", f"installs {len(packages)} packages")
    answer = remote.run(act.host, (*DETACHED, *APT, *packages), timeout=INSTALL_S)
    if not answer.ok:
        raise executor.FailedError(_failed(act, remote.run(act.host, ("cat", LOG)).out))
    act.tell("docker", "starts")
    answer = remote.run(act.host, ("systemctl", "restart", "docker.service"))
    if not answer.ok:
        raise executor.FailedError(
            Diagnostic(
                act.host.name,
                f"Docker is installed and does not start: {answer.err.strip()}",
                hint=f"on {act.host.name}: journalctl -u docker; then run again",
            )
        )
    fleet_run.plan_rest(act.host, act.state)


def _failed(act: executor.Acting, log: str) -> Diagnostic:
    said = [line for line in log.splitlines() if line.startswith("E:")] or log.strip().splitlines()[-1:]
    return Diagnostic(
        act.host.name,
        f"apt-get failed: {said[0] if said else 'no message'}",
        "packages that install",
        f"on {act.host.name}: cat {LOG}; sudo apt-get update; then run again",
    )
