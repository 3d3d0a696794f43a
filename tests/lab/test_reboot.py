"""A service restarts after a reboot, a restart of dockerd and a kill; one that keeps failing is given up."""

from __future__ import annotations

import pytest

from sparkfleet import zipapp
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.machine import Machine
from tests.lab.shared_spark import SharedSpark, converge_spark

UNIT = "sparkfleet-nano.service"
BANNER = "NVIDIA Release"
"""What an engine prints first, once per start."""
ENGINE_FAULT = "/home/nvidia/vllm/lab-engine.env"

INTERRUPTIONS = {
    "dockerd is restarted": "systemctl restart docker.service",
    "dockerd is killed": "systemctl kill -s KILL docker.service",
    "the engine is killed": "docker kill nano",
    "the container is stopped by hand": "docker stop nano",
    "the engine's process is killed": "kill -9 $(docker inspect -f '{{.State.Pid}}' nano)",
}
"""Events that stop the engine without its unit."""


@pytest.fixture(scope="module")
def shared_spark(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> SharedSpark:
    return converge_spark(lab, lab_state, tmp_path_factory.mktemp("reboot"))


@pytest.fixture
def nano(shared_spark: SharedSpark) -> SharedSpark:
    """A converged Spark that serves nemotron-3-nano, with its failure count reset."""
    shared_spark.spark.sh(f"rm -f {ENGINE_FAULT}; systemctl reset-failed {UNIT}", check=False)
    shared_spark.restore()
    return shared_spark


def test_after_a_reboot_the_same_container_serves_again(nano: SharedSpark) -> None:
    container, started = nano.container_id(), nano.started_at()
    nano.spark.reboot()
    wait_until_it_serves(nano.spark, since=started)
    assert nano.container_id() == container
    assert nano.spark.sh(f"systemctl is-active {UNIT}") == "active"
    nano.expect_empty_plan()


SLOW = {"the container is stopped by hand", "the engine's process is killed"}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(INTERRUPTIONS[name], id=name, marks=[pytest.mark.full] * (name in SLOW))
        for name in INTERRUPTIONS
    ],
)
def test_a_service_restarts_without_help_when(nano: SharedSpark, command: str) -> None:
    nano.clean = False
    container, started = nano.container_id(), nano.started_at()
    before = restarts(nano.spark)
    nano.spark.sh(command)
    wait_until_it_serves(nano.spark, since=started)
    assert nano.container_id() == container
    assert restarts(nano.spark) == before + ("docker.service" not in command)
    nano.expect_empty_plan()


def test_a_killed_supervisor_restarts_while_the_engine_serves(nano: SharedSpark) -> None:
    nano.clean = False
    started = nano.started_at()
    nano.spark.sh(f"systemctl kill -s KILL {UNIT}")
    wait_until(nano.spark, f"[ $(systemctl show -P NRestarts {UNIT}) -gt 0 ]", 60)
    wait_until(nano.spark, f"[ $(systemctl is-active {UNIT}) = active ]", 60)
    assert nano.started_at() == started
    nano.expect_empty_plan()


def test_an_outdated_supervisor_is_replaced_by_a_run_while_the_engine_serves(
    nano: SharedSpark,
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
    nano.expect_empty_plan()


def test_a_rollout_whose_request_is_damaged_blocks_neither_a_run_nor_a_boot(nano: SharedSpark) -> None:
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
        nano.expect_empty_plan()


def test_an_engine_that_fails_at_every_start_is_started_three_times_an_hour_and_the_spark_stays_reachable(
    nano: SharedSpark,
) -> None:
    spark = nano.spark
    nano.clean = False
    spark.sh(f"echo LAB_ENGINE=crash-at-start > {ENGINE_FAULT}")
    before = starts(spark)
    spark.sh("docker kill nano")
    wait_until_given_up(spark)
    assert spark.ok(f"journalctl -u {UNIT} | grep -e 'repeated too quickly' -e 'not started again'")
    assert 1 <= starts(spark) - before <= 3
    for _ in range(2):  # a boot resets systemd's own count
        spark.reboot()
        wait_until_given_up(spark)
        assert starts(spark) - before <= 3
        assert spark.ssh("uptime").code == 0
    limits = spark.sh(f"systemctl show -P StartLimitIntervalUSec -P StartLimitBurst {UNIT}").split()
    assert limits == ["1h", "3"]
    assert ("state", "", "exited", "serving") in nano.changes()
    spark.sh(f"rm {ENGINE_FAULT}")
    nano.fleet.run().expect(0)
    assert "nano" in nano.served_names()
    nano.expect_empty_plan()


CACHES = "/home/nvidia/vllm-compile-cache"
MODELS, AWAY = "/home/nvidia/vllm", "/home/nvidia/vllm-unmounted"


def test_a_compile_cache_that_its_owner_cleared_does_not_keep_the_engine_from_a_restart(
    nano: SharedSpark,
) -> None:
    nano.clean = False
    started = nano.started_at()
    nano.spark.sh(f"rm -rf {CACHES}/*; systemctl restart {UNIT}")
    wait_until_it_serves(nano.spark, since=started)
    assert nano.spark.sh(f"stat -c %U {CACHES}/*") == "nvidia"
    nano.expect_empty_plan()


def test_a_disk_that_is_mounted_after_the_boot_is_waited_for_and_named(nano: SharedSpark) -> None:
    nano.clean = False
    spark, started, before = nano.spark, nano.started_at(), starts(nano.spark)
    spark.sh(f"mv {MODELS} {AWAY}")
    spark.reboot()
    wait_until(spark, f"systemctl show -P StatusText {UNIT} | grep '{MODELS} does not exist'", 60)
    spark.sh("sleep 45")  # longer than three starts of the unit take
    assert (spark.sh(f"systemctl is-active {UNIT}"), starts(spark)) == ("active", before)
    spark.sh(f"mv {AWAY} {MODELS}")
    wait_until_it_serves(spark, since=started)
    nano.expect_empty_plan()


@pytest.mark.full
def test_an_engine_that_crashes_repeatedly_after_serving_is_given_up_too(nano: SharedSpark) -> None:
    spark = nano.spark
    nano.clean = False
    spark.sh(f"echo LAB_ENGINE=crash-later:6 > {ENGINE_FAULT}")
    before = starts(spark)
    spark.sh("docker kill nano")
    wait_until_given_up(spark)
    assert 1 <= starts(spark) - before <= 3
    assert spark.ssh("uptime").code == 0


def restarts(spark: Machine) -> int:
    """Return how often systemd restarted the unit; a stop of dockerd does not count."""
    return int(spark.sh(f"systemctl show -P NRestarts {UNIT}"))


def starts(spark: Machine) -> int:
    """Return how often the engine was started, counted in the container's log."""
    return int(spark.sh(f"docker logs nano 2>&1 | grep -c {BANNER!r}", check=False))


def wait_until_it_serves(spark: Machine, since: str) -> None:
    """Return when an engine serves that started after ``since``."""
    started = "[ $(docker inspect -f '{{.State.StartedAt}}' nano) != " + since + " ]"
    wait_until(
        spark, f"{started} && curl -sf --max-time 5 http://127.0.0.1:8000/v1/models | grep -q nano", 120
    )


def wait_until_given_up(spark: Machine) -> None:
    wait_until(spark, f"[ $(systemctl is-active {UNIT}) = failed ]", 180)


def wait_until(spark: Machine, condition: str, seconds: int) -> None:
    """Return when a shell condition holds on the machine; fail after a number of seconds."""
    loop = f"for i in $(seq {seconds * 2}); do {condition} && exit 0; sleep 0.5; done; exit 1"
    assert spark.ok(loop), f"not within {seconds} s: {condition}\n{spark.evidence()}"
