"""Ranks believe each other by what they share alone, for the very question that they asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.onhost.cluster import proof, ranks
from sparkfleet.onhost.state import store
from tests.unit.onhost.sparks import Sparks

STATE: dict[str, Any] = {"epoch": "e", "state": "running", "serves": True}


def test_a_signed_answer_is_believed_by_who_shares_the_token_and_by_nobody_else() -> None:
    asked = proof.question({"ask": "state"})
    answer = proof.signed(STATE, "t", asked)
    assert proof.proven(answer, "t", asked) == STATE
    assert proof.proven(answer, "other", asked) is None
    assert proof.proven(STATE, "t", asked) is None
    assert proof.proven({**answer, "state": "ends"}, "t", asked) is None


def test_an_answer_is_good_for_one_question() -> None:
    first, second = (proof.question({"ask": "state"}) for _ in range(2))
    assert proof.proven(proof.signed(STATE, "t", first), "t", second) is None


def test_without_a_token_answers_are_taken_as_they_are() -> None:
    asked = proof.question({"ask": "state"})
    assert proof.proven(proof.signed(STATE, "", asked), "", asked) == STATE
    assert proof.proven(None, "", asked) is None


@given(st.dictionaries(st.sampled_from(["ask", "nonce", "token"]), st.none() | st.integers() | st.text()))
def test_the_token_is_in_no_answer(message: dict[str, Any]) -> None:
    assert "a token of ours" not in repr(proof.signed(STATE, "a token of ours", message))


def changed(root: Path) -> Sparks:
    """Two Sparks that serve after a change."""
    sparks = Sparks(root)
    for spark in sparks.all:
        spark.serve_rank()
    for spark in sparks.all:
        spark.boot()
    sparks.run(120, sparks.serves)
    sparks.swap(token="t")
    sparks.run(900, lambda: len(sparks.results) == 2)
    sparks.run(60)
    assert sparks.outcomes() == ["promoted", "promoted"]
    return sparks


def test_a_change_leaves_every_guard_its_token_0600_and_those_before_are_gone(tmp_path: Path) -> None:
    sparks = changed(tmp_path)
    for spark in sparks.all:
        (kept,) = (store.service_directory(spark.paths.state, "nano") / "ranks").iterdir()
        assert kept.stat().st_mode & 0o777 == 0o600
        assert store.ranks_token(spark.paths.state, "nano") == "t"
        assert "'t'" not in repr(spark.guards["nano"].peers)
    store.forget_ranks_tokens(sparks.all[0].paths.state, "nano", but="another")
    assert store.ranks_token(sparks.all[0].paths.state, "nano") == ""


def test_a_lie_about_a_rank_stops_no_engine(tmp_path: Path) -> None:
    sparks = changed(tmp_path)
    started = list(sparks.starts)
    head, member = sparks.all
    lie = {"make": "img:2", "epoch": "none", "state": ranks.ENDS, "serves": False}
    asked = head.ask_other
    head.ask_other = lambda address, port, message, timeout_s: (  # type: ignore[method-assign]
        lie if port == ranks.PORT else asked(address, port, message, timeout_s)
    )
    sparks.run(20)
    assert sparks.serves()
    assert sparks.starts == started
    guard = head.guards["nano"]
    assert guard.peers is not None
    guard.peers.token = ""  # as it was: who shares nothing believes anybody
    sparks.run(20)
    assert sparks.starts != started or not sparks.serves()
    assert member.paths.state.exists()
