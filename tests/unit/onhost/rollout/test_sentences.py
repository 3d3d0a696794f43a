"""Each sentence about a service that serves, against a request that the test itself makes at the end."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from sparkfleet.contract import rollout as contract_rollout
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Rank, RolloutRequest
from sparkfleet.contract.rollout import (
    FAILED,
    LOST,
    RESTORED,
    SUCCEEDED,
    UNREADABLE,
    RolloutResult,
    serving_now,
)
from sparkfleet.fleet.operations import service
from sparkfleet.fleet.operations.service import rollout_diagnostic, success_text
from sparkfleet.onhost.cluster import coordination
from sparkfleet.onhost.machine.system import HttpRequest
from sparkfleet.onhost.rollout import outcome, restore, rollout
from sparkfleet.onhost.state import store
from tests.unit.onhost.rollout.test_rollout import FAILURES
from tests.unit.onhost.world import Engine, Killed, World, generation

OLD, NEW, OTHER = generation(), generation(image="img:2"), generation("other", "img:other", port=9000)
RANK = Rank("pair", 1, ("spark-00", "spark-01"), ("10.0.0.1", "10.0.0.2"), "mp", "f")


def restorable(_: World) -> None:
    """The old generation returns."""


def dead(world: World) -> None:
    world.engines["img:1"].works_again = False


def renamed(world: World) -> None:
    """The old engine answers with another name than it was promoted with."""
    world.engines["img:1"].name = "another"


def wedged(world: World) -> None:
    world.engines["img:1"].wedged = True


def gone(world: World) -> None:
    """The old container is removed during the rollout, and cannot be created again."""

    def remove() -> None:
        old = world.named("nano.old")
        if old:
            world.boxes.pop(old.id)
            world.create_error = "No such image"

    world.on_tick.append(remove)


CANDIDATES = {**{name: engine for name, (engine, *_) in FAILURES.items()}, "good": Engine()}
"""Engines of the candidate by what is wrong with them."""


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("restore", [restorable, dead, renamed, wedged, gone, None])
def test_a_result_says_of_the_port_what_a_request_shows(
    world: World, candidate: str, restore: Callable[[World], None] | None
) -> None:
    world.engines["img:2"] = CANDIDATES[candidate]
    replaces: tuple[str, ...] = ()
    if restore:
        world.serve(OLD)
        restore(world)
        replaces = ("nano",)
    result = world.ask(RolloutRequest("s1", NEW, replaces))
    check(result, listed(world))


def listed(world: World) -> list[str] | None:
    """Return the names on the port; None when nothing answers."""
    response = world.http(HttpRequest(8000, "GET", "/v1/models", 5.0))
    return [model["id"] for model in json.loads(response.body)["data"]] if response.status else None


def check(result: RolloutResult, names: list[str] | None) -> None:
    if result.outcome == "promoted":
        assert names == ["nano"]
        assert success_text(result).startswith("serves, gate passed")
        return
    assert result.outcome in {"restored", "failed"}
    shown = rollout_diagnostic("spark-01", "nano", result).message
    for text in (shown, result.text):
        assert ("serves again and passed its gate" in text) == (result.outcome == "restored")
        assert ("nothing answers on its port" in text) == (names is None)
        assert (f"its port answers as {', '.join(names or ())}, not proven" in text) == (
            names is not None and result.outcome == "failed"
        )
    assert names == ["nano"] or result.outcome == "failed"
    assert serving_now(result) in result.text


CLAIM = re.compile(
    r"\bserv(?:es|ing)\b|\banswers?\b|\brestart(?:ed|ing)\b|\bpass(?:ed)?\b|\brestored\b|rolled back"
    r"|\bremoved\b|nothing (?:was|changed)|without service|\bcontinues\b|\babandoned\b|\bunknown\b"
)
"""Words by which a text says something about a service after a rollout."""
WRITERS: Mapping[ModuleType, tuple[str, ...]] = {
    contract_rollout: ("first_start", "serving_now"),
    outcome: ("sentence",),
    restore: ("_has_no_gate", "_prove", "_reason", "_unproven", "not_restored"),
    service: ("_rolled_back", "rollout_diagnostic", "success_text"),
}
"""Functions that write the result of a rollout."""


def claims() -> set[str]:
    """Return the texts of these functions that say something about a service, without variable parts."""
    found = set()
    for module, names in WRITERS.items():
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        functions = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name in names]
        assert sorted(one.name for one in functions) == sorted(names)
        for function in functions:
            parts = (one for statement in function.body for one in ast.walk(statement))
            constants = (one.value for one in parts if isinstance(one, ast.Constant))
            texts = {text for text in constants if isinstance(text, str) and CLAIM.search(text)}
            found |= texts - {ast.get_docstring(function, clean=False) or ""}
    return found


@dataclass(frozen=True)
class Report:
    """What a rollout reports, and whether it is true by what is seen from outside."""

    result: RolloutResult
    is_true: bool

    @property
    def text(self) -> str:
        shown = rollout_diagnostic("spark-01", "nano", self.result)
        success = success_text(self.result) if self.result.outcome in SUCCEEDED else ""
        return f"{self.result.text}\n{shown}\n{success}"


def promoted(world: World) -> Report:
    old = world.serve(OLD)
    result = world.ask(RolloutRequest("s1", NEW, ("nano",)))
    return Report(result, listed(world) == ["nano"] and old.id not in world.boxes)


def restored(world: World) -> Report:
    old = world.serve(OLD)
    world.engines["img:2"] = Engine(end_s=3)
    result = world.ask(RolloutRequest("s1", NEW, ("nano",)))
    return Report(result, listed(world) == ["nano"] and world.serving(8000) is old)


def unanswered(world: World) -> Report:
    world.serve(OLD)
    dead(world)
    world.engines["img:2"] = Engine(end_s=3)
    result = world.ask(RolloutRequest("s1", NEW, ("nano",)))
    return Report(result, listed(world) is None)


def misnamed(world: World) -> Report:
    world.serve(OLD)
    renamed(world)
    world.engines["img:2"] = Engine(end_s=3)
    result = world.ask(RolloutRequest("s1", NEW, ("nano",)))
    return Report(result, listed(world) == ["another"])


def unproven(world: World) -> Report:
    old = world.serve(generation(rank=RANK))
    world.engines["img:2"] = Engine(end_s=3)
    world.engines["img:1"].ready_s = 10_000
    result = world.ask(RolloutRequest("s1", NEW, ("nano",)))
    return Report(result, listed(world) is None and old.running and old.starts == 2)


def partly(world: World) -> Report:
    """Two services are stopped; of one of them there is no record."""
    old, other = world.serve(OLD), world.serve(OTHER)
    store.record_path(world.paths.state, "other").unlink()
    world.engines["img:2"] = Engine(end_s=3)
    result = world.ask(RolloutRequest("s1", NEW, ("nano", "other")))
    return Report(result, world.serving(8000) is old and other.starts == 2)


def others_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> Report:
    """The ranks on other Sparks do not promote the engine that answers here."""
    failed = Diagnostic("spark-02", "it failed", code="test")
    monkeypatch.setattr(coordination.SingleHost, "settle", lambda *_: failed)
    result = world.ask(RolloutRequest("s1", NEW, ()))
    return Report(result, listed(world) == ["nano"])


def untouched(world: World, request: RolloutRequest) -> Report:
    old = world.serve(OLD)
    result = world.ask(request)
    return Report(result, listed(world) == ["nano"] and world.serving(8000) is old and old.starts == 1)


def refused(world: World) -> Report:
    world.create_error = "no such option"
    return untouched(world, RolloutRequest("s1", NEW, ("nano",)))


def stale(world: World) -> Report:
    return untouched(world, RolloutRequest("s1", NEW, ("nano",), (("nano", "another"),)))


def interrupted(world: World) -> Report:
    old = world.serve(OLD)
    world.kill_at = world.points + 4
    request = RolloutRequest("s1", NEW, ("nano",))
    with pytest.raises(Killed):
        world.ask(request)
    world.dies()
    result = rollout.run(world, "s1")
    return Report(result, listed(world) == ["nano"] and world.serving(8000) is old and old.starts == 1)


def removed(world: World) -> Report:
    world.serve(OLD)
    result = world.ask(RolloutRequest("s1", None, ("nano",)))
    return Report(result, listed(world) is None and not world.boxes)


def claims_nothing(outcome: str) -> Callable[[World], Report]:
    """A result that the operator's side makes itself, or reads of an earlier version."""
    text = serving_now(RolloutResult(outcome))
    return lambda _: Report(RolloutResult(outcome, service="nano", text=text), True)


SENTENCES: Mapping[str, Callable[..., Report]] = {
    "serves, gate passed": promoted,
    " serves generation ": promoted,
    " s without service": promoted,
    " without service": promoted,
    ", answer: ": promoted,
    "serves again and passed": restored,
    "rolled back: the previous generation serves again and passed its gate": restored,
    " did not pass: ": restored,
    "nothing answers on its port": unanswered,
    "its port answers as ": misnamed,
    "restarted, but nothing proves that it answers: ": unproven,
    " answers through its head, ": unproven,
    "rolled back: ": partly,
    "passed": others_failed,
    "nothing was touched": refused,
    ", nothing was touched: ": refused,
    "nothing was touched: the host changed since the plan was shown": stale,
    ": interrupted before any service stopped; nothing changed": interrupted,
    " is removed": removed,
    "removed": removed,
    "no service is proven to answer": claims_nothing(FAILED),
    "nothing was restored": claims_nothing(RESTORED),
    "the result is unknown: the rollout continues on the host": claims_nothing(LOST),
    "the rollout was abandoned; the current state is unknown": claims_nothing(UNREADABLE),
}
"""Each text that says something about a service -> a rollout that ends with it."""


def test_each_text_about_a_service_has_a_rollout_that_ends_with_it() -> None:
    assert sorted(claims() - SENTENCES.keys()) == []
    assert sorted(SENTENCES.keys() - claims()) == []


@pytest.mark.parametrize("text", SENTENCES)
def test_each_text_about_a_service_is_true_by_what_is_seen_from_outside(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    report = others_failed(world, monkeypatch) if text == "passed" else SENTENCES[text](world)
    assert text in report.text
    assert report.is_true
