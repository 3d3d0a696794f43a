"""A failed installation of Docker names its cause: a process that uses dpkg, else what apt reports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sparkfleet.fleet.operations import docker_install

HELD = "Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (unattended-upgr)"
ACT: Any = SimpleNamespace(host=SimpleNamespace(name="spark-01"))


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
