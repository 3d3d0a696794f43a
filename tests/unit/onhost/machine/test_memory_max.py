"""Every unit of sparkfleet has a limit of its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet import onhost
from sparkfleet.onhost.machine.memory_max import ROLLOUT_MIB, SUPERVISOR_MIB, memory_max
from sparkfleet.onhost.machine.system import CommandResult
from sparkfleet.onhost.rollout import transient_unit
from sparkfleet.onhost.state import units
from tests.unit.onhost.world import World

SOURCE = Path(onhost.__path__[0])
STARTING = [path for path in sorted(SOURCE.rglob("*.py")) if '"systemd-run"' in path.read_text()]


def test_the_unit_of_a_service_limits_the_supervisor_and_leaves_the_engine_to_it() -> None:
    lines = units.service_unit("nano", "nano", 2048, 60).splitlines()
    assert f"MemoryMax={SUPERVISOR_MIB}M" in lines
    assert "OOMPolicy=continue" in lines


def test_the_recovery_is_limited_as_a_rollout_is() -> None:
    assert f"MemoryMax={ROLLOUT_MIB}M" in units.recover_unit().splitlines()


def test_a_rollout_is_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...], timeout_s: float = 60) -> CommandResult:
        commands.append(tuple(argv))
        return CommandResult(0)

    monkeypatch.setattr(world, "run", run)
    transient_unit.start(world, "s1")
    assert f"--property={memory_max(ROLLOUT_MIB)}" in commands[-1]


@pytest.mark.parametrize("path", STARTING, ids=lambda path: path.stem)
def test_every_program_that_starts_a_unit_limits_it(path: Path) -> None:
    text = path.read_text()
    assert text.count("memory_max(") == text.count('"systemd-run"')
    assert len(STARTING) == 4
