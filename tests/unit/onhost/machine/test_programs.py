"""A supervisor reports the programs that it was started from; a repair by other ones restarts it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from sparkfleet.onhost.machine import programs
from sparkfleet.onhost.rollout import services
from sparkfleet.onhost.supervisor.supervisor import Supervisor
from tests.unit.onhost.supervisor.test_supervisor import after
from tests.unit.onhost.world import World, generation

NANO = generation()
OLD, NEW = "0" * 12, "1" * 12


def test_a_program_knows_the_file_that_it_was_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sparkfleet.pyz"
    path.write_bytes(b"programs")
    monkeypatch.setattr(sys, "argv", [str(path), "supervisor"])
    assert programs.identity() == hashlib.sha256(b"programs").hexdigest()[:12]
    path.unlink()
    assert programs.identity() == ""


@pytest.mark.parametrize("text", ["nano runs in 3f2a91c00000", "waits; for; dockerd", ""])
def test_what_a_supervisor_status_is_read_again(text: str) -> None:
    assert programs.read_status(programs.status(text, NEW) + "\n") == NEW
    assert programs.read_status(programs.status(text, "")) == ""


def test_a_supervisor_status_it_with_every_state(world: World) -> None:
    world.serve(NANO)
    notes: list[str] = []
    supervisor = Supervisor(world, "nano", 2048, 60, world.output.append, notes.append, NEW)
    world.docker_gone = True
    after(world, 5, supervisor.stop.set)
    supervisor.run()
    statuses = [note for note in notes if "STATUS=" in note]
    assert statuses
    assert {programs.read_status(note) for note in statuses} == {NEW}


def asked_of_systemd(world: World, by: str) -> list[str]:
    """Repair; return the verbs that systemctl was called with."""
    verbs: list[str] = []
    original = world._systemctl

    def noted(verb: str, unit: str) -> object:
        verbs.append(verb)
        return original(verb, unit)

    world._systemctl = noted  # type: ignore[assignment, method-assign]
    services.repair(world, NANO, by)
    return verbs


@pytest.mark.parametrize("output", [programs.status("nano runs", OLD), "nano runs", ""])
def test_a_supervisor_of_other_programs_is_replaced_and_the_engine_runs_on(world: World, output: str) -> None:
    box = world.serve(NANO)
    world.supervisor_status = output
    assert "kill" in asked_of_systemd(world, NEW)
    assert (box.starts, box.running) == (1, True)
    assert world.active == {NANO.unit_name}


def test_a_supervisor_of_these_programs_is_left_alone(world: World) -> None:
    world.serve(NANO)
    world.supervisor_status = programs.status("nano runs", NEW)
    assert "kill" not in asked_of_systemd(world, NEW)
