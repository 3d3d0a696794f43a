"""What pyinfra's command line prints in a run of sparkfleet, in processes: its import patches threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
from types import SimpleNamespace
from pyinfra_cli import cli
from pyinfra.api.exceptions import PyinfraError
from sparkfleet.fleet.run import fleet_run, pyinfra_output
from sparkfleet.plan.model import ChangeSet, HostPlan, Plan
from sparkfleet.plan.operations import UserDeploy

shown, change, foreign, answer = sys.argv.pop(1).split(",")
sets = (ChangeSet("x", (UserDeploy("x"),)),) if change else ()
run = fleet_run.FleetRun(shown=bool(shown), own_operations={"own"})
state = SimpleNamespace(check_for_changes=True, active_hosts={"a"}, get_op_order=lambda: [foreign or "own"])
fleet_run.run_of = lambda _: run
fleet_run.whole_plan = lambda _: Plan((HostPlan("spark-01", sets),))
cli._handle_commands = lambda state, *_: (True, state, None)
cli.print_results = lambda _: print("pyinfra's results")
pyinfra_output.click.confirm = lambda text, err: print(text) or answer == "y"
pyinfra_output.install()
can_diff, *_ = cli._handle_commands(state)
print("pyinfra asks" if can_diff else "pyinfra asks nothing")
cli.print_results(state)
"""
QUESTION = "Apply 1 change on spark-01?\n"


@pytest.mark.parametrize(
    ("values", "code", "out"),
    [
        pytest.param("x,x,,y", 0, f"{QUESTION}pyinfra asks nothing\n", id="yes"),
        pytest.param("x,x,,n", 3, QUESTION, id="no"),
        pytest.param("x,,,n", 0, "pyinfra asks nothing\n", id="nothing-to-change"),
        pytest.param(",x,,n", 0, "pyinfra asks\npyinfra's results\n", id="no-plan-of-sparkfleet"),
        pytest.param("x,x,foreign,n", 0, "pyinfra asks\npyinfra's results\n", id="another-deploy"),
    ],
)
def test_question_and_results_are_those_of_sparkfleet_where_its_plan_has_every_operation(
    values: str, code: int, out: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, values], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert ("cancelled: no host was changed" in done.stderr) == (code == 3)


NO_HOSTS = """
from types import SimpleNamespace
from pyinfra_cli import cli
from pyinfra.api.exceptions import PyinfraError
from sparkfleet.fleet.run import fleet_run, pyinfra_output

def connect_all(state):
    raise PyinfraError("No hosts remaining!")

cli.connect_all = connect_all
fleet_run.print_summary = lambda _: print("summary")
pyinfra_output.install()
cli.connect_all(SimpleNamespace(active_hosts=set()))
"""


def test_a_run_without_a_host_left_ends_with_the_summary_and_an_exit_code() -> None:
    done = subprocess.run([sys.executable, "-c", NO_HOSTS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "summary\n", "")
