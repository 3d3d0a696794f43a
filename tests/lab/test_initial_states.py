"""Sparks in different initial states: one run prepares them, or reports every reason and its remedy.

The changes of a run are compared with its plan over every file of the machine, and over all that docker and
systemd have.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import FileStates, Machine, difference
from tests.lab.serving_fleet import nano

HOME = "/home/nvidia"
ENABLED = "/etc/systemd/system/multi-user.target.wants/sparkfleet-recover.service"
RECOVER = "sparkfleet-recover.service"


@dataclass(frozen=True)
class InitialState:
    """A state of ``sparkfleet lab break``, and the result of one run of prepare.py."""

    state: str
    rows: frozenset[str] = frozenset({"programs", "valve", "unit", "directory"})
    """Fields in the plan."""
    reasons: tuple[str, ...] = ()
    """Why the Spark cannot be prepared: all reasons at once."""
    remedies: tuple[str, ...] = ()
    """The remedies: a part of each command."""
    remedy_works: bool = False
    """Whether the commands that are shown work as they are, and the next run succeeds."""
    full: bool = False


FRESH = InitialState("")
STATES = (
    FRESH,
    InitialState("half-by-hand", frozenset({"programs", "valve", "unit", "directory", "owner", "mode"})),
    InitialState(
        "wrong-owner", frozenset({"programs", "valve", "unit", "directory", "owner", "mode"}), full=True
    ),
    InitialState("other-tool"),
    InitialState("foreign-netplan", full=True),
    InitialState("sudoers-broken"),
    InitialState("sudo-refused", reasons=("sudo refused",), remedies=("/etc/sudoers.d/",), full=True),
    InitialState(
        "docker-removed",
        reasons=("Docker missing", "neither the NVIDIA container toolkit nor a CDI file"),
        remedies=("docker: install", "apt-get install nvidia-container-toolkit"),
    ),
    InitialState(
        "etc-read-only", reasons=("mounted read-only",), remedies=("remount,rw",), remedy_works=True
    ),
    InitialState("docker-hangs", reasons=("Docker hangs",), remedies=("journalctl -u docker",), full=True),
)


@pytest.mark.parametrize(
    "initial",
    [
        pytest.param(one, id=one.state or "fresh", marks=pytest.mark.full if one.full else ())
        for one in STATES
    ],
)
def test_one_run_prepares_the_spark_or_reports_every_reason_and_changes_only_what_it_showed(
    fleet: FleetDirectory, spark: Machine, initial: InitialState
) -> None:
    fleet.host("spark-01", nano())
    fleet.lock()
    spark.ssh("sudo -n true")  # the first sudo of an account writes a file to its home
    if initial.state:
        spark.break_(initial.state)
    before = snapshot(spark, initial)
    run = fleet.run(deploy="prepare")
    after = snapshot(spark, initial)
    if initial.reasons:
        run.expect(1)
        check_reasons(run, initial)
        assert difference(before["files"], after["files"]) == []
        assert after == before
        if not initial.remedy_works:
            return
        for command in remedies(run):
            spark.ssh(command)
        run = fleet.run(deploy="prepare").expect(0)
    else:
        run.expect(0)
        rows = planned(run)
        assert {field for field, _ in rows} == initial.rows
        check_files(before["files"], after["files"], {path for _, path in rows})
        assert after["docker"] == before["docker"]
        changed = {name for name in after["units"] if after["units"].get(name) != before["units"].get(name)}
        assert changed == {RECOVER}
        assert set(before["units"]) <= set(after["units"])
    second = fleet.run(deploy="prepare").expect(0)
    assert "spark-01   no changes" in second.out


def test_all_faults_of_a_spark_are_reported_at_once_and_nothing_is_changed(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", nano())
    fleet.lock()
    spark.ssh("sudo -n true")
    for state in ("port-taken", "etc-read-only", "models-full"):
        spark.break_(state)
    spark.sh("mv /usr/local/bin/nvidia-container-runtime-hook /root/")
    before = snapshot(spark, FRESH)
    run = fleet.run().expect(1)
    assert snapshot(spark, FRESH) == before
    all_faults = InitialState(
        "",
        reasons=("mounted read-only", "needed for nano (weights", "port 8000", "container toolkit"),
        remedies=(
            "remount,rw",
            "another disk",
            "another `port:`",
            "apt-get install nvidia-container-toolkit",
        ),
    )
    check_reasons(run, all_faults)


def snapshot(spark: Machine, initial: InitialState) -> dict[str, Any]:
    snapshot: dict[str, Any] = {"files": spark.files_snapshot(), "units": spark.units()}
    if "docker" not in initial.state:
        snapshot["docker"] = spark.inspect_all()
    return snapshot


def planned(run: Outcome) -> set[tuple[str, str]]:
    """Return field and path of every change in the report that a run printed."""
    rows = re.findall(r"^  [+~-] (\S+) +(\S+)", run.out, re.MULTILINE)
    return {(field, re.sub("^~", HOME, path)) for field, path in rows}


def check_files(before: FileStates, after: FileStates, paths: set[str]) -> None:
    """Fail unless exactly the planned paths changed, and directories that have a new entry."""
    changed = set(difference(before, after))
    assert paths <= changed
    expected = {ENABLED} | paths
    parent_folders = {folder for path in expected for folder in parents(path)}
    assert changed <= expected | parent_folders
    for folder in (changed & parent_folders & set(before)) - paths:
        mode, user, group, _, link = before[folder]
        assert after[folder][:3] + after[folder][4:] == (mode, user, group, link), folder


def parents(path: str) -> set[str]:
    initial = set()
    while path not in {"/", ""}:
        path = posixpath.dirname(path)
        initial.add(path)
    return initial


def check_reasons(run: Outcome, initial: InitialState) -> None:
    """Fail unless the closing lines have every reason and remedy, once each."""
    closing = run.err[run.err.index("spark-01   FAILED") :]
    for message in (*initial.reasons, *initial.remedies):
        assert message in closing
    assert closing.count("do: ") >= len(initial.reasons)


def remedies(run: Outcome) -> list[str]:
    """Return the commands of the closing lines that are to be run on the Spark."""
    closing = run.err[run.err.index("spark-01   FAILED") :]
    return re.findall(r"do: on spark-01: (.*)", closing)
