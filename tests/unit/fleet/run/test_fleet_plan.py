"""An error on one host makes that host unknown, and the others are planned.

In a process of its own: pyinfra's modules patch the standard library for gevent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[4]
OUTPUT = "result of the test: "

PROGRAM = """
import pyinfra_cli
import json, sys
from dataclasses import replace
from pathlib import Path
from pyinfra.api.config import Config
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.context import ctx_state
from sparkfleet.contract import codec
from sparkfleet.fleet import prune, queries
from sparkfleet.fleet.run import fleet_plan, fleet_run, spark_plan
from sparkfleet.probe.machine import ObservedMachine
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import HOST

place = sys.argv[1]

def fail(host, here):
    if host.name == "spark-02" and here == place:
        raise ValueError("out of ideas")

def connect(connector):
    fail(connector.host, "connect")

def observe(host, _request):
    fail(host, "probe")
    machine = ObservedMachine(name=host.name, machine_id="a" * 32)
    return replace(fake_spark.converged(spark_plan.declared(host)), machine=machine)

def begin(*_):
    names = ("spark-01", "spark-02", "spark-03")
    hosts = [(name, {"sparkfleet": codec.plain(replace(HOST, name=name))}) for name in names]
    state = State(Inventory((hosts, {})), Config(), check_for_changes=False)
    state.cwd = str(Path.cwd())
    ctx_state.set(state)
    return state

SSHConnector.connect, fleet_plan.begin = connect, begin
spark_plan.observe = queries.observe = prune.observe = observe

def shown(diagnostic):
    return diagnostic and codec.plain(diagnostic)

inventory = Path("inventories/lab.py")
planned = fleet_plan.fleet_plan(inventory)
worked = []
state, _ = fleet_plan.on_each(inventory, (), lambda host: (fail(host, "work"), worked.append(host.name)))
print("result of the test: " + json.dumps({
    "worked": sorted(worked),
    "unreachable": sorted(fleet_run.run_of(state).unreachable),
    "plan": {one.host: shown(one.unknown) for one in planned.hosts},
    "warnings": [(one.code, one.location) for one in planned.warnings],
    "status": {one.host: shown(one.unknown) for one in queries.fleet_status(inventory)},
    "prune": {name: type(seen).__name__ for name, (_, seen) in prune.probe_all(inventory, {}).seen.items()},
}))
"""


def result(place: str, cwd: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, place],
        cwd=cwd,
        env={"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert OUTPUT in done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.partition(OUTPUT)[2])
    return found


@pytest.mark.parametrize("place", ["connect", "probe"])
def test_an_unexpected_error_on_one_host_makes_it_unknown_and_the_others_are_planned(
    place: str, tmp_path: Path
) -> None:
    found = result(place, tmp_path)
    for command in ("plan", "status"):
        unknown = found[command].pop("spark-02")
        assert unknown["message"] == "ValueError: out of ideas"
        assert unknown["code"] == "operation-failed"
        assert "SPARKFLEET_DEBUG=1" in unknown["hint"]
        assert found[command] == {"spark-01": None, "spark-03": None}
    assert found["warnings"] == [["machine-id-shared", "spark-01, spark-03"]]  # of those that were read
    assert found["prune"] == {"spark-01": "Observed", "spark-02": "Diagnostic", "spark-03": "Observed"}


def test_an_unexpected_error_in_the_work_on_one_host_does_not_end_that_on_the_others(tmp_path: Path) -> None:
    found = result("work", tmp_path)
    assert (found["worked"], found["unreachable"]) == (["spark-01", "spark-03"], ["spark-02"])
