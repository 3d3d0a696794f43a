"""Many Sparks in one run: changed side by side, and an unreachable one stops no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.serving_fleet import nano

INSTALLED = "test -x /usr/local/bin/spark-valve && test -x /usr/local/lib/sparkfleet/sparkfleet.pyz"


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.full)])
def test_all_sparks_are_prepared_side_by_side_and_an_unreachable_one_is_reported(
    tmp_path: Path, count: int
) -> None:
    docker, lab = Docker(), Lab(tmp_path, "many")
    try:
        state = lifecycle.up(docker, lab, count, print)
        machines = [Machine(machine.name, lab, state) for machine in state.machines]
        fleet = FleetDirectory(tmp_path / "checkout", lab)
        for machine in machines:
            fleet.host(machine.name, nano())
        fleet.lock()
        dead = machines[count // 2]
        alive = [machine for machine in machines if machine is not dead]
        dead.break_("powered-off")

        run = fleet.run(deploy="prepare").expect(1)
        assert f"{count - 1} to change, 0 unchanged, 1 unknown" in run.out
        assert [machine.name for machine in alive if not machine.ok(INSTALLED)] == []
        assert run.err.count("   FAILED") == 1
        assert "SSH connection refused" in run.err[run.err.index(f"{dead.name}   FAILED") :]
        assert run.err.count("host: executing") == count - 1

        dead.repair()
        second = fleet.run(deploy="prepare").expect(0)
        assert f"1 to change, {count - 1} unchanged" in second.out
        assert dead.ok(INSTALLED)
    finally:
        lifecycle.down(docker, lab, also_images=False, report=print)
