"""A change of a cluster on one of its Sparks, with the others played by the test: all or none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.contract.rollout import RolloutResult
from sparkfleet.onhost.cluster.messages import PORT
from sparkfleet.onhost.machine.system import PortOwner
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import read_events
from tests.unit.onhost.world import Engine, World, generation

TOKEN = "t0ken"


def ranked(image: str, rank: int) -> Generation:
    place = Rank("pair", rank, ("spark-01", "spark-02"), ("10.0.0.1", "10.0.0.2"), "mp", "fingerprint")
    return replace(generation(image=image), rank=place)


@pytest.fixture
def cluster(world: World) -> World:
    world.engines |= {"img:1": Engine(), "img:2": Engine()}
    return world


def ask(world: World, rank: int, token: str = TOKEN, **changes: Any) -> RolloutResult:
    candidate = replace(ranked("img:2", rank), **changes)
    return world.ask(RolloutRequest("s1", candidate, ("nano",), cluster_key=token))


def worker(world: World, **changes: Any) -> list[str]:
    """Play the worker: it follows each command at once. Return the commands."""
    heard: list[str] = []
    states = {
        "prepare": "ready",
        "stop": "stopped",
        "start": "running",
        "commit": "promoted",
        "abort": "ended",
    }

    def beat() -> None:
        if PORT not in world.desks:
            return
        command = heard[-1] if heard else "prepare"
        report = {
            "token": TOKEN, "rank": 1, "state": states[command],
            "shared": {"image": "sha256:img:2", "fingerprint": "fingerprint"}, **changes.get(command, {}),
        }  # fmt: skip
        response = world.desks[PORT](report)
        if "word" in response and response["word"] != command:
            heard.append(response["word"])

    world.on_tick.append(beat)
    return heard


def test_the_head_leads_all_ranks_to_the_new_generation(cluster: World) -> None:
    cluster.serve(generation())
    heard = worker(cluster)
    assert ask(cluster, 0).outcome == "promoted"
    assert heard == ["stop", "start", "commit"]


@pytest.mark.provokes("cluster-rank-silent")
def test_nothing_is_touched_when_a_rank_never_says_that_it_is_ready(cluster: World) -> None:
    old = cluster.serve(generation())
    result = ask(cluster, 0)
    assert result.outcome == "refused"
    assert "spark-02 (10.0.0.2) did not report ready" in result.cause
    assert old.running
    assert len(cluster.boxes) == 1


def test_nothing_is_touched_when_a_rank_has_another_image(cluster: World) -> None:
    old = cluster.serve(generation())
    worker(cluster, prepare={"shared": {"image": "sha256:other", "fingerprint": "fingerprint"}})
    result = ask(cluster, 0)
    assert result.outcome == "refused"
    assert "spark-02 (10.0.0.2) has another image" in result.cause
    assert old.running


def test_ranks_whose_docker_has_different_image_stores_start_from_the_same_image(cluster: World) -> None:
    cluster.serve(generation())
    cluster.contents["sha256:img:2"] = "sha256:content"
    worker(cluster, prepare={"shared": {"image": "sha256:content", "fingerprint": "fingerprint"}})
    assert ask(cluster, 0).outcome == "promoted"


def test_a_rank_that_fails_takes_all_back_with_its_cause(cluster: World) -> None:
    cluster.serve(generation())
    why = {"location": "nano", "message": "out of memory", "code": "killed-for-memory"}
    heard = worker(cluster, start={"version": 3, "state": "failed", "diagnostic": why, "cluster_key": TOKEN})
    result = ask(cluster, 0)
    assert result.outcome == "restored"
    assert result.cause == "spark-02 (10.0.0.2): out of memory"
    assert result.diagnostic is not None
    assert result.diagnostic.code == "killed-for-memory"
    assert heard == ["stop", "start", "abort"]


def test_who_has_not_the_token_is_not_heard(cluster: World) -> None:
    cluster.serve(generation())
    worker(cluster, prepare={"token": "guess"})
    assert ask(cluster, 0).outcome == "refused"


def test_without_its_fabric_address_the_head_touches_nothing(cluster: World) -> None:
    old = cluster.serve(generation())
    cluster.no_fabric = True
    result = ask(cluster, 0)
    assert result.outcome == "refused"
    assert "cannot listen on 10.0.0.1" in result.cause
    assert old.running


def head(world: World, *commands: str, cause: str = "") -> list[str]:
    """Play the head: send each command after the state that it follows; return the states of the member."""
    heard: list[str] = []
    after = {"ready": 0, "stopped": 1, "running": 2, "promoted": 2}

    def peer_response(address: str, port: int, message: dict[str, Any]) -> dict[str, Any] | None:
        if port != PORT:
            return None
        state = message["state"]
        if not heard or heard[-1] != state:
            heard.append(state)
        step = after.get(state)
        command = "prepare" if step is None else commands[min(step, len(commands) - 1)]
        why = {"location": "nano", "message": cause, "code": "gate-answer-wrong"} if cause else None
        return {"version": 2, "word": command, "diagnostic": why}

    world.peer_response = peer_response
    return heard


def test_a_member_promotes_when_the_head_says_so(cluster: World) -> None:
    cluster.serve(generation())
    heard = head(cluster, "stop", "start", "commit")
    assert ask(cluster, 1).outcome == "promoted"
    assert heard == ["checking", "ready", "stopped", "running", "promoted"]


def test_a_member_restores_when_the_head_says_so_and_tells_why(cluster: World) -> None:
    cluster.serve(generation())
    head(cluster, "stop", "start", "abort", cause="wrong answer")
    result = ask(cluster, 1)
    assert result.outcome == "restored"
    assert result.cause == "spark-01 (10.0.0.1): wrong answer"


def test_a_member_that_never_reaches_the_head_touches_nothing(cluster: World) -> None:
    old = cluster.serve(generation())
    result = ask(cluster, 1)
    assert result.outcome == "refused"
    assert "the head, did not answer" in result.cause
    assert old.running


def test_a_member_that_loses_the_head_after_the_stop_restores_by_itself(cluster: World) -> None:
    cluster.serve(generation())
    head(cluster, "stop", "start", "start")
    original = cluster.peer_response
    cluster.peer_response = lambda *report: None if report[2].get("state") == "running" else original(*report)
    result = ask(cluster, 1)
    assert result.outcome == "restored"
    assert "the head, did not answer for 180 s" in result.cause


TCP = "spark-01:7:7 [0] NCCL INFO Using network Socket"
IB = "spark-01:7:7 [0] NCCL INFO Using network IB"


@pytest.mark.parametrize(
    ("line", "env", "outcome"),
    [
        (TCP, (("NCCL_NET", "IB"),), "restored"),
        (TCP, (("NCCL_NET", "Socket"),), "promoted"),
        (IB, (("NCCL_NET", "IB"),), "promoted"),
        ("", (("NCCL_NET", "IB"),), "promoted"),
    ],
)
@pytest.mark.provokes("rdma-not-used")
def test_tcp_where_rdma_is_declared_does_not_pass(
    cluster: World, line: str, env: tuple[tuple[str, str], ...], outcome: str
) -> None:
    cluster.serve(generation())
    cluster.engines["img:2"].log += f"\n{line}"
    worker(cluster)
    result = ask(cluster, 0, env=env)
    assert result.outcome == outcome
    assert ("by TCP, not RDMA" in result.cause) == (outcome == "restored")


@pytest.mark.provokes("cluster-rank-alone")
def test_a_rank_is_never_changed_by_itself(cluster: World) -> None:
    old = cluster.serve(generation())
    result = ask(cluster, 1, token="")
    assert result.outcome == "refused"
    assert "it is a rank of the cluster pair" in result.cause
    assert old.running


@pytest.mark.parametrize(("rank", "outcome"), [(0, "refused"), (1, "promoted")])
def test_a_leftover_at_the_ranks_rendezvous_is_named(cluster: World, rank: int, outcome: str) -> None:
    cluster.serve(generation())
    cluster.foreign_holders[29501] = PortOwner(77, "vllm serve", "")
    head(cluster, "stop", "start", "commit")
    result = ask(cluster, rank)
    assert result.outcome == outcome
    assert ("port 29501: held by vllm serve (pid 77)" in result.cause) == (rank == 0)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.provokes("engine-unsupported")
def test_an_executor_that_these_programs_do_not_have_is_refused_before_any_change(
    cluster: World, rank: int
) -> None:
    old = cluster.serve(generation())
    place = ranked("img:2", rank).rank
    assert place is not None
    candidate = replace(ranked("img:2", rank), rank=replace(place, executor="newer"))
    result = cluster.ask(RolloutRequest("s1", candidate, ("nano",), cluster_key=TOKEN))
    assert result.diagnostic is not None
    assert (result.outcome, result.diagnostic.code) == ("refused", "engine-unsupported")
    assert "executor newer of vllm" in result.cause
    assert "mp or ray" in result.diagnostic.expected or "ray or mp" in result.diagnostic.expected
    assert (old.running, old.starts) == (True, 1)


RDMA = (
    ("NCCL_IB_HCA", "=rocep1s0f1:1"),
    ("NCCL_IB_ADDR_FAMILY", "AF_INET"),
    ("NCCL_IB_ADDR_RANGE", "192.168.176.0/23"),
)


@pytest.mark.parametrize("waits_for", ["regions", "gids"])
def test_a_member_that_waits_rolls_back_as_soon_as_the_head_does(cluster: World, waits_for: str) -> None:
    cluster.serve(generation())
    heard = head(cluster, "stop", "start", "commit")
    original, began = cluster.peer_response, list[float]()

    def peer_response(address: str, port: int, message: dict[str, Any]) -> dict[str, Any] | None:
        if not any(box.running for box in cluster.boxes.values()):
            began.append(cluster.clock)
        if port == PORT and began and cluster.clock > began[0] + 3:
            return {"version": 2, "word": "abort", "diagnostic": None}
        return original(address, port, message)

    cluster.peer_response = peer_response
    changes: dict[str, Any] = {"env": RDMA} if waits_for == "gids" else {}
    if waits_for == "regions":
        cluster.rdma_regions = lambda: "dev rocep1s0f1 mrn 9 rkey 0x9 lkey 0x9 iova 0x9 mrlen 64 pdn 3"
    result = ask(cluster, 1, **changes)
    assert (result.outcome, "running" in heard) == ("restored", False)
    events = read_events(store.rollout_directory(cluster.paths.state, "s1"))
    (restored,) = (event for event in events if event.step == "restore")
    assert restored.at - began[0] < 10, "seconds of the clock of the test"
