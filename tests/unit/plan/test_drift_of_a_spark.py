"""Manual changes on a converged Spark are listed field by field, and repaired with the least effort."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.generation import Gate
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import Action, ChangeKind, FieldChange
from sparkfleet.plan.operations import FetchWeights, UpdateService
from sparkfleet.probe.observation import Observed, ObservedPath, ObservedUnit
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import (
    CONVERGED,
    HOST,
    NANO,
    only_entry,
    rows,
    with_service,
)


def change_container(seen: Observed, **changes: Any) -> Observed:
    return replace(seen, instances=tuple(replace(c, **changes) for c in seen.instances))


def change_host_config(seen: Observed, **changes: object) -> Observed:
    (container,) = seen.instances
    return replace(seen, instances=(fake_spark.with_details(container, host=changes),))


def change_config(seen: Observed, **changes: object) -> Observed:
    (container,) = seen.instances
    return replace(seen, instances=(fake_spark.with_details(container, config=changes),))


ENV = list(CONVERGED.instances[0].details["Config"]["Env"])
CMD = list(CONVERGED.instances[0].details["Config"]["Cmd"])
UNIT = CONVERGED.units["sparkfleet-nano.service"]

DRIFT = {
    "docker update --memory": (
        change_host_config(CONVERGED, Memory=1 << 30, MemorySwap=2 << 30),
        ("container", "memory limit", str(1 << 30), ""),
    ),
    "another variable": (change_config(CONVERGED, Env=[*ENV, "BY_HAND=1"]), ("env", "BY_HAND", "1", "")),
    "an extra flag": (
        change_config(CONVERGED, Cmd=[*CMD, "--enforce-eager"]),
        ("flag", "--enforce-eager", "true", ""),
    ),
    "a flag of no release": (
        change_config(CONVERGED, Cmd=[*CMD, "--no-such-flag=7"]),
        ("flag", "--no-such-flag", "7", ""),
    ),
    "privileged by hand": (
        change_host_config(CONVERGED, Privileged=True),
        ("container", "Privileged", "True", ""),
    ),
    "a restart policy": (
        change_host_config(CONVERGED, RestartPolicy={"Name": "unless-stopped"}),
        ("container", "restart", "unless-stopped", "no"),
    ),
    "an entrypoint by hand": (
        change_config(CONVERGED, Entrypoint=["bash"]),
        ("container", "entrypoint", "bash", ""),
    ),
    "stopped": (change_container(CONVERGED, state="exited"), ("state", "", "exited", "serving")),
    "a bind by -v": (
        change_host_config(CONVERGED, Binds=["/tmp:/host-tmp:ro"]),
        ("mount", "/host-tmp", "/tmp:/host-tmp:ro", ""),
    ),
}


@pytest.mark.parametrize("seen, expected", DRIFT.values(), ids=DRIFT)
def test_drift_of_the_container_is_listed_and_repaired_by_a_new_one(
    seen: Observed, expected: tuple[str, str, str, str]
) -> None:
    entry = only_entry(HOST, seen)
    assert rows(entry) == [expected]
    assert entry.kind is ChangeKind.RECREATE


UNITS = {
    "edited": (
        replace(UNIT, text=(UNIT.text or "").replace("RestartSec=10", "RestartSec=1")),
        ("unit", "sparkfleet-nano.service RestartSec", "1", "10"),
    ),
    "disabled": (
        replace(UNIT, enabled="disabled"),
        ("unit", "sparkfleet-nano.service", "disabled", "enabled"),
    ),
    "a drop-in": (
        replace(UNIT, drop_ins={"/etc/systemd/system/sparkfleet-nano.service.d/x.conf": "[Service]"}),
        ("drop-in", "/etc/systemd/system/sparkfleet-nano.service.d/x.conf", "", ""),
    ),
    "not holding the engine": (
        replace(UNIT, active="failed"),
        ("unit", "sparkfleet-nano.service", "failed", "active"),
    ),
    "gone": (ObservedUnit(None), ("unit", "sparkfleet-nano.service", "", "enabled")),
}


@pytest.mark.parametrize("unit, expected", UNITS.values(), ids=UNITS)
def test_drift_of_the_unit_is_repaired_while_the_engine_keeps_serving(
    unit: ObservedUnit, expected: tuple[str, str, str, str]
) -> None:
    entry = only_entry(HOST, replace(CONVERGED, units={**CONVERGED.units, "sparkfleet-nano.service": unit}))
    assert rows(entry) == [expected]
    assert entry.kind is ChangeKind.UPDATE
    assert not entry.restarts_engine


def test_a_lost_record_is_written_again() -> None:
    entry = only_entry(HOST, replace(CONVERGED, generations={}))
    assert [c.name for c in entry.fields()] == ["record"]
    assert entry.kind is ChangeKind.UPDATE


GROWN = f"changed, {(18 << 30) + 1} instead of {18 << 30} bytes"
FILES = {
    "deleted": ({"model.safetensors": None}, "+", ""),
    "truncated": ({"model.safetensors": (5, "f" * 64)}, "~", f"partial, 5 of {18 << 30} bytes"),
    "a link to nothing": ({"model.safetensors": (-1, "f" * 64)}, "~", "link to nothing"),
    "grown": ({"model.safetensors": ((18 << 30) + 1, "f" * 64)}, "~", GROWN),
    "hash differs": (
        {"model.safetensors": (18 << 30, "e" * 64)},
        "~",
        "unexpected, not part of this commit",
    ),
}


@pytest.mark.parametrize("files, sign, old", FILES.values(), ids=FILES)
def test_each_broken_weights_file_is_fetched_while_the_engine_keeps_serving(
    files: dict[str, tuple[int, str] | None], sign: str, old: str
) -> None:
    key = "nvidia/Nano@" + "a" * 40
    have = {name: found for name, found in {**CONVERGED.weights[key], **files}.items() if found}
    entry = only_entry(HOST, replace(CONVERGED, weights={key: have}))
    assert entry.kind is ChangeKind.STAGE
    action = Action.ADD if sign == "+" else Action.CHANGE
    assert entry.fields() == (FieldChange(action, "weights", "model.safetensors", old, "18.0 GiB"),)
    assert [one.key for one in entry.operations if isinstance(one, FetchWeights)] == [key]


def test_a_file_with_a_wrong_hash_is_fetched_again() -> None:
    key = "nvidia/Nano@" + "a" * 40
    entry = only_entry(HOST, replace(CONVERGED, hashed={key: {"model.safetensors": ("f" * 64, False)}}))
    assert [change.old for change in entry.fields()] == ["changed, hash differs"]
    for known in (("f" * 64, True), ("e" * 64, False)):  # right, or hashed for another content
        assert (
            host_plan(HOST, replace(CONVERGED, hashed={key: {"model.safetensors": known}})).change_sets == ()
        )


HOST_FILES = {
    "valve edited": ("/usr/local/bin/spark-valve", {"sha256": "0" * 64}, "valve"),
    "programs with another mode": ("/usr/local/lib/sparkfleet/sparkfleet.pyz", {"mode": "0777"}, "programs"),
    "directory of another owner": ("~/vllm", {"user": "root"}, "owner"),
    "directory of another mode": ("~/vllm", {"mode": "0777"}, "mode"),
    "a file instead of a directory": ("~/vllm-compile-cache", {"kind": "file"}, "directory"),
    "a directory instead of a file": ("/usr/local/bin/spark-valve", {"kind": "directory"}, "valve"),
}


@pytest.mark.parametrize("path, changed, field", HOST_FILES.values(), ids=HOST_FILES)
def test_drift_of_the_host_is_seen(path: str, changed: dict[str, Any], field: str) -> None:
    paths = {**CONVERGED.paths, path: replace(CONVERGED.paths[path], **changed)}
    entry = only_entry(HOST, replace(CONVERGED, paths=paths))
    assert entry.subject == "host"
    assert [(c.name, c.key) for c in entry.fields()] == [(field, path)]


def test_a_directory_that_is_a_link_to_another_disk_is_left_as_it_is() -> None:
    paths = {**CONVERGED.paths, "~/vllm": ObservedPath("link", "0777", "root", "root")}
    assert host_plan(HOST, replace(CONVERGED, paths=paths)).change_sets == ()


def test_a_disabled_recovery_unit_is_enabled_again() -> None:
    recover = replace(CONVERGED.units["sparkfleet-recover.service"], enabled="disabled")
    entry = only_entry(
        HOST, replace(CONVERGED, units={**CONVERGED.units, "sparkfleet-recover.service": recover})
    )
    assert rows(entry) == [("unit", "sparkfleet-recover.service", "disabled", "enabled")]


@pytest.mark.provokes("port-in-use")
def test_a_container_recreated_by_hand_is_replaced_since_its_supervisor_would_not_start_it_again() -> None:
    entry = only_entry(HOST, change_container(CONVERGED, id="9" * 64))
    assert entry.kind is ChangeKind.RECREATE
    assert [(c.name, c.key) for c in entry.fields()] == [("container", "id")]


def test_without_record_and_with_the_label_of_another_generation_a_new_container_is_made() -> None:
    other = with_service(flags=(*NANO.flags, ("gpu-memory-utilization", 0.9)))  # the default, declared
    entry = only_entry(other, replace(CONVERGED, generations={}))
    assert entry.kind is ChangeKind.RECREATE
    assert [c.name for c in entry.fields()] == ["record"]


def test_a_change_that_keeps_the_container_keeps_the_record_of_how_it_was_made() -> None:
    other = with_service(flags=(*NANO.flags, ("gpu-memory-utilization", 0.9)), gate=Gate(expect="4"))
    entry = only_entry(other, CONVERGED)
    made = fake_spark.generation_of(HOST, NANO)
    assert entry.kind is ChangeKind.UPDATE
    (update,) = entry.operations
    assert isinstance(update, UpdateService)
    assert update.generation.definition == made.definition
    assert update.generation.gate.expect == "4"
