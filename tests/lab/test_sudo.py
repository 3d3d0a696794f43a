"""A Spark whose sudo asks for a password, as delivered, converges like any other."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine, difference
from tests.lab.scanner import Scanner
from tests.lab.serving_fleet import nano, reset_machines

PREFLIGHT = ("sparkfleet", "status", "inventories/lab.py", "--preflight", "--run", "--all")
SUDO_TIMESTAMPS = "ls -la --full-time /run/sudo/ts 2>/dev/null || true"
"""Sudo's record of recent authentications."""
FAILURES = "journalctl --no-pager -t sudo | grep -c 'authentication failure' || true"


@dataclass
class PasswordFleet:
    """A fresh Spark whose sudo requires a password, and the operator's file with that password."""

    fleet: FleetDirectory
    spark: Machine
    password: Path
    scanner: Scanner

    def clean(self, outcome: Outcome) -> Outcome:
        """Return the outcome; fail if its output has the password."""
        assert not self.scanner.text(outcome.text), outcome.text
        return outcome


@pytest.fixture(scope="module")
def password_fleet(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> PasswordFleet:
    root = tmp_path_factory.mktemp("sudo")
    (spark,) = reset_machines(lab, lab_state, "spark-01")
    spark.break_("sudo-asks")
    canary = f"canary {secrets.token_hex(12)} $'\"\\"
    spark.sh("chpasswd", stdin=f"nvidia:{canary}\n")
    # The first sudo of an account writes a file to its home.
    spark.sh("sudo -k -S -p '' true", user="nvidia", stdin=f"{canary}\n")
    password = root / "password"
    password.write_text(f"{canary}\n")
    fleet = FleetDirectory(root / "checkout", lab)
    fleet.host("spark-01", nano())
    fleet.lock()
    return PasswordFleet(fleet, spark, password, Scanner(canary))


def test_without_the_password_the_plan_names_the_options_that_set_it(password_fleet: PasswordFleet) -> None:
    outcome = password_fleet.fleet.plan().expect(1).out
    assert "sudo refused: sudo: a password is required" in outcome
    assert "sudo_password" in outcome
    assert "SPARKFLEET_SUDO_PASSWORD" in outcome


def test_a_wrong_password_is_tried_once_and_reported_with_its_source(password_fleet: PasswordFleet) -> None:
    before = int(password_fleet.spark.sh(FAILURES))
    password_fleet.fleet.env["SPARKFLEET_SUDO_PASSWORD"] = "wrong"
    try:
        outcome = password_fleet.fleet.run().expect(1)
    finally:
        del password_fleet.fleet.env["SPARKFLEET_SUDO_PASSWORD"]
    assert "sudo refused with the password of env:SPARKFLEET_SUDO_PASSWORD" in outcome.out
    assert "1 incorrect password attempt" in outcome.out
    assert "do: ssh -t spark-01 sudo -k true" in outcome.err
    assert int(password_fleet.spark.sh(FAILURES)) == before + 1


def test_with_the_password_a_dry_run_leaves_no_trace_and_a_run_converges(
    password_fleet: PasswordFleet,
) -> None:
    fleet, spark = password_fleet.fleet, password_fleet.spark
    fleet.host("spark-01", {"ssh": {"sudo_password": f"file:{password_fleet.password}"}, **nano()})
    timestamps = spark.sh(SUDO_TIMESTAMPS)
    before = spark.snapshot()
    with password_fleet.scanner.watching() as watch:
        password_fleet.clean(fleet.dry("-vvv", "--debug").expect(0))
        after = spark.snapshot()
        password_fleet.clean(fleet.run("-vvv", "--debug").expect(0))
        password_fleet.clean(fleet.plan("--json").expect(0))
        result = password_fleet.clean(
            fleet.command("sparkfleet", "status", "inventories/lab.py", "--preflight", "--run", "--all")
        )
    assert difference(before["files"], after["files"]) == []
    assert (after["docker"], after["units"]) == (before["docker"], before["units"])
    assert "nano" in spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    for row in (r"sudo\s+ok", r"GPU in a container\s+ok"):
        assert re.search(row, result.out), result.out
    assert watch.scans > 10
    assert watch.found == []
    assert spark.sh(SUDO_TIMESTAMPS) == timestamps


def test_no_file_has_the_password_afterwards(password_fleet: PasswordFleet) -> None:
    assert password_fleet.scanner.spark(password_fleet.spark) == []
    assert password_fleet.scanner.directory(password_fleet.fleet.root.parent) == [
        str(password_fleet.password)
    ]
