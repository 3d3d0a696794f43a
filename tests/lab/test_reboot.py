"""A service comes back by itself after a reboot, a new dockerd, a kill; one that cannot is given up."""

from __future__ import annotations

import pytest

from sparkfleet import zipapp
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.converged import Converged, converged
from tests.lab.machine import Machine

UNIT = "sparkfleet-nano.service"
BANNER = "NVIDIA Release"
"""The first words that an engine writes, once a start."""
HELD_BACK = "/home/nvidia/vllm/lab-engine.env"

COMES_BACK = {
    "dockerd is restarted": "systemctl restart docker.service",
    "dockerd is killed": "systemctl kill -s KILL docker.service",
    "the engine is killed": "docker kill nano",
    "the container is stopped by hand": "docker stop nano",
    "the engine's process is killed": "kill -9 $(docker inspect -f '{{.State.Pid}}' nano)",
}
"""What takes the engine away, past its unit."""


@pytest.fixture(scope="module")
def shared(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Converged:
    return converged(lab, lab_state, tmp_path_factory.mktemp("reboot"))


@pytest.fixture
def nano(shared: Converged) -> Converged:
    """A converged Spark that serves nemotron-3-nano, its failures forgotten."""
    shared.spark.sh(f"rm -f {HELD_BACK}; systemctl reset-failed {UNIT}", check=False)
    shared.restore()
    return shared


def test_after_a_reboot_the_same_container_serves_again_by_itself(nano: Converged) -> None:
    container, started = nano.container_id(), nano.started_at()
    nano.spark.reboot()
    wait_until_it_serves(nano.spark, since=started)
    assert nano.container_id() == container
    assert nano.spark.sh(f"systemctl is-active {UNIT}") == "active"
    nano.expect_nothing_to_do()


LONG = {"the container is stopped by hand", "the engine's process is killed"}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(COMES_BACK[name], id=name, marks=[pytest.mark.full] * (name in LONG))
        for name in COMES_BACK
    ],
)
def test_a_service_comes_back_by_itself_when(nano: Converged, command: str) -> None:
    nano.clean = False
    container, started = nano.container_id(), nano.started_at()
    before = restarts(nano.spark)
    nano.spark.sh(command)
    wait_until_it_serves(nano.spark, since=started)
    assert nano.container_id() == container
    assert restarts(nano.spark) == before + ("docker.service" not in command)
    nano.expect_nothing_to_do()


def test_a_killed_supervisor_comes_back_and_the_engine_serves_on(nano: Converged) -> None:
    nano.clean = False
    started = nano.started_at()
    nano.spark.sh(f"systemctl kill -s KILL {UNIT}")
    wait_until(nano.spark, f"[ $(systemctl show -P NRestarts {UNIT}) -gt 0 ]", 60)
    wait_until(nano.spark, f"[ $(systemctl is-active {UNIT}) = active ]", 60)
    assert nano.started_at() == started
    nano.expect_nothing_to_do()


def test_a_supervisor_of_other_programs_is_replaced_by_a_run_while_the_engine_serves(
    nano: Converged,
) -> None:
    nano.clean = False
    spark, started = nano.spark, nano.started_at()
    spark.sh(f"printf old >> {PROGRAM}; systemctl kill -s USR1 {UNIT}; systemctl restart {UNIT}")
    old = spark.sh(f"systemctl show -P MainPID {UNIT}")
    fields = [(field, key) for field, key, *_ in nano.changes()]
    assert fields == [("programs", PROGRAM), ("supervisor", "")]
    nano.fleet.run().expect(0)
    assert spark.sh(f"systemctl show -P MainPID {UNIT}") != old
    assert spark.sh(f"systemctl show -P StatusText {UNIT}").endswith(zipapp.sha256()[:12])
    assert (nano.started_at(), restarts(spark)) == (started, 0)
    nano.expect_nothing_to_do()


def test_a_rollout_whose_request_is_damaged_holds_up_neither_a_run_nor_a_boot(nano: Converged) -> None:
    nano.clean = False
    spark, container = nano.spark, nano.container_id()
    for rollout, reboot in (("broken-1", False), ("broken-2", True)):
        folder = f"/var/lib/sparkfleet/rollouts/{rollout}"
        spark.sh(f"mkdir -p {folder}; echo '[]' > {folder}/request.json")
        started = nano.started_at()
        if reboot:
            spark.reboot()
            wait_until_it_serves(spark, since=started)
        else:
            assert f"{folder}/request.json: found a list" in nano.fleet.run().expect(0).err
        assert '"outcome": "unreadable"' in spark.sh(f"cat {folder}/result.json")
        assert spark.sh(f"cat {folder}/request.json") == "[]"
        assert nano.container_id() == container
        nano.expect_nothing_to_do()


def test_an_engine_that_fails_at_every_start_is_tried_three_times_an_hour_and_the_spark_stays_reachable(
    nano: Converged,
) -> None:
    spark = nano.spark
    nano.clean = False
    spark.sh(f"echo LAB_ENGINE=crash-at-start > {HELD_BACK}")
    before = starts(spark)
    spark.sh("docker kill nano")
    wait_until_given_up(spark)
    assert spark.ok(f"journalctl -u {UNIT} | grep -e 'repeated too quickly' -e 'not started again'")
    assert 1 <= starts(spark) - before <= 3
    for _ in range(2):  # a boot begins systemd's own count anew
        spark.reboot()
        wait_until_given_up(spark)
        assert starts(spark) - before <= 3
        assert spark.ssh("uptime").code == 0
    limits = spark.sh(f"systemctl show -P StartLimitIntervalUSec -P StartLimitBurst {UNIT}").split()
    assert limits == ["1h", "3"]
    assert ("state", "", "exited", "serving") in nano.changes()
    spark.sh(f"rm {HELD_BACK}")
    nano.fleet.run().expect(0)
    assert "nano" in nano.served_names()
    nano.expect_nothing_to_do()


@pytest.mark.full
def test_an_engine_that_serves_and_then_dies_again_and_again_is_given_up_too(nano: Converged) -> None:
    spark = nano.spark
    nano.clean = False
    spark.sh(f"echo LAB_ENGINE=crash-later:6 > {HELD_BACK}")
    before = starts(spark)
    spark.sh("docker kill nano")
    wait_until_given_up(spark)
    assert 1 <= starts(spark) - before <= 3
    assert spark.ssh("uptime").code == 0


def restarts(spark: Machine) -> int:
    """Return how often systemd started the unit anew: not for an engine that its dockerd took away."""
    return int(spark.sh(f"systemctl show -P NRestarts {UNIT}"))


def starts(spark: Machine) -> int:
    """Return how often the engine of the container was started, by its own log."""
    return int(spark.sh(f"docker logs nano 2>&1 | grep -c {BANNER!r}", check=False))


def wait_until_it_serves(spark: Machine, since: str) -> None:
    """Return when the engine serves that was started after ``since``."""
    started = "[ $(docker inspect -f '{{.State.StartedAt}}' nano) != " + since + " ]"
    wait_until(
        spark, f"{started} && curl -sf --max-time 5 http://127.0.0.1:8000/v1/models | grep -q nano", 120
    )


def wait_until_given_up(spark: Machine) -> None:
    wait_until(spark, f"[ $(systemctl is-active {UNIT}) = failed ]", 180)


def wait_until(spark: Machine, condition: str, seconds: int) -> None:
    """Return when a shell condition holds on the machine; fail after so many seconds."""
    loop = f"for i in $(seq {seconds * 2}); do {condition} && exit 0; sleep 0.5; done; exit 1"
    assert spark.ok(loop), f"within {seconds} s not: {condition}\n{spark.evidence()}"
