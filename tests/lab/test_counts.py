"""What a plan asks of a converged Spark, counted by the Spark's own sshd: one login, one command."""

from __future__ import annotations

from pathlib import Path

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import Outcome
from tests.lab.machine import Machine
from tests.lab.served import converged

NAMES = ("spark-01", "spark-02")
VERBOSE = "printf 'LogLevel VERBOSE\\n' > /etc/ssh/sshd_config.d/00-verbose.conf; systemctl restart ssh"


def seen(machine: Machine) -> tuple[int, int]:
    """Return how many connections and how many commands its sshd has logged."""
    log = machine.sh("journalctl -q -u ssh -o cat").splitlines()
    return sum(line.startswith("Connection from") for line in log), sum(
        "Starting session" in line for line in log
    )


def test_a_plan_of_converged_sparks_is_one_login_and_one_command_each(
    lab: Lab, lab_state: State, tmp_path: Path
) -> None:
    served = converged(lab, lab_state, tmp_path, *NAMES)
    for machine in served.machines:
        machine.sh(VERBOSE)
    unchanged = "".join(f"{name}   no changes\n" for name in NAMES) + "0 to change, 2 unchanged\n"

    def counted(outcome: Outcome) -> list[tuple[int, int]]:
        assert unchanged in outcome.expect(0).text
        return [seen(machine) for machine in served.machines]

    assert counted(served.fleet.plan()) == [(1, 1), (1, 1)]
    assert counted(served.fleet.dry()) == [(2, 2), (2, 2)]
    assert counted(served.fleet.run()) == [
        (3, 3),
        (3, 3),
    ]  # a run with nothing to do asks no more than a plan
