"""What somebody changed by hand on a Spark: seen in the plan by name, and repaired by a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.converged import Converged, Row, converged
from tests.lab.drifts import ALONE, ANY, CACHE, IN_PLACE, RECREATED, RECREATED_IN_FULL, UNIT, Drift
from tests.lab.machine import Machine
from tests.lab.served import fresh


@pytest.fixture(scope="module")
def shared(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Converged:
    return converged(lab, lab_state, tmp_path_factory.mktemp("drift"))


@pytest.fixture
def nano(shared: Converged) -> Converged:
    """A converged Spark that serves nemotron-3-nano."""
    shared.restore()
    return shared


def test_drift_beside_the_engine_is_seen_and_repaired_while_it_serves(nano: Converged) -> None:
    repair_in_place(nano, *IN_PLACE.values())


@pytest.mark.full
@pytest.mark.parametrize("drift", [*IN_PLACE.values(), *ALONE.values()], ids=[*IN_PLACE, *ALONE])
def test_each_drift_beside_the_engine_is_seen_and_repaired_while_it_serves(
    nano: Converged, drift: Drift
) -> None:
    repair_in_place(nano, drift)


@pytest.mark.parametrize("drift", RECREATED.values(), ids=RECREATED)
def test_drift_of_the_container_is_seen_and_repaired_by_a_new_one(nano: Converged, drift: Drift) -> None:
    repair_anew(nano, drift)


@pytest.mark.full
@pytest.mark.parametrize("drift", RECREATED_IN_FULL.values(), ids=RECREATED_IN_FULL)
def test_each_drift_of_the_container_is_seen_and_repaired_by_a_new_one(nano: Converged, drift: Drift) -> None:
    repair_anew(nano, drift)


def test_a_removed_container_is_made_again(nano: Converged) -> None:
    before = essence(nano.spark)
    nano.clean = False
    nano.spark.sh("docker rm -f nano")
    (entry,) = nano.fleet.plan_data()["hosts"][0]["change_sets"]
    assert (entry["subject"], entry["kind"]) == ("nano", "create")
    nano.fleet.run().expect(0)
    nano.expect_nothing_to_do()
    assert essence(nano.spark) == before


SQUATTERS: Mapping[str, str] = {
    "with the Spark's own network": "--network host",
    "with a published port": "--publish 8000:8000",
}


@pytest.mark.parametrize("network", SQUATTERS.values(), ids=SQUATTERS)
def test_a_foreign_container_on_our_port_is_named_and_left_alone(nano: Converged, network: str) -> None:
    nano.clean = False
    squat(nano, network)
    before = nano.spark.inspect_all()["container"]
    said = nano.fleet.plan().expect(1).text
    assert "port 8000: held by the container squatter, which is not managed by sparkfleet" in said
    assert "docker stop squatter" in said
    run = nano.fleet.run()
    assert run.code != 0
    assert "container squatter" in run.text
    assert "Traceback" not in run.text
    assert nano.spark.inspect_all()["container"] == before
    nano.spark.sh("docker rm -f squatter")


IN_THE_WAY: Mapping[str, tuple[str, str, str]] = {
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


@pytest.mark.parametrize("command, undo, message", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_what_a_rollout_would_refuse_is_in_the_plan_and_left_alone(
    nano: Converged, command: str, undo: str, message: str
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


def test_a_container_left_by_an_earlier_rollout_is_removed_with_a_line_of_the_plan(nano: Converged) -> None:
    nano.declare({"env": {"VLLM_LOGGING_LEVEL": "DEBUG"}})
    nano.spark.sh(
        "docker create --name nano.next --label io.sparkfleet.service=nano --entrypoint true "
        "$(docker inspect -f '{{.Image}}' nano)"
    )
    assert ("container", "", "nano.next", "") in nano.changes()
    nano.fleet.run().expect(0)
    assert nano.spark.sh("docker ps -a --format '{{.Names}}'").split() == ["nano"]


def test_a_host_with_a_foreign_container_stops_there_and_the_others_converge(
    nano: Converged, lab: Lab, lab_state: State
) -> None:
    nano.clean = False
    squat(nano, SQUATTERS["with the Spark's own network"])
    (other,) = fresh(lab, lab_state, "spark-02")
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


def test_a_foreign_container_of_our_name_is_named_and_left_alone(nano: Converged) -> None:
    nano.clean = False
    nano.spark.sh(
        "docker rm -f nano; docker run -d --name nano --entrypoint sleep " + image(nano) + " infinity"
    )
    before = nano.spark.inspect_all()["container"]
    said = nano.fleet.plan().expect(1).text
    assert "container nano: a container of this name that is not managed by sparkfleet" in said
    assert nano.fleet.run().code != 0
    assert nano.spark.inspect_all()["container"] == before
    nano.spark.sh("docker rm -f nano")


def test_our_own_container_under_another_name_is_named_and_left_alone(nano: Converged) -> None:
    nano.clean = False
    nano.spark.sh("docker rename nano mine")
    before = nano.container_id("mine")
    said = nano.fleet.plan().expect(1).text
    assert "port 8000: held by the container mine" in said
    assert nano.fleet.run().code != 0
    assert nano.container_id("mine") == before
    nano.spark.sh("docker rename mine nano")


def squat(nano: Converged, network: str) -> None:
    """Stop the service and put somebody else's container on its port."""
    nano.spark.sh(
        f"systemctl stop {UNIT}; docker run -d --name squatter {network} --entrypoint python3 {image(nano)} "
        "-m http.server 8000; "
        "for i in $(seq 50); do curl -sf http://127.0.0.1:8000/ >/dev/null && exit 0; sleep 0.1; done; exit 1"
    )


def image(nano: Converged) -> str:
    """Return an image that is on the Spark."""
    return nano.spark.sh("docker images --no-trunc -q | head -1")


def repair_in_place(nano: Converged, *drifts: Drift) -> None:
    """Do it by hand, see just that in the plan, run; all is as before and the engine never stopped."""
    managed, engine, started = managed_files(nano.spark), essence(nano.spark), nano.started_at()
    nano.clean = False
    for drift in drifts:
        nano.spark.sh(drift.command)
    assert masked(nano.changes(), drifts) == {row for drift in drifts for row in drift.rows}
    nano.fleet.run().expect(0)
    assert nano.started_at() == started
    assert managed_files(nano.spark) == managed
    assert essence(nano.spark) == engine
    nano.expect_nothing_to_do()


def repair_anew(nano: Converged, drift: Drift) -> None:
    """Do it by hand, see it in the plan and nothing else, run; the engine is as it was before."""
    before = essence(nano.spark)
    nano.clean = False
    nano.spark.sh(drift.command)
    assert masked(nano.changes(), [drift]) == set(drift.rows)
    nano.fleet.run().expect(0)
    assert essence(nano.spark) == before
    nano.expect_nothing_to_do()


def masked(rows: list[Row], drifts: Any) -> set[tuple[str, ...]]:
    """Return the rows, each text replaced by ANY where a drift of the same field and key expects any text."""
    wild = {row[:2]: row for drift in drifts for row in drift.rows if ANY in row}
    found = set()
    for field, key, old, new in rows:
        expected = wild.get((field, key), (field, key, old, new))
        texts = zip((old, new), expected[2:], strict=True)
        found.add((field, key, *(ANY if text and wanted == ANY else text for text, wanted in texts)))
    return found


def essence(spark: Machine) -> dict[str, Any]:
    """Return what an engine is made of, as docker and systemd tell it, without ids and times."""
    (seen,) = json.loads(spark.sh("docker inspect nano"))
    config = {key: seen["Config"][key] for key in ("Image", "Cmd", "Entrypoint", "User", "Labels")}
    limits = {key: value for key, value in seen["HostConfig"].items() if key != "MemorySwappiness"}
    return {
        "config": {**config, "Env": sorted(seen["Config"]["Env"])},
        "host": limits,
        "state": (seen["State"]["Running"], seen["State"]["Paused"]),
        "unit": spark.sh(f"systemctl show -P ActiveState -P UnitFileState -P NeedDaemonReload {UNIT}"),
        "serves": json.loads(spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models"))["data"][0]["id"],
    }


def managed_files(spark: Machine) -> dict[str, tuple[object, ...]]:
    """Return mode, owner and hash of what we put on a Spark; link targets of the weights."""
    ours = ("/etc/systemd/system/", "/usr/local", "/home/nvidia/vllm/hub", CACHE)
    volatile = ("/.no_exist", "/refs/", "/.locks")
    return {
        path: (mode, user, group, digest)
        for path, (mode, user, group, _, digest) in spark.files_snapshot().items()
        if path.startswith(ours) and not any(part in path for part in volatile)
    }
