"""Ranks believe only responses that are signed with their key for the query that they sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.contract.cluster import HeadResponse, MemberMessage, MessageRefused, PeerQuery, PeerState
from sparkfleet.contract.codec import ContractError
from sparkfleet.onhost.cluster import proof, ranks
from sparkfleet.onhost.cluster.head import Head
from sparkfleet.onhost.cluster.ranks import Peers
from sparkfleet.onhost.state import store
from tests.unit.onhost.sparks import Sparks

STATE = PeerState("fingerprint", "e", "running", serves=True)


def test_a_signed_answer_is_accepted_only_with_the_shared_key() -> None:
    query = proof.new_query("state")
    response = proof.sign(STATE, "t", query)
    assert proof.verify(PeerState, response, "t", query) == STATE
    assert proof.verify(PeerState, response, "other", query) is None
    assert proof.verify(PeerState, STATE.to_json(), "t", query) is None
    assert proof.verify(PeerState, {**response, "state": "ends"}, "t", query) is None


def test_an_answer_is_good_for_one_question() -> None:
    first, second = (proof.new_query("state") for _ in range(2))
    assert proof.verify(PeerState, proof.sign(STATE, "t", first), "t", second) is None


def test_without_a_key_answers_are_taken_as_they_are() -> None:
    query = proof.new_query("state")
    assert proof.verify(PeerState, proof.sign(STATE, "", query), "", query) == STATE
    assert proof.verify(PeerState, None, "", query) is None


def test_an_answer_of_another_shape_is_none() -> None:
    query = proof.new_query("state")
    assert proof.verify(PeerState, {"make": 1}, "", query) is None
    assert proof.verify(PeerState, {**STATE.to_json(), "version": 99}, "", query) is None


def test_an_answer_of_a_supervisor_from_before_versions_is_understood() -> None:
    query = proof.new_query("state")
    data = {"make": "fingerprint", "epoch": "e", "state": "running", "serves": True}
    response = {**data, "proof": proof._digest(data, "t", query.nonce)}
    assert proof.verify(PeerState, response, "t", query) == STATE


@given(st.text(), st.text())
def test_the_key_is_in_no_answer(rollout: str, nonce: str) -> None:
    assert "a key of ours" not in repr(proof.sign(STATE, "a key of ours", PeerQuery("state", rollout, nonce)))


def changed(root: Path) -> Sparks:
    """Two Sparks that serve after a change."""
    sparks = Sparks(root)
    for spark in sparks.all:
        spark.serve_rank()
    for spark in sparks.all:
        spark.boot()
    sparks.run(120, sparks.serves)
    sparks.roll_out(cluster_key="t")
    sparks.run(900, lambda: len(sparks.results) == 2)
    sparks.run(60)
    assert sparks.outcomes() == ["promoted", "promoted"]
    return sparks


def test_a_change_leaves_every_supervisor_its_key_0600_and_removes_the_old_ones(tmp_path: Path) -> None:
    sparks = changed(tmp_path)
    for spark in sparks.all:
        (key_file,) = (store.service_directory(spark.paths.state, "nano") / "ranks").iterdir()
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert store.cluster_key(spark.paths.state, "nano") == "t"
        assert "'t'" not in repr(spark.supervisors["nano"].peers)
    store.forget_cluster_keys(sparks.all[0].paths.state, "nano", but="another")
    assert store.cluster_key(sparks.all[0].paths.state, "nano") == ""


def test_a_lie_about_a_rank_stops_no_engine(tmp_path: Path) -> None:
    sparks = changed(tmp_path)
    started = list(sparks.starts)
    head, member = sparks.all
    lie = {"make": "img:2", "epoch": "none", "state": ranks.ENDS, "serves": False}
    ask = head.ask_other
    head.ask_other = lambda address, port, message, timeout_s: (  # type: ignore[method-assign]
        lie if port == ranks.PORT else ask(address, port, message, timeout_s)
    )
    sparks.run(20)
    assert sparks.serves()
    assert sparks.starts == started
    supervisor = head.supervisors["nano"]
    assert supervisor.peers is not None
    supervisor.peers.cluster_key = ""  # without a key any response is believed
    sparks.run(20)
    assert sparks.starts != started or not sparks.serves()
    assert member.paths.state.exists()


def test_a_message_that_cannot_be_read_or_is_of_another_rollout_gets_a_refusal() -> None:
    nothing: Any = None
    request: Any = SimpleNamespace(cluster_key="of this rollout")
    head = Head(nothing, nothing, request, nothing, nothing, nothing)
    peers = Peers(nothing, "nano", nothing, nothing, print)
    for response in (head.respond({"version": 99}), peers.respond({"ask": 7})):
        refusal = MessageRefused.from_json(response)
        assert refusal.diagnostic.message
        assert response["version"] == MessageRefused.VERSION
        with pytest.raises(ContractError):
            HeadResponse.from_json(response)
        assert proof.verify(PeerState, response, "", proof.new_query("state")) is None
    other = head.respond(MemberMessage(1, "ready", cluster_key="of another rollout").to_json())
    assert MessageRefused.from_json(other).diagnostic.message == "another rollout: the cluster key differs"
    assert not head.reports
