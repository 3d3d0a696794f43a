"""A new generation that fails its gate: the previous one serves again; the run reports cause and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.machine import Machine
from tests.lab.serving_fleet import ServingFleet, converge_fleet, nano


@pytest.fixture(scope="module")
def serving(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> ServingFleet:
    return converge_fleet(lab, lab_state, tmp_path_factory.mktemp("bad"), "spark-01", "spark-02")


@pytest.fixture(autouse=True)
def restore_declarations(serving: ServingFleet) -> Iterator[None]:
    yield
    serving.fleet.extra.clear()
    serving.fleet.set_group_data()
    for host in ("spark-01", "spark-02"):
        serving.set(host)


@dataclass(frozen=True)
class Before:
    """The container and the generation that served before a change."""

    container: str
    promoted: str

    @staticmethod
    def of(spark: Machine) -> Before:
        record = json.loads(spark.sh("cat /var/lib/sparkfleet/services/nano/current.json"))
        return Before(spark.sh("docker inspect -f '{{.Id}}' nano"), record["id"])


def declare(fleet: FleetDirectory, mode: str, **env: str) -> None:
    file = nano(env={"LAB_ENGINE": mode, **env})
    file["serve"][0]["gate"] = {"timeout": "25s"}
    fleet.host("spark-01", file)


def answer(spark: Machine) -> str:
    body = {"model": "nano", "messages": [{"role": "user", "content": "What is 12*17?"}], "max_tokens": 32}
    url = "http://127.0.0.1:8000/v1/chat/completions"
    return spark.sh(
        f"curl -sS --fail --max-time 20 -H 'Content-Type: application/json' -d '{json.dumps(body)}' {url}"
    )


def expect_previous(spark: Machine, before: Before, outcome: Outcome) -> None:
    assert Before.of(spark) == before
    assert "204" in answer(spark)
    assert spark.sh("docker ps -a --format '{{.Names}}'") == "nano"
    assert spark.sh("systemctl is-active sparkfleet-nano.service") == "active"
    assert "rolled back: the previous generation serves again and passed its gate" in outcome.text


BAD = {
    "ends at once": ("crash-at-start", r"ended with exit code"),
    "crashes after loading": ("crash-after-load", r"ended with exit code"),
    "wedged with /health 200": ("wedged", r"no answer|did not answer|completion"),
    "serves another name": ("wrong-name", r"name"),
    "out of GPU memory": ("cuda-oom", r"torch.OutOfMemoryError: CUDA out of memory"),
    "a kernel for another GPU": ("nv-illegal-instruction", r"[Ii]llegal ?[Ii]nstruction"),
    "answers wrongly": ("wrong-answer", r"204"),
    "answers, but its counters do not move": ("no-tokens", r"counter|token"),
}


@pytest.mark.parametrize(("mode", "cause"), BAD.values(), ids=BAD)
def test_the_previous_generation_serves_again_and_the_cause_is_named(
    serving: ServingFleet, mode: str, cause: str
) -> None:
    fleet, (spark, _) = serving.fleet, serving.machines
    before = Before.of(spark)
    declare(fleet, mode)
    outcome = fleet.run("--limit", "spark-01").expect(1)
    expect_previous(spark, before, outcome)
    closing = outcome.err[outcome.err.rindex("spark-01   FAILED") :]
    assert re.search(cause, closing), closing
    assert re.search(r"\n    do: \S", closing), closing
    evidence = re.search(r"evidence on the Spark: (\S+)", closing)
    assert evidence is not None
    assert spark.sh(f"ls -A {evidence[1]}")
    serving.set("spark-01")
    assert fleet.plan("--limit", "spark-01").expect(0)


def test_an_engine_that_exhausts_memory_is_killed_by_the_watchdog(serving: ServingFleet) -> None:
    fleet, (spark, _) = serving.fleet, serving.machines
    before = Before.of(spark)
    available_mib = int(spark.sh("awk '/MemAvailable/ {print int($2/1024)}' /proc/meminfo"))
    fleet.set_group_data(min_available_gib=round((available_mib - 2500) / 1024, 2))
    declare(fleet, "eats-memory", LAB_ENGINE_EAT_MIB="6000")
    outcome = fleet.run("--limit", "spark-01").expect(1)
    expect_previous(spark, before, outcome)
    assert "floor" in outcome.err[outcome.err.rindex("spark-01   FAILED") :]


def test_an_engine_whose_memory_moved_is_started_once_more_and_serves(serving: ServingFleet) -> None:
    fleet, (spark, _) = serving.fleet, serving.machines
    declare(fleet, "memory-moves")
    outcome = fleet.run("--limit", "spark-01").expect(0)
    assert "starting nano once more: the engine ended with exit code 1: memory was freed" in outcome.text
    assert "serves, gate passed" in outcome.text
    assert "started twice, at first the engine ended with exit code 1: memory was freed" in outcome.text
    assert spark.sh("docker logs nano 2>&1 | grep -c '^.*Initializing a V1 LLM engine'") == "2"
    assert spark.sh("docker exec nano cat /tmp/lab-memory-moved") == "1"
    assert "204" in answer(spark)
    serving.set("spark-01")
    fleet.run("--limit", "spark-01").expect(0)


def test_memory_that_moves_again_at_the_second_start_rolls_back(serving: ServingFleet) -> None:
    fleet, (spark, _) = serving.fleet, serving.machines
    before = Before.of(spark)
    declare(fleet, "memory-moves:9")
    outcome = fleet.run("--limit", "spark-01").expect(1)
    expect_previous(spark, before, outcome)
    closing = outcome.err[outcome.err.rindex("spark-01   FAILED") :]
    assert "started twice, at first the engine ended with exit code 1: memory was freed" in closing


def test_the_other_spark_of_the_run_converges(serving: ServingFleet) -> None:
    fleet, (first, second) = serving.fleet, serving.machines
    before = Before.of(first)
    declare(fleet, "crash-after-load")
    serving.set("spark-02", max_num_seqs=2)
    outcome = fleet.run().expect(1)
    expect_previous(first, before, outcome)
    assert "--max-num-seqs 2" in second.sh("docker inspect -f '{{join .Config.Cmd \" \"}}' nano")
    assert "204" in answer(second)
    serving.set("spark-01")
    assert fleet.plan().expect(0)


REFUSED = {
    "by the plan": {},
    "by the image's own parser": {"ignore_rules": {"unknown-flag": "a test of the image's own parser"}},
}


@pytest.mark.provokes("flags-rejected-by-image")
@pytest.mark.parametrize("more", REFUSED.values(), ids=REFUSED)
def test_a_flag_that_this_vllm_lacks_is_refused_before_the_engine_stops(
    serving: ServingFleet, more: dict[str, object]
) -> None:
    fleet, (spark, _) = serving.fleet, serving.machines
    before = Before.of(spark)
    started = spark.sh("docker inspect -f '{{.State.StartedAt}}' nano")
    fleet.host("spark-01", {**nano(max_num_sequences=4), **more})
    outcome = fleet.run("--limit", "spark-01").expect(1)
    assert "max-num-sequences" in outcome.text
    assert Before.of(spark) == before
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' nano") == started
    assert "204" in answer(spark)
