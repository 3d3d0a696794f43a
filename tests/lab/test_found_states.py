"""Sparks as they are found: one run ends ready, or with every reason it is not and the command that helps.

What a run changes is compared with its plan over every file of the machine, and with all that docker and
systemd have.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import FilesSeen, Machine, difference
from tests.lab.served import nano

HOME = "/home/nvidia"
ENABLED = "/etc/systemd/system/multi-user.target.wants/sparkfleet-recover.service"
RECOVER = "sparkfleet-recover.service"


@dataclass(frozen=True)
class Found:
    """A state of ``sparkfleet lab break``, and what one run of prepare.py makes of it."""

    state: str
    rows: frozenset[str] = frozenset({"programs", "valve", "unit", "directory"})
    """Fields of the plan."""
    reasons: tuple[str, ...] = ()
    """Why the Spark cannot be made ready: all of them, at once."""
    remedies: tuple[str, ...] = ()
    """What is to be done, a part of the command each."""
    helps: bool = False
    """The commands that are shown can be typed as they are, and the next run ends ready."""
    full: bool = False


FRESH = Found("")
STATES = (
    FRESH,
    Found("half-by-hand", frozenset({"programs", "valve", "unit", "directory", "owner", "mode"})),
    Found("wrong-owner", frozenset({"programs", "valve", "unit", "directory", "owner", "mode"}), full=True),
    Found("other-tool"),
    Found("foreign-netplan", full=True),
    Found("sudoers-broken"),
    Found("sudo-refused", reasons=("sudo refused",), remedies=("/etc/sudoers.d/",), full=True),
    Found(
        "docker-removed",
        reasons=("Docker missing", "neither the NVIDIA container toolkit nor a CDI file"),
        remedies=("docker: install", "apt-get install nvidia-container-toolkit"),
    ),
    Found("etc-read-only", reasons=("mounted read-only",), remedies=("remount,rw",), helps=True),
    Found("docker-hangs", reasons=("Docker hangs",), remedies=("journalctl -u docker",), full=True),
)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(one, id=one.state or "fresh", marks=pytest.mark.full if one.full else ())
        for one in STATES
    ],
)
def test_one_run_ends_ready_or_with_every_reason_and_changes_what_it_showed_and_no_more(
    fleet: FleetDirectory, spark: Machine, found: Found
) -> None:
    fleet.host("spark-01", nano())
    fleet.lock()
    spark.ssh("sudo -n true")  # the first sudo of an account's life leaves its own mark in the home
    if found.state:
        spark.break_(found.state)
    before = snapshot(spark, found)
    run = fleet.run(deploy="prepare")
    after = snapshot(spark, found)
    if found.reasons:
        run.expect(1)
        check_reasons(run, found)
        assert difference(before["files"], after["files"]) == []
        assert after == before
        if not found.helps:
            return
        for command in remedies(run):
            spark.ssh(command)
        run = fleet.run(deploy="prepare").expect(0)
    else:
        run.expect(0)
        rows = planned(run)
        assert {field for field, _ in rows} == found.rows
        check_files(before["files"], after["files"], {path for _, path in rows})
        assert after["docker"] == before["docker"]
        changed = {name for name in after["units"] if after["units"].get(name) != before["units"].get(name)}
        assert changed == {RECOVER}
        assert set(before["units"]) <= set(after["units"])
    again = fleet.run(deploy="prepare").expect(0)
    assert "spark-01   no changes" in again.out


def test_a_spark_with_many_troubles_has_them_all_told_at_once_and_is_not_touched(
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
    everything = Found(
        "",
        reasons=("mounted read-only", "needed for nano (weights", "port 8000", "container toolkit"),
        remedies=(
            "remount,rw",
            "another disk",
            "another `port:`",
            "apt-get install nvidia-container-toolkit",
        ),
    )
    check_reasons(run, everything)


def snapshot(spark: Machine, found: Found) -> dict[str, Any]:
    seen: dict[str, Any] = {"files": spark.files_snapshot(), "units": spark.units()}
    if "docker" not in found.state:
        seen["docker"] = spark.inspect_all()
    return seen


def planned(run: Outcome) -> set[tuple[str, str]]:
    """Return field and path of every change in the report that a run printed."""
    rows = re.findall(r"^  [+~-] (\S+) +(\S+)", run.out, re.MULTILINE)
    return {(field, re.sub("^~", HOME, path)) for field, path in rows}


def check_files(before: FilesSeen, after: FilesSeen, paths: set[str]) -> None:
    """Every planned path is another now; nothing else is but directories that have a new entry."""
    changed = set(difference(before, after))
    assert paths <= changed
    inside = {ENABLED} | paths
    above = {folder for path in inside for folder in parents(path)}
    assert changed <= inside | above
    for folder in (changed & above & set(before)) - paths:
        mode, user, group, _, link = before[folder]
        assert after[folder][:3] + after[folder][4:] == (mode, user, group, link), folder


def parents(path: str) -> set[str]:
    found = set()
    while path not in {"/", ""}:
        path = posixpath.dirname(path)
        found.add(path)
    return found


def check_reasons(run: Outcome, found: Found) -> None:
    """The last words have every reason and what to do, once each."""
    closing = run.err[run.err.index("spark-01   FAILED") :]
    for words in (*found.reasons, *found.remedies):
        assert words in closing
    assert closing.count("do: ") >= len(found.reasons)


def remedies(run: Outcome) -> list[str]:
    """Return the commands that the last words say to type on the Spark."""
    closing = run.err[run.err.index("spark-01   FAILED") :]
    return re.findall(r"do: on spark-01: (.*)", closing)
