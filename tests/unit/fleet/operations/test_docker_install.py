"""A failed installation of Docker names its cause: a process that uses dpkg, else what apt reports."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.operations import docker_install
from sparkfleet.fleet.run import executor
from sparkfleet.plan.operations import InstallPackages, PackageChange
from tests.unit.fleet.sparks import Sparks

HELD = "Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (unattended-upgr)"
ACT: Any = SimpleNamespace(host=SimpleNamespace(name="spark-01"))
INSTALL = InstallPackages((PackageChange("docker.io", "", "27.1"),), restart=False)
APT_LOG = "Reading package lists...\nE: Unable to fetch some archives\nE: more\n"


def failure(monkeypatch: pytest.MonkeyPatch, failing: str, err: str) -> tuple[Diagnostic, list[list[str]]]:
    """Return why the installation failed, and the commands; those with ``failing`` in them fail."""
    ran: list[list[str]] = []

    def run(_: Any, argv: Sequence[str], **__: Any) -> remote.CommandOutput:
        ran.append(list(argv))
        if argv[0] == "cat":
            return remote.CommandOutput(True, APT_LOG, "")
        return remote.CommandOutput(False, "", err) if failing in argv else remote.CommandOutput(True, "", "")

    monkeypatch.setattr(remote, "run", run)
    with pytest.raises(executor.FailedError) as failed:
        docker_install.install(Sparks({"spark-01": Host("spark-01")}).act("spark-01"), (INSTALL,))
    (diagnostic,) = failed.value.diagnostics
    return diagnostic, ran


@pytest.mark.provokes("docker-install-failed")
def test_a_failed_installation_shows_apts_first_error_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diagnostic, ran = failure(monkeypatch, "apt-get", "")
    assert diagnostic.message == "apt-get failed: E: Unable to fetch some archives"
    assert diagnostic.code == "docker-install-failed"
    assert docker_install.LOG in diagnostic.hint
    assert ran[0][-1] == "docker.io=27.1"
    assert not any("systemctl" in argv for argv in ran)


@pytest.mark.provokes("docker-install-failed")
def test_a_docker_that_does_not_start_after_its_installation_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diagnostic, _ = failure(monkeypatch, "docker.service", "Job for docker.service failed\n")
    assert diagnostic.message == "Docker is installed and does not start: Job for docker.service failed"
    assert diagnostic.hint == "on spark-01: journalctl -u docker; then run again"


def test_a_process_that_uses_dpkg_for_too_long_is_named() -> None:
    log = f"Waiting for cache lock: {HELD}...\nE: {HELD}\nE: Unable to acquire the dpkg frontend lock\n"
    found = docker_install._failed(ACT, log)
    assert found.code == "dpkg-locked"
    assert "process 4711 (unattended-upgr)" in found.message
    assert "ps -fp 4711" in found.hint


def test_a_process_that_ended_while_apt_waited_is_not_the_cause() -> None:
    log = f"Waiting for cache lock: {HELD}...\nE: Unable to fetch some archives\n"
    found = docker_install._failed(ACT, log)
    assert found.code == "docker-install-failed"
    assert "Unable to fetch some archives" in found.message
