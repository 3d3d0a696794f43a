"""Manual changes on a Spark: a plan lists each by name, and a run repairs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.drifts import ANY, CACHE, IN_PLACE, IN_PLACE_ALONE, MORE_RECREATED, RECREATED, UNIT, Drift
from tests.lab.machine import Machine
from tests.lab.serving_fleet import reset_machines
from tests.lab.shared_spark import Row, SharedSpark, converge_spark


@pytest.fixture(scope="module")
def shared_spark(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> SharedSpark:
    return converge_spark(lab, lab_state, tmp_path_factory.mktemp("drift"))


@pytest.fixture
def nano(shared_spark: SharedSpark) -> SharedSpark:
    """A converged Spark that serves nemotron-3-nano."""
    shared_spark.restore()
    return shared_spark


def test_drift_outside_the_container_is_listed_and_repaired_while_the_engine_serves(
    nano: SharedSpark,
) -> None:
    repair_in_place(nano, *IN_PLACE.values())


@pytest.mark.full
@pytest.mark.parametrize(
    "drift", [*IN_PLACE.values(), *IN_PLACE_ALONE.values()], ids=[*IN_PLACE, *IN_PLACE_ALONE]
)
def test_each_drift_outside_the_container_is_listed_and_repaired_while_the_engine_serves(
    nano: SharedSpark, drift: Drift
) -> None:
    repair_in_place(nano, drift)


@pytest.mark.parametrize("drift", RECREATED.values(), ids=RECREATED)
def test_drift_of_the_container_is_listed_and_repaired_by_a_new_one(nano: SharedSpark, drift: Drift) -> None:
    repair_by_recreation(nano, drift)


@pytest.mark.full
@pytest.mark.parametrize("drift", MORE_RECREATED.values(), ids=MORE_RECREATED)
def test_each_drift_of_the_container_is_listed_and_repaired_by_a_new_one(
    nano: SharedSpark, drift: Drift
) -> None:
    repair_by_recreation(nano, drift)


def test_a_removed_container_is_created_again(nano: SharedSpark) -> None:
    before = engine_state(nano.spark)
    nano.clean = False
    nano.spark.sh("docker rm -f nano")
    (entry,) = nano.fleet.plan_data()["hosts"][0]["change_sets"]
    assert (entry["subject"], entry["kind"]) == ("nano", "create")
    nano.fleet.run().expect(0)
    nano.expect_empty_plan()
    assert engine_state(nano.spark) == before


FOREIGN_CONTAINERS: Mapping[str, str] = {
    "with the Spark's own network": "--network host",
    "with a published port": "--publish 8000:8000",
}


@pytest.mark.parametrize("network", FOREIGN_CONTAINERS.values(), ids=FOREIGN_CONTAINERS)
def test_a_foreign_container_on_our_port_is_named_and_left_alone(nano: SharedSpark, network: str) -> None:
    nano.clean = False
    occupy_port(nano, network)
    before = nano.spark.inspect_all()["container"]
    report = nano.fleet.plan().expect(1).text
    assert "port 8000: held by the container squatter, which is not managed by sparkfleet" in report
    assert "docker stop squatter" in report
    run = nano.fleet.run()
    assert run.code != 0
    assert "container squatter" in run.text
    assert "Traceback" not in run.text
    assert nano.spark.inspect_all()["container"] == before
    nano.spark.sh("docker rm -f squatter")


OBSTACLES: Mapping[str, tuple[str, str, str]] = {
    "a foreign container with the candidate's name": (
        "docker create --name nano.next --entrypoint true $(docker inspect -f '{{.Image}}' nano)",
        "docker rm nano.next",
        "container nano.next: a container of this name that is not managed by sparkfleet",
    ),
    "a masked unit": (
        f"mv /etc/systemd/system/{UNIT} /root/ && systemctl mask -q {UNIT}",
        f"systemctl unmask -q {UNIT}; mv /root/{UNIT} /etc/systemd/system/ && systemctl daemon-reload",
        f"unit {UNIT}: masked: it is a link to /dev/null",
    ),
    "a unit of somebody else": (
        f"cd /etc/systemd/system; cp {UNIT} /root/; sed -i 1d {UNIT}; systemctl daemon-reload",
        f"mv /root/{UNIT} /etc/systemd/system/ && systemctl daemon-reload",
        f"unit {UNIT}: not managed by sparkfleet",
    ),
}


@pytest.mark.parametrize("command, undo, message", OBSTACLES.values(), ids=OBSTACLES)
def test_what_a_rollout_would_refuse_is_in_the_plan_and_not_changed(
    nano: SharedSpark, command: str, undo: str, message: str
) -> None:
    nano.declare({"env": {"VLLM_LOGGING_LEVEL": "DEBUG"}})
    nano.spark.sh(command)
    before, unit = nano.spark.inspect_all()["container"], f"head -c 99 /etc/systemd/system/{UNIT}"
    text = nano.spark.sh(unit)
    assert f"! blocked     spark-01: {message}" in nano.fleet.plan().expect(1).out
    assert message in nano.fleet.run().expect(1).text
    assert (nano.spark.inspect_all()["container"], nano.spark.sh(unit)) == (before, text)
    nano.spark.sh(undo)
    nano.fleet.run().expect(0)
    assert "nano" in nano.spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")


def test_a_container_left_by_an_earlier_rollout_is_in_the_plan_and_removed(nano: SharedSpark) -> None:
    nano.declare({"env": {"VLLM_LOGGING_LEVEL": "DEBUG"}})
    nano.spark.sh(
        "docker create --name nano.next --label io.sparkfleet.service=nano --entrypoint true "
        "$(docker inspect -f '{{.Image}}' nano)"
    )
    assert ("container", "", "nano.next", "") in nano.changes()
    nano.fleet.run().expect(0)
    assert nano.spark.sh("docker ps -a --format '{{.Names}}'").split() == ["nano"]


def test_a_host_with_a_foreign_container_stops_there_and_the_others_converge(
    nano: SharedSpark, lab: Lab, lab_state: State
) -> None:
    nano.clean = False
    occupy_port(nano, FOREIGN_CONTAINERS["with the Spark's own network"])
    (other,) = reset_machines(lab, lab_state, "spark-02")
    nano.fleet.host("spark-02", dict(nano.base))
    before = nano.spark.inspect_all()["container"]
    try:
        run = nano.fleet.run()
        assert run.code != 0
        assert "container squatter" in run.text
        assert "nano" in other.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
        assert nano.spark.inspect_all()["container"] == before
    finally:
        nano.fleet.host("spark-02", None)
        nano.spark.sh("docker rm -f squatter")


def test_a_foreign_container_of_our_name_is_named_and_left_alone(nano: SharedSpark) -> None:
    nano.clean = False
    nano.spark.sh(
        "docker rm -f nano; docker run -d --name nano --entrypoint sleep " + image(nano) + " infinity"
    )
    before = nano.spark.inspect_all()["container"]
    report = nano.fleet.plan().expect(1).text
    assert "container nano: a container of this name that is not managed by sparkfleet" in report
    assert nano.fleet.run().code != 0
    assert nano.spark.inspect_all()["container"] == before
    nano.spark.sh("docker rm -f nano")


def test_our_own_container_under_another_name_is_named_and_left_alone(nano: SharedSpark) -> None:
    nano.clean = False
    nano.spark.sh("docker rename nano mine")
    before = nano.container_id("mine")
    report = nano.fleet.plan().expect(1).text
    assert "port 8000: held by the container mine" in report
    assert nano.fleet.run().code != 0
    assert nano.container_id("mine") == before
    nano.spark.sh("docker rename mine nano")


def occupy_port(nano: SharedSpark, network: str) -> None:
    """Stop the service and start a foreign container on its port."""
    nano.spark.sh(
        f"systemctl stop {UNIT}; docker run -d --name squatter {network} --entrypoint python3 {image(nano)} "
        "-m http.server 8000; "
        "for i in $(seq 50); do curl -sf http://127.0.0.1:8000/ >/dev/null && exit 0; sleep 0.1; done; exit 1"
    )


def image(nano: SharedSpark) -> str:
    """Return the id of an image on the Spark."""
    return nano.spark.sh("docker images --no-trunc -q | head -1")


def repair_in_place(nano: SharedSpark, *drifts: Drift) -> None:
    """Apply drift, check that the plan lists just that, run; all is restored and the engine never stopped."""
    managed, engine, started = managed_files(nano.spark), engine_state(nano.spark), nano.started_at()
    nano.clean = False
    for drift in drifts:
        nano.spark.sh(drift.command)
    assert masked(nano.changes(), drifts) == {row for drift in drifts for row in drift.rows}
    nano.fleet.run().expect(0)
    assert nano.started_at() == started
    assert managed_files(nano.spark) == managed
    assert engine_state(nano.spark) == engine
    nano.expect_empty_plan()


def repair_by_recreation(nano: SharedSpark, drift: Drift) -> None:
    """Apply drift, check that the plan lists just that, run; the engine is as before."""
    before = engine_state(nano.spark)
    nano.clean = False
    nano.spark.sh(drift.command)
    assert masked(nano.changes(), [drift]) == set(drift.rows)
    nano.fleet.run().expect(0)
    assert engine_state(nano.spark) == before
    nano.expect_empty_plan()


def masked(rows: list[Row], drifts: Any) -> set[tuple[str, ...]]:
    """Return the rows, with ANY in place of each text where a drift of the same field and key expects ANY."""
    wildcards = {row[:2]: row for drift in drifts for row in drift.rows if ANY in row}
    found = set()
    for field, key, old, new in rows:
        expected = wildcards.get((field, key), (field, key, old, new))
        texts = zip((old, new), expected[2:], strict=True)
        found.add(
            (field, key, *(ANY if text and expected_text == ANY else text for text, expected_text in texts))
        )
    return found


def engine_state(spark: Machine) -> dict[str, Any]:
    """Return an engine's state by docker and systemd, without ids and times."""
    (container,) = json.loads(spark.sh("docker inspect nano"))
    config = {key: container["Config"][key] for key in ("Image", "Cmd", "Entrypoint", "User", "Labels")}
    limits = {key: value for key, value in container["HostConfig"].items() if key != "MemorySwappiness"}
    return {
        "config": {**config, "Env": sorted(container["Config"]["Env"])},
        "host": limits,
        "state": (container["State"]["Running"], container["State"]["Paused"]),
        "unit": spark.sh(f"systemctl show -P ActiveState -P UnitFileState -P NeedDaemonReload {UNIT}"),
        "serves": json.loads(spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models"))["data"][0]["id"],
    }


def managed_files(spark: Machine) -> dict[str, tuple[object, ...]]:
    """Return mode, owner and hash of managed files on a Spark, and link targets of the weights."""
    ours = ("/etc/systemd/system/", "/usr/local", "/home/nvidia/vllm/hub", CACHE)
    volatile = ("/.no_exist", "/refs/", "/.locks")
    return {
        path: (mode, user, group, digest)
        for path, (mode, user, group, _, digest) in spark.files_snapshot().items()
        if path.startswith(ours) and not any(part in path for part in volatile)
    }
