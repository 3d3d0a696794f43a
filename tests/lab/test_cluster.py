"""Two Sparks serve one model together by vLLM's own way: in one run, as one, and back again when one is lost.

The tests go on from each other's machines; each leaves both serving.
"""

from __future__ import annotations

import os
import signal

import pytest

from sparkfleet.lab.names import Lab
from sparkfleet.lab.state import State
from tests.lab.pairs import Pair, pair_of

LENGTH = 262144
"""The recipe's --max-model-len."""


@pytest.fixture(scope="module")
def shared(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two machines that serve together since one run on what came from the box."""
    made = pair_of(lab, lab_state, tmp_path_factory.mktemp("pair"))
    made.declare()
    made.fleet.lock()
    made.fleet.run().expect(0)
    return made


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """The two, serving as the recipe says."""
    shared.declare()
    if set(shared.lengths()) != {str(LENGTH)} or not shared.serves():
        shared.fleet.run().expect(0)
    return shared


def test_one_run_makes_two_sparks_serve_together_and_leaves_nothing_to_do(pair: Pair) -> None:
    assert pair.serves()
    before = pair.containers()
    pair.expect_nothing_to_do()
    pair.fleet.run().expect(0)
    assert pair.containers() == before


def test_a_change_is_made_on_both_and_takes_a_leftover_away(pair: Pair) -> None:
    leftover = "docker run -d --name old --label io.sparkfleet.service=old --entrypoint sleep"
    pair.machines[1].sh(f"{leftover} $(docker inspect -f '{{{{.Image}}}}' wide) 1000")
    pair.declare(max_model_len=4096)
    text = pair.fleet.plan().out
    assert text.count("--max-model-len 262144 → 4096") == 1
    assert [line for line in text.splitlines() if "container   old" in line and "on spark-02" in line]
    pair.fleet.run().expect(0)
    assert pair.machines[1].sh("docker ps -a --format '{{.Names}}'") == "wide"
    assert pair.lengths() == ["4096", "4096"]
    assert pair.serves()
    pair.expect_nothing_to_do()


@pytest.mark.parametrize("bad", [0, 1])
def test_an_engine_that_fails_on_one_rank_brings_both_back(pair: Pair, bad: int) -> None:
    machine = pair.machines[bad]
    pair.declare(max_model_len=4096)
    code, text = pair.run_with_fault(machine, "crash-after-load")
    assert code == 1
    assert "the previous generation serves again, gated" in text
    assert f"{machine.name} (192.168.176.{bad + 1}): the engine ended with exit code 1" in text
    pair.wait_until_at_rest()
    assert pair.lengths() == [str(LENGTH), str(LENGTH)]


def test_a_member_that_cannot_be_reached_leaves_both_alone(pair: Pair) -> None:
    before = pair.containers()
    pair.declare(max_model_len=4096)
    pair.machines[1].break_("sshd-stopped")
    seen = pair.fleet.run()
    pair.machines[1].mend()
    assert seen.code == 1
    assert "spark-02 is unknown" in seen.text
    assert pair.containers() == before
    assert pair.serves()


@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.full), 1])
def test_an_engine_that_is_killed_on_one_rank_comes_back_on_both(pair: Pair, lost: int) -> None:
    before = pair.containers()
    pair.machines[lost].sh("docker kill wide")
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.serves)
    pair.expect_nothing_to_do()


@pytest.mark.full
@pytest.mark.parametrize("lost", [0, 1])
def test_a_rebooted_member_brings_the_service_back(pair: Pair, lost: int) -> None:
    before = pair.containers()
    pair.machines[lost].reboot()
    pair.wait(lambda: all(new != old for new, old in zip(pair.containers(), before, strict=True)))
    pair.wait(pair.serves)
    pair.expect_nothing_to_do()


@pytest.mark.full
def test_what_is_left_of_a_cluster_does_not_answer(pair: Pair) -> None:
    pair.machines[1].break_("powered-off")
    pair.wait(lambda: not pair.head.ok("docker ps -q --no-trunc | grep -q ."))
    assert not pair.serves()
    text = pair.fleet.plan().text
    told = pair.fleet.command("sparkfleet", "status", "inventories/lab.py")
    pair.machines[1].mend()
    assert "cluster pair: degraded: spark-02 is unknown" in text
    assert "degraded" in told.text
    assert told.code == 1
    pair.wait(pair.serves)


@pytest.mark.parametrize(
    "words", [pytest.param("wide begin", marks=pytest.mark.full), "wide start: wide starts"]
)
def test_a_killed_operator_leaves_one_generation_on_both(pair: Pair, words: str) -> None:
    pair.declare(max_model_len=4096)
    with pair.fleet.start("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if words in line:
                os.killpg(process.pid, signal.SIGKILL)
                break
    pair.wait_until_at_rest()
    first, second = pair.lengths()
    assert first == second
    pair.fleet.run().expect(0)
    assert pair.lengths() == ["4096", "4096"]
    pair.expect_nothing_to_do()
