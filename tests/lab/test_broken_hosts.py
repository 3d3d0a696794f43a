"""What is wrong with one Spark is said of that Spark, with the next step, and stops no other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import Outcome
from tests.lab.machine import Machine
from tests.lab.on_host import OnHost
from tests.lab.served import Served, converged

FIND = "find /home/nvidia/vllm/hub -name '*.safetensors' -exec readlink -f {} + | head -1"
LOSE_WEIGHTS = f"truncate -s 10 $({FIND})"


@dataclass(frozen=True)
class Broken:
    """A fault of ``sparkfleet lab break``, and what a user reads of it."""

    fault: str
    said: str
    todo: str
    state: str = "unknown"
    """In the plan's words: unknown could not be read, blocked could and must not be changed."""
    before: str = ""
    """Shell on the machine, before the fault: something that a run has to change."""
    touched: bool = False
    """The fault itself stops the engine."""
    comes_back: bool = True
    """The engine serves again as soon as the fault is over, with nobody's help."""
    full: bool = False


BROKEN = (
    Broken("powered-off", "SSH connection refused", "check that it is on", touched=True),
    Broken("sshd-stopped", "closed the connection before an SSH banner", "systemctl status ssh", full=True),
    Broken("ssh-hangs", "SSH banner", "systemctl status ssh", full=True),
    Broken("wrong-host-key", "SSH host key differs", "ssh-keygen"),
    Broken("sudo-refused", "sudo refused: sudo: a password is required", "/etc/sudoers.d/"),
    Broken("no-python3", "python3 is not installed", "apt-get install python3"),
    Broken("docker-stopped", "Docker down", "systemctl start docker", touched=True),
    Broken("docker-hangs", "Docker hangs", "journalctl -u docker", full=True),
    Broken("no-docker", "Docker missing: Docker is not installed", "install Docker", touched=True),
    Broken(
        "docker-full", "needed for nano (image", "docker image prune", "blocked",
        touched=True, comes_back=False,
    ),
    Broken(
        "models-full", "0 B free, 65 MiB needed for nano (weights", "another disk", "blocked", LOSE_WEIGHTS
    ),
    Broken(
        "state-full", "0 B free, 64 MiB needed for nano (the ", "df -h /var/lib/sparkfleet", "blocked",
        before="rm -f /usr/local/bin/spark-valve; systemctl disable -q sparkfleet-nano",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def pair(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Both Sparks of a fleet, converged; each test leaves them so."""
    return converged(lab, lab_state, tmp_path_factory.mktemp("pair"), "spark-01", "spark-02")


@pytest.mark.provokes("python-missing")
@pytest.mark.parametrize(
    "broken",
    [pytest.param(case, id=case.fault, marks=pytest.mark.full if case.full else ()) for case in BROKEN],
)
def test_a_broken_spark_is_told_with_reason_and_next_step_and_the_other_converges(
    pair: Served, broken: Broken
) -> None:
    fleet, (bad, good) = pair.fleet, pair.machines
    bad.sh(broken.before or "true")
    good.sh("rm -f /usr/local/bin/spark-valve")
    started = engine(bad)
    bad.break_(broken.fault)
    try:
        check_said(fleet.plan().expect(1).out, broken)
        dry = fleet.dry().expect(1)
        check_said(dry.text, broken)
        assert not good.ok("test -e /usr/local/bin/spark-valve")
        run = fleet.run().expect(1)
        check_said(run.text, broken)
        check_last_words(run, broken)
        assert good.ok("test -x /usr/local/bin/spark-valve")
    finally:
        bad.mend()
    if not broken.touched:
        assert engine(bad) == started
    if broken.comes_back:
        OnHost(bad).wait("curl -sf -m 5 http://127.0.0.1:8000/v1/models", 120)
    if broken.before or not broken.comes_back:
        fleet.run().expect(0)
    assert fleet.plan().expect(0).out.endswith("0 to change, 2 unchanged\n")


def engine(machine: Machine) -> str:
    return machine.sh("docker inspect -f '{{.Id}} {{.State.StartedAt}}' nano")


def check_said(report: str, broken: Broken) -> None:
    """The report names the Spark's state, reason and next step, and plans the other Spark."""
    assert broken.said in report
    assert broken.todo in report
    assert f"1 {broken.state}" in report
    assert "spark-02   host" in report
    assert "/usr/local/bin/spark-valve" in report


def check_last_words(run: Outcome, broken: Broken) -> None:
    """The failed Spark comes last, with reason and next step once more."""
    closing = run.err[run.err.index("spark-01   FAILED") :]
    assert broken.said in closing
    assert "do: " in closing
    assert broken.todo in closing


def test_a_login_shell_that_talks_changes_nothing(pair: Served) -> None:
    fleet, (talking, _) = pair.fleet, pair.machines
    talking.break_("banner")
    try:
        assert "Welcome to DGX Spark!" in talking.ssh("true").out
        fleet.plan().expect(0)
        pair.set("spark-01", max_model_len=8192)
        assert fleet.changes("spark-01") == [("flag", "--max-model-len", "262144", "8192")]
        run = fleet.run().expect(0)
        for step in ("nano create", "nano stop", "nano gate", "nano promote"):
            assert step in run.err  # progress is not lost among the shell's words
        fleet.plan().expect(0)
    finally:
        talking.mend()
    assert "8192" in OnHost(talking).inspect()["Args"]


def test_a_spark_that_breaks_between_plan_and_run_fails_alone(pair: Served) -> None:
    fleet, (bad, good) = pair.fleet, pair.machines
    pair.set("spark-01", max_model_len=4096)
    pair.set("spark-02", max_model_len=4096)
    before = engine(bad)
    with fleet.start("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y") as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Beginning operation run" in line:
                bad.break_("sudo-refused")
    text = "".join(said)
    bad.mend()
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert "sudo" in text[text.index("spark-01   FAILED") :]
    assert engine(bad) == before
    assert "4096" in OnHost(good).inspect()["Args"]
    fleet.run().expect(0)
    assert "4096" in OnHost(bad).inspect()["Args"]
