"""``sparkfleet apply`` on a terminal: it shows the plan, asks, and applies what was approved or nothing."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import BIN, FleetDirectory
from tests.lab.serving_fleet import ServingFleet, converge_fleet


def apply_on_terminal(
    fleet: FleetDirectory, answer: str, before_answer: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Run ``sparkfleet apply`` on a terminal and answer its question; return exit code and output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [str(BIN / "sparkfleet"), "apply", "inventories/lab.py"],
        cwd=fleet.root, env={**fleet.environment(), "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "160"},
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown, answered, end = "", False, time.monotonic() + 240
        while time.monotonic() < end:
            if select.select([ours], [], [], 1)[0]:
                try:
                    shown += os.read(ours, 65536).decode("utf-8", "replace")
                except OSError:  # the other end is closed
                    break
            if "[y/N]" in shown and not answered:
                before_answer()
                os.write(ours, f"{answer}\n".encode())
                answered = True
        os.close(ours)
        return process.wait(30), shown


def test_apply_changes_what_was_approved_or_nothing(lab: Lab, lab_state: State, tmp_path: Path) -> None:
    serving: ServingFleet = converge_fleet(lab, lab_state, tmp_path, "spark-01")
    (spark,) = serving.machines
    serving.set("spark-01", max_num_seqs=3)
    running = spark.sh("docker inspect -f '{{.Id}}' nano")

    code, shown = apply_on_terminal(serving.fleet, "n")
    assert (code, "no host was changed" in shown) == (3, True), shown
    assert "--max-num-seqs" in shown
    assert "Apply 1 change on spark-01? About" in shown
    assert spark.sh("docker inspect -f '{{.Id}}' nano") == running

    code, shown = apply_on_terminal(serving.fleet, "y", lambda: spark.sh("docker rm -f nano"))
    assert (code, "the host changed since the plan was shown" in shown) == (1, True), shown

    serving.fleet.run().expect(0)
    serving.set("spark-01", max_num_seqs=5)
    code, shown = apply_on_terminal(serving.fleet, "y")
    assert code == 0, shown
    assert shown.count("~ flag") == 1, shown
    assert "--max-num-seqs 5" in spark.sh("docker inspect -f '{{.Args}} {{.Config.Cmd}}' nano")

    code, shown = apply_on_terminal(serving.fleet, "")
    assert (code, "0 to change" in shown, "[y/N]" in shown) == (0, True, False)
