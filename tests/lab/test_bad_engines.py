"""A new generation that does not serve: the previous one serves again; the run says why, and what to do."""

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
from tests.lab.served import Served, converged, nano


@pytest.fixture(scope="module")
def served(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return converged(lab, lab_state, tmp_path_factory.mktemp("bad"), "spark-01", "spark-02")


@pytest.fixture(autouse=True)
def the_good_generation_is_declared_again(served: Served) -> Iterator[None]:
    yield
    served.fleet.extra.clear()
    served.fleet.set_group_data()
    for host in ("spark-01", "spark-02"):
        served.set(host)


@dataclass(frozen=True)
class Before:
    """What served before a change: the very container, and that it answers."""

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


def expect_previous(spark: Machine, before: Before, said: Outcome) -> None:
    assert Before.of(spark) == before
    assert "204" in answer(spark)
    assert spark.sh("docker ps -a --format '{{.Names}}'") == "nano"
    assert spark.sh("systemctl is-active sparkfleet-nano.service") == "active"
    assert "rolled back: the previous generation serves again and passed its gate" in said.text


BAD = {
    "ends at once": ("crash-at-start", r"ended with exit code"),
    "crashes after loading": ("crash-after-load", r"ended with exit code"),
    "wedged with /health 200": ("wedged", r"no answer|did not answer|completion"),
    "serves another name": ("wrong-name", r"name"),
    "out of GPU memory": ("cuda-oom", r"torch.OutOfMemoryError: CUDA out of memory"),
    "a kernel for another GPU": ("nv-illegal-instruction", r"[Ii]llegal ?[Ii]nstruction"),
    "answers wrongly": ("wrong-answer", r"204"),
    "answers, but its counters stand still": ("no-tokens", r"counter|token"),
}


@pytest.mark.provokes("rollout-failed")
@pytest.mark.parametrize(("mode", "cause"), BAD.values(), ids=BAD)
def test_the_previous_generation_serves_again_and_the_cause_is_named(
    served: Served, mode: str, cause: str
) -> None:
    fleet, (spark, _) = served.fleet, served.machines
    before = Before.of(spark)
    declare(fleet, mode)
    said = fleet.run("--limit", "spark-01").expect(1)
    expect_previous(spark, before, said)
    closing = said.err[said.err.rindex("spark-01   FAILED") :]
    assert re.search(cause, closing), closing
    assert re.search(r"\n    do: \S", closing), closing
    evidence = re.search(r"evidence on the Spark: (\S+)", closing)
    assert evidence is not None
    assert spark.sh(f"ls -A {evidence[1]}")
    served.set("spark-01")
    assert fleet.plan("--limit", "spark-01").expect(0)


def test_an_engine_that_eats_the_memory_is_killed_above_the_floor(served: Served) -> None:
    fleet, (spark, _) = served.fleet, served.machines
    before = Before.of(spark)
    available_mib = int(spark.sh("awk '/MemAvailable/ {print int($2/1024)}' /proc/meminfo"))
    fleet.set_group_data(min_available_gib=round((available_mib - 2500) / 1024, 2))
    declare(fleet, "eats-memory", LAB_ENGINE_EAT_MIB="6000")
    said = fleet.run("--limit", "spark-01").expect(1)
    expect_previous(spark, before, said)
    assert "floor" in said.err[said.err.rindex("spark-01   FAILED") :]


def test_the_other_spark_of_the_run_is_done_and_fine(served: Served) -> None:
    fleet, (first, second) = served.fleet, served.machines
    before = Before.of(first)
    declare(fleet, "crash-after-load")
    served.set("spark-02", max_num_seqs=2)
    said = fleet.run().expect(1)
    expect_previous(first, before, said)
    assert "--max-num-seqs 2" in second.sh("docker inspect -f '{{join .Config.Cmd \" \"}}' nano")
    assert "204" in answer(second)
    served.set("spark-01")
    assert fleet.plan().expect(0)


REFUSED = {
    "by the plan": {},
    "by the image's own parser": {"ignore_rules": {"unknown-flag": "a test of the image's own parser"}},
}


@pytest.mark.provokes("flags-rejected-by-image")
@pytest.mark.parametrize("more", REFUSED.values(), ids=REFUSED)
def test_a_flag_that_this_vllm_does_not_have_is_refused_before_anything_stops(
    served: Served, more: dict[str, object]
) -> None:
    fleet, (spark, _) = served.fleet, served.machines
    before = Before.of(spark)
    started = spark.sh("docker inspect -f '{{.State.StartedAt}}' nano")
    fleet.host("spark-01", {**nano(max_num_sequences=4), **more})
    said = fleet.run("--limit", "spark-01").expect(1)
    assert "max-num-sequences" in said.text
    assert Before.of(spark) == before
    assert spark.sh("docker inspect -f '{{.State.StartedAt}}' nano") == started
    assert "204" in answer(spark)
