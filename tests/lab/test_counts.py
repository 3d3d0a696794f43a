"""The cost of a plan on a converged Spark, counted by its own sshd: one login, one command."""

from __future__ import annotations

from pathlib import Path

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import Outcome
from tests.lab.machine import Machine
from tests.lab.serving_fleet import converge_fleet

NAMES = ("spark-01", "spark-02")
VERBOSE = "printf 'LogLevel VERBOSE\\n' > /etc/ssh/sshd_config.d/00-verbose.conf; systemctl restart ssh"


def logged(machine: Machine) -> tuple[int, int]:
    """Return how many connections and how many commands its sshd has logged."""
    log = machine.sh("journalctl -q -u ssh -o cat").splitlines()
    return sum(line.startswith("Connection from") for line in log), sum(
        "Starting session" in line for line in log
    )


def test_a_plan_of_converged_sparks_is_one_login_and_one_command_each(
    lab: Lab, lab_state: State, tmp_path: Path
) -> None:
    serving = converge_fleet(lab, lab_state, tmp_path, *NAMES)
    for machine in serving.machines:
        machine.sh(VERBOSE)
    unchanged = "".join(f"{name}   no changes\n" for name in NAMES) + "0 to change, 2 unchanged\n"

    def counts(outcome: Outcome) -> list[tuple[int, int]]:
        assert unchanged in outcome.expect(0).text
        return [logged(machine) for machine in serving.machines]

    assert counts(serving.fleet.plan()) == [(1, 1), (1, 1)]
    assert counts(serving.fleet.dry()) == [(2, 2), (2, 2)]
    assert counts(serving.fleet.run()) == [
        (3, 3),
        (3, 3),
    ]  # a run without changes costs no more than a plan
