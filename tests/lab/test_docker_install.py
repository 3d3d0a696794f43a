"""A Spark without Docker: unknown with a remedy, or installed and serving after one run if declared."""

from __future__ import annotations

import pytest

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine, difference
from tests.lab.on_host import HostPrograms
from tests.lab.serving_fleet import nano

PACKAGES = ("docker.io", "nvidia-container-toolkit", "tini")
INSTALLED = f"dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {' '.join(PACKAGES)}"


@pytest.mark.provokes("docker-install-failed")
def test_docker_is_installed_if_declared_and_the_same_run_starts_the_service(
    fleet: FleetDirectory, spark: Machine
) -> None:
    spark.ssh("sudo -n true")  # the first sudo of an account writes a file to its home
    spark.break_("docker-removed")
    fleet.host("spark-01", nano())
    fleet.lock()
    checked = fleet.plan().expect(1).out
    assert "unknown: Docker missing: Docker is not installed" in checked
    assert "docker: install" in checked

    fleet.host("spark-01", {**nano(), "prepare": {"docker": "install"}})
    before = spark.files_snapshot()
    plan = fleet.plan().expect(2).out
    assert difference(before, spark.files_snapshot()) == []
    rows = {(field, key) for field, key, _, _ in fleet.changes("spark-01")}
    assert {("package", "docker.io"), ("package", "tini"), ("package", "nvidia-container-toolkit")} <= rows
    assert {field for field, _ in rows} == {"package", "service", "programs", "valve", "unit", "directory"}
    assert "= later       nano" in plan
    assert "create" not in plan  # the containers of that host are still unknown

    spark.sh("mv /srv/lab-apt/tini_*.deb /root/")
    failed = fleet.run(deploy="prepare").expect(1)
    assert "apt-get failed: E: " in failed.err
    assert "sudo apt-get update" in failed.err[failed.err.index("spark-01   FAILED") :]
    assert not spark.ok("command -v docker || test -e /usr/local/bin/spark-valve")
    spark.sh("mv /root/tini_*.deb /srv/lab-apt/")

    run = fleet.run().expect(0)
    first, rest = run.out.split("remaining plan:")
    assert "+ package     docker.io" in first
    assert "+ flag" not in first
    assert "+ flag" in rest
    assert "+ package" not in rest
    assert HostPrograms(spark).serves()
    assert spark.sh(INSTALLED).splitlines() == [f"{name} installed" for name in PACKAGES]
    assert fleet.plan().expect(0).out == "spark-01   no changes\n0 to change, 1 unchanged\n"

    fleet.host("spark-01", nano())  # no longer declared: the packages stay installed
    fleet.plan().expect(0)
