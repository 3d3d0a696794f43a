"""A service is stopped on purpose, over a reboot and runs of serve, and starts again through its gate."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import Outcome
from tests.lab.shared_spark import SharedSpark, converge_spark

UNIT = "sparkfleet-nano.service"
RECORD = "/var/lib/sparkfleet/services/nano/stop.json"
ENGINE_FAULT = "/home/nvidia/vllm/lab-engine.env"


@pytest.fixture(scope="module")
def shared_spark(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> SharedSpark:
    return converge_spark(lab, lab_state, tmp_path_factory.mktemp("stop"))


@pytest.fixture
def nano(shared_spark: SharedSpark) -> SharedSpark:
    """A Spark that serves as declared."""
    shared_spark.spark.sh(f"rm -f {ENGINE_FAULT}; systemctl reset-failed {UNIT}", check=False)
    shared_spark.restore()
    shared_spark.clean = False
    return shared_spark


def command(nano: SharedSpark, name: str, *args: str) -> Outcome:
    return nano.fleet.command("sparkfleet", name, "inventories/lab.py", *args)


def states(nano: SharedSpark) -> Sequence[str]:
    """Return the state of container and unit."""
    container = nano.spark.sh("docker inspect -f '{{.State.Status}}' nano")
    unit = nano.spark.sh(f"systemctl show -P ActiveState -P UnitFileState {UNIT}")
    return (container, *unit.split())


DOWN, UP = ("exited", "inactive", "disabled"), ("running", "active", "enabled")


def test_a_stopped_service_stays_stopped_until_it_is_started_through_its_gate(nano: SharedSpark) -> None:
    dry = command(nano, "stop", "spark-01/nano", "--dry").expect(2)
    assert "running → stopped" in dry.out
    assert states(nano) == UP
    assert command(nano, "stop", "spark-01/nano").expect(1).err.count("confirmation-required") == 1

    command(nano, "stop", "spark-01/nano", "-y", "--why", "a benchmark").expect(0)
    assert states(nano) == DOWN
    record = json.loads(nano.spark.sh(f"cat {RECORD}"))
    assert ("@" in record["operator"], record["reason"]) == (True, "a benchmark")

    line = f"  = stopped     nano by {record['operator']} since "
    nano.declare({"flags": {"max-num-seqs": 7}})
    for outcome in (nano.fleet.plan().expect(0), nano.fleet.run().expect(0), nano.fleet.plan().expect(0)):
        assert line in outcome.text
        assert "a benchmark; differs in flag, which the first run after its start changes" in outcome.text
    nano.spark.reboot()
    nano.spark.sh("systemctl is-system-running --wait", check=False)
    assert states(nano) == DOWN
    assert line in nano.fleet.plan().expect(0).out
    status = nano.fleet.command("sparkfleet", "status", "inventories/lab.py").expect(0).out
    assert f"stopped by {record['operator']}: a benchmark" in status

    before = nano.container_id()
    command(nano, "start", "spark-01", "-y").expect(0)
    assert states(nano) == UP
    assert "nano" in nano.served_names()
    assert nano.container_id() != before
    assert not nano.spark.ok(f"test -e {RECORD}")
    assert "max-num-seqs" in nano.fleet.plan().expect(2).out
    nano.declare()
    nano.expect_empty_plan()


def test_a_restart_goes_through_the_gate_and_records_no_stop(nano: SharedSpark) -> None:
    started = nano.started_at()
    restart = command(nano, "restart", "-y").expect(0)
    assert "serves, gate passed" in restart.err
    assert nano.started_at() != started
    assert not nano.spark.ok(f"test -e {RECORD}")
    nano.expect_empty_plan()
    assert "0 to change" in command(nano, "start", "-y").expect(0).out


def test_a_start_that_fails_names_its_cause_and_the_service_stays_stopped(nano: SharedSpark) -> None:
    nano.fleet.run("--data", "stop_reason=a fault", deploy="stop").expect(0)
    nano.spark.sh(f"echo LAB_ENGINE=crash-at-start > {ENGINE_FAULT}")
    failed = nano.fleet.run(deploy="start").expect(1)
    assert "spark-01: nano: " in failed.err
    assert states(nano) == DOWN
    assert "stopped     nano by" in nano.fleet.plan().expect(0).out
    nano.spark.sh(f"rm {ENGINE_FAULT}")
    nano.fleet.run("--data", "service_target=spark-01/nano", deploy="start").expect(0)
    nano.expect_empty_plan()
