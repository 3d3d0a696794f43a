"""A change that is interrupted at any moment ends with the old or the new generation, without help.

Moments are chosen by seeds: a few here, many in the full run. A test that fails names its seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sparkfleet.exit_codes import Code
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.on_host import HostPrograms
from tests.lab.serving_fleet import ServingFleet, converge_fleet

RUN = ("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y")
LIMIT_S = 180
"""Seconds to wait for something that must happen without help; a limit, not a measurement."""

IDLE = """
test -z "$(systemctl list-units --no-legend --plain --state=active,activating,deactivating,reloading \
  'sparkfleet-rollout-*' 'sparkfleet-stage-*')"
test -z "$(pgrep -f '[s]parkfleet.pyz (rollout|stage|repair|recover)')"
for d in /var/lib/sparkfleet/rollouts/*/ /var/lib/sparkfleet/jobs/*/; do
  test ! -e $d/request.json || test -e $d/result.json
done
test "$(docker ps -aq | wc -l)" = 1
"""

BEFORE = ("Connecting to hosts", "Loading: deploys", "Ready: deploys")
DURING = (
    "checking the flags with the image's own parser",
    "nano begin",
    "nano create",
    "nano stop",
    "nano memory",
    "nano start: starting nano",
    "nano gate: verifying",
    "nano load",
    "nano ready",
    "nano promote",
)


@dataclass(frozen=True)
class Moment:
    """A number of seconds after the run has printed a text."""

    text: str
    later_s: float

    @staticmethod
    def choose(seed: str, candidates: tuple[str, ...]) -> Moment:
        generator = random.Random(seed)
        return Moment(generator.choice(candidates), round(generator.uniform(0, 0.7), 2))


@dataclass
class ChangingSpark:
    """spark-01 with one service; each change sets another ``--max-model-len``."""

    serving: ServingFleet
    length: int = 262144
    clean: bool = True
    lines: list[str] = field(default_factory=list)

    @property
    def fleet(self) -> FleetDirectory:
        return self.serving.fleet

    @property
    def spark(self) -> Machine:
        return self.serving.machines[0]

    def change(self, moment: Moment, act: Callable[[subprocess.Popen[str]], object]) -> int:
        """Begin a change and act at that moment; return the exit code of the run."""
        self.clean = False
        self.serving.set("spark-01", max_model_len=self.length + 1)
        self.lines = []
        done = False
        with self.fleet.start(*RUN) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self.lines.append(line)
                if moment.text in line and not done:
                    done = True
                    time.sleep(moment.later_s)
                    act(process)
        code = process.returncode
        assert done, f"never reached {moment}:\n{self.text}"
        assert "Traceback" not in self.text, self.text
        return code

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def expect_old_or_new_generation(self) -> None:
        """Wait until no job runs on the Spark; fail unless one complete generation serves."""
        host = HostPrograms(self.spark)
        host.wait(f"set -e\n{IDLE}\nsleep 1\n{IDLE}", LIMIT_S)
        host.wait("systemctl is-active --quiet sparkfleet-nano.service", LIMIT_S)
        host.wait("curl -sf -m 5 http://127.0.0.1:8000/v1/models", LIMIT_S)
        assert host.serves()
        assert host.containers() == ["nano"]
        assert self.spark.sh("systemctl is-enabled sparkfleet-nano.service") == "enabled"
        assert self.running_length() in {self.length, self.length + 1}
        made_for = self.spark.sh(
            "docker inspect -f '{{index .Config.Labels \"io.sparkfleet.generation\"}}' nano"
        )
        assert f'"generation": "{made_for}"' in self.spark.sh(
            "cat /var/lib/sparkfleet/services/nano/current.json"
        )

    def running_length(self) -> int:
        """Return the running engine's --max-model-len, read from ``docker inspect``."""
        text = HostPrograms(self.spark).inspect()["Args"]
        return int(text[text.index("--max-model-len") + 1])

    def expect_next_run_converges(self) -> None:
        """Run again: the new generation serves, and nothing is left to do."""
        self.fleet.run().expect(0)
        self.length += 1
        assert self.running_length() == self.length
        assert HostPrograms(self.spark).serves()
        assert self.fleet.plan().expect(0).out.startswith("spark-01   no changes\n")
        self.clean = True


@pytest.fixture(scope="module")
def shared(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> list[ChangingSpark]:
    """Holds the module's machine, so that a test after a failed one gets a fresh one."""
    return []


@pytest.fixture
def changing(
    shared: list[ChangingSpark], lab: Lab, lab_state: State, tmp_path: Path, request: pytest.FixtureRequest
) -> ChangingSpark:
    """A converged spark-01."""
    if not shared or not shared[0].clean:
        shared[:] = [ChangingSpark(converge_fleet(lab, lab_state, tmp_path, "spark-01"))]
    return shared[0]


def seeds(kind: str, sample: int, whole: int) -> pytest.MarkDecorator:
    """Return a parametrization: the first few seeds in every run, all of them in the full one."""
    names = [f"{kind}-{number}" for number in range(whole)]
    marks = [pytest.param(name, marks=pytest.mark.full) for name in names[sample:]]
    return pytest.mark.parametrize("seed", [*names[:sample], *marks])


def kill(process: subprocess.Popen[str]) -> None:
    """End the operator's program and all that it started, at once."""
    os.killpg(process.pid, signal.SIGKILL)


@seeds("operator", 3, 30)
def test_the_operators_program_is_killed_at_any_moment(changing: ChangingSpark, seed: str) -> None:
    assert changing.change(Moment.choose(seed, (*BEFORE, *DURING)), kill) == -signal.SIGKILL
    changing.expect_old_or_new_generation()
    changing.expect_next_run_converges()


@seeds("connection", 2, 20)
def test_a_connection_cut_at_any_moment_is_opened_again_and_the_run_succeeds(
    changing: ChangingSpark, seed: str
) -> None:
    moment = Moment.choose(seed, (BEFORE[-1], *DURING))
    code = changing.change(moment, lambda _: changing.spark.break_("ssh-cut"))
    changing.expect_old_or_new_generation()
    assert code == 0, changing.text
    changing.expect_next_run_converges()


@seeds("packets", 0, 4)
def test_a_connection_whose_packets_are_dropped(changing: ChangingSpark, seed: str) -> None:
    def cut_until_idle(_: subprocess.Popen[str]) -> None:
        changing.spark.break_("ssh-hangs")
        try:
            changing.expect_old_or_new_generation()
        finally:
            changing.spark.repair()

    code = changing.change(Moment.choose(seed, DURING), cut_until_idle)
    assert code == 0, changing.text
    changing.expect_old_or_new_generation()
    changing.expect_next_run_converges()


@seeds("rollout", 2, 20)
def test_the_rollout_on_the_spark_is_killed_at_any_moment(changing: ChangingSpark, seed: str) -> None:
    code = changing.change(
        Moment.choose(seed, DURING[1:]),
        lambda _: changing.spark.sh("pkill -KILL -f 'sparkfleet.pyz rollout-run'", check=False),
    )
    changing.expect_old_or_new_generation()
    assert code == (0 if changing.running_length() == changing.length + 1 else 1), changing.text
    changing.expect_next_run_converges()


@seeds("reboot", 1, 10)
def test_the_spark_is_rebooted_at_any_moment(changing: ChangingSpark, seed: str) -> None:
    code = changing.change(Moment.choose(seed, (BEFORE[-1], *DURING)), lambda _: changing.spark.reboot())
    changing.expect_old_or_new_generation()
    assert code in {0, 1}
    changing.expect_next_run_converges()


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    """Send SIGINT to the program and all that it started, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


@seeds("ctrl-c", 2, 20)
def test_ctrl_c_at_any_moment_ends_the_run_and_names_the_spark_on_which_it_continues(
    changing: ChangingSpark, seed: str
) -> None:
    moment = Moment.choose(seed, (*BEFORE, *DURING[:-2]))
    assert changing.change(moment, press_ctrl_c) == Code.INTERRUPTED
    last = changing.lines[-1]
    assert last.startswith("interrupted: ")
    assert "continues on spark-01" in last or DURING[1] not in changing.text
    changing.expect_old_or_new_generation()
    changing.expect_next_run_converges()


JOURNAL = "$(ls -td /var/lib/sparkfleet/rollouts/*/ | head -1)"


@pytest.mark.parametrize("files", ["events.jsonl", ". events.jsonl"], ids=["events", "directory"])
def test_a_journal_that_cannot_be_written_after_the_stop_ends_in_a_state_that_serves(
    changing: ChangingSpark, files: str
) -> None:
    host = HostPrograms(changing.spark)
    try:
        code = changing.change(
            Moment("nano start: starting nano", 0.0),
            lambda _: changing.spark.sh(f"cd {JOURNAL}; chattr +i {files}"),
        )
        assert code == 1, changing.text
        assert "rolled back: the previous generation serves again and passed its gate" in changing.text
        assert "Operation not permitted" in changing.text
        host.wait(
            "test -z \"$(systemctl list-units --all --no-legend --plain 'sparkfleet-rollout-*')\"", LIMIT_S
        )
        assert host.serves()
        assert changing.running_length() == changing.length
        logged = changing.spark.sh("journalctl --no-pager -u 'sparkfleet-rollout-*'")
        assert "cannot be written: [Errno 1] Operation not permitted" in logged
    finally:
        changing.spark.sh("chattr -R -i /var/lib/sparkfleet/rollouts")
    changing.expect_next_run_converges()  # it also gives a result that was kept in memory its place
    changing.expect_old_or_new_generation()


@seeds("fetch", 1, 3)
def test_the_operators_program_is_killed_while_the_spark_downloads(
    changing: ChangingSpark, seed: str
) -> None:
    changing.spark.sh(
        "rm $(find /home/nvidia/vllm/hub -name '*.safetensors' -exec readlink -f {} + | head -1)"
    )
    assert changing.change(Moment.choose(seed, ("fetch download",)), kill) == -signal.SIGKILL
    changing.expect_old_or_new_generation()
    assert changing.running_length() == changing.length
    changing.expect_next_run_converges()
