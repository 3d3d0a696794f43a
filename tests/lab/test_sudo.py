"""A Spark whose sudo asks for a password, as it comes from the box, is served like any other."""

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
from tests.lab.served import fresh, nano

PREFLIGHT = ("sparkfleet", "status", "inventories/lab.py", "--preflight", "--run")
KEPT = "ls -la --full-time /run/sudo/ts 2>/dev/null || true"
"""Sudo's memory of who proved themselves."""
FAILURES = "journalctl --no-pager -t sudo | grep -c 'authentication failure' || true"


@dataclass
class Asking:
    """A fresh Spark whose sudo asks, and the password for it in a file of the operator's."""

    fleet: FleetDirectory
    spark: Machine
    password: Path
    scanner: Scanner

    def clean(self, said: Outcome) -> Outcome:
        """Return what a command said, which must not be the password."""
        assert not self.scanner.text(said.text), said.text
        return said


@pytest.fixture(scope="module")
def asking(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Asking:
    root = tmp_path_factory.mktemp("sudo")
    (spark,) = fresh(lab, lab_state, "spark-01")
    spark.break_("sudo-asks")
    canary = f"canary {secrets.token_hex(12)} $'\"\\"
    spark.sh("chpasswd", stdin=f"nvidia:{canary}\n")
    # The first sudo of an account's life leaves its own mark in the home.
    spark.sh("sudo -k -S -p '' true", user="nvidia", stdin=f"{canary}\n")
    password = root / "password"
    password.write_text(f"{canary}\n")
    fleet = FleetDirectory(root / "checkout", lab)
    fleet.host("spark-01", nano())
    fleet.lock()
    return Asking(fleet, spark, password, Scanner(canary))


def test_without_the_password_the_plan_says_how_to_give_it(asking: Asking) -> None:
    said = asking.fleet.plan().expect(1).out
    assert "sudo refused: sudo: a password is required" in said
    assert "sudo_password" in said
    assert "SPARKFLEET_SUDO_PASSWORD" in said


def test_a_wrong_password_is_tried_once_and_told_with_its_source(asking: Asking) -> None:
    before = int(asking.spark.sh(FAILURES))
    asking.fleet.env["SPARKFLEET_SUDO_PASSWORD"] = "wrong"
    try:
        said = asking.fleet.run().expect(1)
    finally:
        del asking.fleet.env["SPARKFLEET_SUDO_PASSWORD"]
    assert "sudo refused with the password of env:SPARKFLEET_SUDO_PASSWORD" in said.out
    assert "1 incorrect password attempt" in said.out
    assert "do: ssh -t spark-01 sudo -k true" in said.err
    assert int(asking.spark.sh(FAILURES)) == before + 1


def test_with_it_a_dry_run_leaves_no_trace_and_a_run_converges(asking: Asking) -> None:
    fleet, spark = asking.fleet, asking.spark
    fleet.host("spark-01", {"ssh": {"sudo_password": f"file:{asking.password}"}, **nano()})
    kept = spark.sh(KEPT)
    before = spark.everything()
    with asking.scanner.watching() as watch:
        asking.clean(fleet.dry("-vvv", "--debug").expect(0))
        after = spark.everything()
        asking.clean(fleet.run("-vvv", "--debug").expect(0))
        asking.clean(fleet.plan("--json").expect(0))
        seen = asking.clean(
            fleet.command("sparkfleet", "status", "inventories/lab.py", "--preflight", "--run")
        )
    assert difference(before["files"], after["files"]) == []
    assert (after["docker"], after["units"]) == (before["docker"], before["units"])
    assert "nano" in spark.sh("curl -sS --fail http://127.0.0.1:8000/v1/models")
    for row in (r"sudo\s+ok", r"GPU in a container\s+ok"):
        assert re.search(row, seen.out), seen.out
    assert watch.scans > 10
    assert watch.found == []
    assert spark.sh(KEPT) == kept


def test_the_password_is_nowhere_afterwards(asking: Asking) -> None:
    assert asking.scanner.spark(asking.spark) == []
    assert asking.scanner.directory(asking.fleet.root.parent) == [str(asking.password)]
