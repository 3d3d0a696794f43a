"""A supervisor that was started from other programs than those on the Spark is a row of the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet import zipapp
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import ChangeKind, ChangeSet, Step
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import HOST, rows, with_service

NANO = "sparkfleet-nano.service"
NOW = f"programs {zipapp.sha256()[:12]}"


def entries(status: str, active: str = "active", host: object = HOST) -> tuple[ChangeSet, ...]:
    present = fake_spark.converged(HOST)
    unit = replace(present.units[NANO], status=status, active=active)
    return host_plan(host, replace(present, units={**present.units, NANO: unit})).change_sets  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "status, old",
    [
        ("nano runs in 3f2a91c; programs 0123456789ab", "programs 0123456789ab"),
        ("nano runs in 3f2a91c", "programs of an older version"),
        ("", "programs of an older version"),
    ],
)
def test_a_supervisor_of_other_programs_is_updated_in_place(status: str, old: str) -> None:
    (entry,) = entries(status)
    assert entry.kind is ChangeKind.UPDATE
    assert rows(entry) == [("supervisor", "", old, NOW)]
    assert {one.step for one in entry.operations} == {Step.SERVICE}


def test_a_supervisor_of_these_programs_is_no_row() -> None:
    assert entries(f"nano runs in 3f2a91c; {NOW}") == ()


def test_a_supervisor_that_does_not_run_has_no_programs() -> None:
    (entry,) = entries("", active="failed")
    assert "supervisor" not in {change.name for change in entry.fields()}


def test_a_recreated_service_gets_a_new_supervisor_without_a_row() -> None:
    (entry,) = entries("", host=with_service(served_name="other"))
    assert entry.kind is ChangeKind.RECREATE
    assert "supervisor" not in {change.name for change in entry.fields()}
