"""Installation of Docker and the NVIDIA container toolkit: the first part of `host`."""

from __future__ import annotations

import re

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, fleet_run
from sparkfleet.plan.model import Operation
from sparkfleet.plan.operations import InstallPackages

LOG = "/run/sparkfleet-packages.log"
INSTALL_S = 1800
"""Seconds for a download over a slow line, and its installation."""
LOCK_S = 300
"""Seconds that apt waits for another process that uses dpkg."""
APT = (
    *("apt-get", "--yes", "--no-install-recommends", "-o", f"DPkg::Lock::Timeout={LOCK_S}"),
    *("-o", "Dpkg::Options::=--force-confold", "install"),
)
DETACHED = (
    *("systemd-run", "--quiet", "--wait", "--collect", "--setenv=DEBIAN_FRONTEND=noninteractive"),
    *("--setenv=LC_ALL=C.UTF-8", "--setenv=NEEDRESTART_SUSPEND=1"),
    *("/bin/sh", "-c", f'exec "$@" >{LOG} 2>&1', "sh"),
)
"""A unit of its own: a lost connection must not interrupt dpkg."""


def install(act: executor.RunContext, operations: tuple[Operation, ...]) -> None:
    """Install the packages of the plan, then probe again and show the rest of the plan."""
    installs = (one for one in operations if isinstance(one, InstallPackages))
    packages = tuple(argument for one in installs for argument in one.apt_arguments)
    act.progress("docker", f"installing {len(packages)} packages")
    output = remote.run(act.host, (*DETACHED, *APT, *packages), timeout=INSTALL_S)
    if not output.ok:
        raise executor.FailedError(_failed(act, remote.run(act.host, ("cat", LOG)).out))
    act.progress("docker", "starting")
    output = remote.run(act.host, ("systemctl", "restart", "docker.service"))
    if not output.ok:
        raise executor.FailedError(
            Diagnostic(
                act.host.name,
                f"Docker is installed and does not start: {output.err.strip()}",
                hint=f"on {act.host.name}: journalctl -u docker; then run again",
                code="docker-install-failed",
            )
        )
    fleet_run.plan_rest(act.host, act.state)


LOCK_OWNER = re.compile(r"^E: .*held by process (\d+) \((.+?)\)", re.MULTILINE)
"""As apt names the process that still uses dpkg after LOCK_S; a line about waiting has no E:."""


def _failed(act: executor.RunContext, log: str) -> Diagnostic:
    owner = LOCK_OWNER.search(log)
    if owner:
        return Diagnostic(
            act.host.name,
            f"dpkg is in use by process {owner[1]} ({owner[2]})",
            f"the lock of dpkg within {LOCK_S} s",
            f"on {act.host.name}: wait until it ends (ps -fp {owner[1]}), then run again",
            code="dpkg-locked",
        )
    errors = [line for line in log.splitlines() if line.startswith("E:")] or log.strip().splitlines()[-1:]
    return Diagnostic(
        act.host.name,
        f"apt-get failed: {errors[0] if errors else 'no message'}",
        "packages that install",
        f"on {act.host.name}: cat {LOG}; sudo apt-get update; then run again",
        code="docker-install-failed",
    )
