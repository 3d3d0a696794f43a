"""A fault of one Spark is reported for that Spark, with the next step, and stops no other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import Outcome
from tests.lab.machine import Machine
from tests.lab.on_host import HostPrograms
from tests.lab.serving_fleet import ServingFleet, converge_fleet

FIND = "find /home/nvidia/vllm/hub -name '*.safetensors' -exec readlink -f {} + | head -1"
LOSE_WEIGHTS = f"truncate -s 10 $({FIND})"


@dataclass(frozen=True)
class Broken:
    """A fault of ``sparkfleet lab break``, and how a report shows it."""

    fault: str
    reason: str
    remedy: str
    state: str = "unknown"
    """State in the plan: ``unknown`` could not be read, ``blocked`` must not be changed."""
    before: str = ""
    """A command on the machine before the fault, so that a run has something to change."""
    engine_stops: bool = False
    """Whether the fault itself stops the engine."""
    recovers: bool = True
    """Whether the engine serves again without help as soon as the fault is over."""
    full: bool = False


BROKEN = (
    Broken("powered-off", "SSH connection refused", "check that it is on", engine_stops=True),
    Broken("sshd-stopped", "closed the connection before an SSH banner", "systemctl status ssh", full=True),
    Broken("ssh-hangs", "SSH banner", "systemctl status ssh", full=True),
    Broken("wrong-host-key", "SSH host key differs", "ssh-keygen"),
    Broken("sudo-refused", "sudo refused: sudo: a password is required", "/etc/sudoers.d/"),
    Broken("no-python3", "python3 is not installed", "apt-get install python3"),
    Broken("docker-stopped", "Docker down", "systemctl start docker", engine_stops=True),
    Broken("docker-hangs", "Docker hangs", "journalctl -u docker", full=True),
    Broken("no-docker", "Docker missing: Docker is not installed", "install Docker", engine_stops=True),
    Broken(
        "docker-full", "needed for nano (image", "docker image prune", "blocked",
        engine_stops=True, recovers=False,
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
def pair(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> ServingFleet:
    """Both Sparks of a fleet, converged; each test restores that."""
    return converge_fleet(lab, lab_state, tmp_path_factory.mktemp("pair"), "spark-01", "spark-02")


@pytest.mark.provokes("python-missing")
@pytest.mark.parametrize(
    "broken",
    [pytest.param(case, id=case.fault, marks=pytest.mark.full if case.full else ()) for case in BROKEN],
)
def test_a_broken_spark_is_reported_with_reason_and_remedy_and_the_other_converges(
    pair: ServingFleet, broken: Broken
) -> None:
    fleet, (bad, good) = pair.fleet, pair.machines
    bad.sh(broken.before or "true")
    good.sh("rm -f /usr/local/bin/spark-valve")
    started = engine(bad)
    bad.break_(broken.fault)
    try:
        check_report(fleet.plan().expect(1).out, broken)
        dry = fleet.dry().expect(1)
        check_report(dry.text, broken)
        assert not good.ok("test -e /usr/local/bin/spark-valve")
        run = fleet.run().expect(1)
        check_report(run.text, broken)
        check_closing(run, broken)
        assert good.ok("test -x /usr/local/bin/spark-valve")
    finally:
        bad.repair()
    if not broken.engine_stops:
        assert engine(bad) == started
    if broken.recovers:
        HostPrograms(bad).wait("curl -sf -m 5 http://127.0.0.1:8000/v1/models", 120)
    if broken.before or not broken.recovers:
        fleet.run().expect(0)
    assert fleet.plan().expect(0).out.endswith("0 to change, 2 unchanged\n")


def engine(machine: Machine) -> str:
    return machine.sh("docker inspect -f '{{.Id}} {{.State.StartedAt}}' nano")


def check_report(report: str, broken: Broken) -> None:
    """Fail unless the report has the Spark's state, reason and next step, and a plan for the other Spark."""
    assert broken.reason in report
    assert broken.remedy in report
    assert f"1 {broken.state}" in report
    assert "spark-02   host" in report
    assert "/usr/local/bin/spark-valve" in report


def check_closing(run: Outcome, broken: Broken) -> None:
    """Fail unless the failed Spark is repeated last, with reason and next step."""
    closing = run.err[run.err.index("spark-01   FAILED") :]
    assert broken.reason in closing
    assert "do: " in closing
    assert broken.remedy in closing


def test_output_of_a_login_shell_changes_nothing(pair: ServingFleet) -> None:
    fleet, (chatty, _) = pair.fleet, pair.machines
    chatty.break_("banner")
    try:
        printed = chatty.ssh("true").out
        assert "Welcome to DGX Spark!" in printed
        assert '"outcome": "promoted"' in printed
        fleet.plan().expect(0)
        pair.set("spark-01", max_model_len=8192)
        assert fleet.changes("spark-01") == [("flag", "--max-model-len", "262144", "8192")]
        run = fleet.run().expect(0)
        for step in ("nano create", "nano stop", "nano gate", "nano promote"):
            assert step in run.err  # progress lines are recognized among the shell's output
        fleet.plan().expect(0)
    finally:
        chatty.repair()
    assert "8192" in HostPrograms(chatty).inspect()["Args"]


def test_a_spark_that_breaks_between_plan_and_run_does_not_stop_the_other(pair: ServingFleet) -> None:
    fleet, (bad, good) = pair.fleet, pair.machines
    pair.set("spark-01", max_model_len=4096)
    pair.set("spark-02", max_model_len=4096)
    before = engine(bad)
    with fleet.start("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y") as process:
        assert process.stdout is not None
        reason = []
        for line in process.stdout:
            reason.append(line)
            if "to change, 0 unchanged" in line:
                bad.break_("sudo-refused")
    text = "".join(reason)
    bad.repair()
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert "sudo" in text[text.index("spark-01   FAILED") :]
    assert engine(bad) == before
    assert "4096" in HostPrograms(good).inspect()["Args"]
    fleet.run().expect(0)
    assert "4096" in HostPrograms(bad).inspect()["Args"]
