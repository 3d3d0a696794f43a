"""Each sentence about a service that serves, against a request that the test itself makes at the end."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.contract.rollout import RolloutResult, serving_now
from sparkfleet.fleet.operations.service import rollout_diagnostic, success_text
from sparkfleet.onhost.machine.system import HttpRequest
from tests.unit.onhost.rollout.test_rollout import FAILURES
from tests.unit.onhost.world import Engine, World, generation

OLD, NEW = generation(), generation(image="img:2")


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
