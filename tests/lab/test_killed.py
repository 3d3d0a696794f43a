"""A change that is interrupted at any moment ends on the old or on the new generation, with nobody's help.

Moments are drawn from seeds: a few here, many in the full run. A test that fails names its seed.
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

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine
from tests.lab.on_host import OnHost
from tests.lab.served import Served, converged

RUN = ("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y")
LIMIT_S = 180
"""Seconds for what must come of itself; a failure, not a measurement."""

AT_REST = """
test -z "$(systemctl list-units --no-legend --plain --state=active,activating,deactivating,reloading \
  'sparkfleet-rollout-*' 'sparkfleet-stage-*')"
test -z "$(pgrep -f '[s]parkfleet.pyz (rollout|stage|repair|recover)')"
for d in /var/lib/sparkfleet/rollouts/*/ /var/lib/sparkfleet/jobs/*/; do
  test ! -e $d/request.json || test -e $d/result.json
done
test "$(docker ps -aq | wc -l)" = 1
"""

BEFORE = ("Connecting to hosts", "Loading: deploys", "Beginning operation run")
DURING = (
    "checking the flags with the image's own parser",
    "nano begin",
    "nano create",
    "nano stop",
    "nano memory",
    "nano start: starting nano",
    "nano gate: the gate",
    "nano load",
    "nano ready",
    "nano promote",
)


@dataclass(frozen=True)
class Moment:
    """So many seconds after the run said this."""

    words: str
    later_s: float

    @staticmethod
    def drawn(seed: str, among: tuple[str, ...]) -> Moment:
        chance = random.Random(seed)
        return Moment(chance.choice(among), round(chance.uniform(0, 0.7), 2))


@dataclass
class Changing:
    """spark-01 with one service whose ``--max-model-len`` each change sets to a value of its own."""

    served: Served
    length: int = 262144
    clean: bool = True
    said: list[str] = field(default_factory=list)

    @property
    def fleet(self) -> FleetDirectory:
        return self.served.fleet

    @property
    def spark(self) -> Machine:
        return self.served.machines[0]

    def change(self, moment: Moment, act: Callable[[subprocess.Popen[str]], object]) -> int:
        """Begin a change and act at that moment; return the exit code of the run."""
        self.clean = False
        self.served.set("spark-01", max_model_len=self.length + 1)
        self.said = []
        acted = False
        with self.fleet.start(*RUN) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self.said.append(line)
                if moment.words in line and not acted:
                    acted = True
                    time.sleep(moment.later_s)
                    act(process)
        code = process.returncode
        assert acted, f"never came to {moment}:\n{self.text}"
        assert "Traceback" not in self.text, self.text
        return code

    @property
    def text(self) -> str:
        return "".join(self.said)

    def expect_old_or_new_serving(self) -> None:
        """Wait until the Spark is at rest; fail unless one whole generation serves there."""
        host = OnHost(self.spark)
        host.wait(f"set -e\n{AT_REST}\nsleep 1\n{AT_REST}", LIMIT_S)
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
        """Return what the running engine was told, by docker's own account."""
        words = OnHost(self.spark).inspect()["Args"]
        return int(words[words.index("--max-model-len") + 1])

    def expect_next_run_converges(self) -> None:
        """Run again: the new generation serves, and nothing is left to do."""
        self.fleet.run().expect(0)
        self.length += 1
        assert self.running_length() == self.length
        assert OnHost(self.spark).serves()
        assert self.fleet.plan().expect(0).out.startswith("spark-01   no changes\n")
        self.clean = True


@pytest.fixture(scope="module")
def shared(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> list[Changing]:
    """Where the module's machine is kept, so that a test after a failed one gets a fresh one."""
    return []


@pytest.fixture
def changing(
    shared: list[Changing], lab: Lab, lab_state: State, tmp_path: Path, request: pytest.FixtureRequest
) -> Changing:
    """A converged spark-01."""
    if not shared or not shared[0].clean:
        shared[:] = [Changing(converged(lab, lab_state, tmp_path, "spark-01"))]
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
def test_the_operators_program_killed_at_any_moment(changing: Changing, seed: str) -> None:
    assert changing.change(Moment.drawn(seed, (*BEFORE, *DURING)), kill) == -signal.SIGKILL
    changing.expect_old_or_new_serving()
    changing.expect_next_run_converges()


@seeds("connection", 2, 20)
def test_the_connection_cut_at_any_moment_is_made_anew_and_the_run_ends_well(
    changing: Changing, seed: str
) -> None:
    moment = Moment.drawn(seed, (BEFORE[-1], *DURING))
    code = changing.change(moment, lambda _: changing.spark.break_("ssh-cut"))
    changing.expect_old_or_new_serving()
    assert code == 0, changing.text
    changing.expect_next_run_converges()


@seeds("packets", 0, 4)
def test_a_connection_whose_packets_go_nowhere(changing: Changing, seed: str) -> None:
    def cut_until_at_rest(_: subprocess.Popen[str]) -> None:
        changing.spark.break_("ssh-hangs")
        try:
            changing.expect_old_or_new_serving()
        finally:
            changing.spark.mend()

    code = changing.change(Moment.drawn(seed, DURING), cut_until_at_rest)
    assert code == 0, changing.text
    changing.expect_old_or_new_serving()
    changing.expect_next_run_converges()


@seeds("rollout", 2, 20)
def test_the_program_on_the_spark_killed_at_any_moment_of_its_work(changing: Changing, seed: str) -> None:
    code = changing.change(
        Moment.drawn(seed, DURING[1:]),
        lambda _: changing.spark.sh("pkill -KILL -f 'sparkfleet.pyz rollout-run'", check=False),
    )
    changing.expect_old_or_new_serving()
    assert code == (0 if changing.running_length() == changing.length + 1 else 1), changing.text
    changing.expect_next_run_converges()


@seeds("reboot", 1, 10)
def test_the_spark_restarted_at_any_moment(changing: Changing, seed: str) -> None:
    code = changing.change(Moment.drawn(seed, (BEFORE[-1], *DURING)), lambda _: changing.spark.reboot())
    changing.expect_old_or_new_serving()
    assert code in {0, 1}
    changing.expect_next_run_converges()


@seeds("fetch", 1, 3)
def test_the_operators_program_killed_while_the_spark_downloads(changing: Changing, seed: str) -> None:
    changing.spark.sh(
        "rm $(find /home/nvidia/vllm/hub -name '*.safetensors' -exec readlink -f {} + | head -1)"
    )
    assert changing.change(Moment.drawn(seed, ("fetch download",)), kill) == -signal.SIGKILL
    changing.expect_old_or_new_serving()
    assert changing.running_length() == changing.length
    changing.expect_next_run_converges()
