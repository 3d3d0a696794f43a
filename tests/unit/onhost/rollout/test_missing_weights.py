"""A rollout is refused before anything stops if the model's files are gone: the engine has no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet.contract.generation import RolloutRequest
from tests.unit.onhost.world import World, generation

COMMIT = "a" * 40


@pytest.fixture
def hub(world: World) -> Path:
    """The hub's cache of a Spark, which the candidate mounts; its model has one file."""
    blobs = world.root / "models" / "hub" / "models--org--model" / "blobs"
    snapshot = blobs.parent / "snapshots" / COMMIT
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    (blobs / "b1").write_text("weights")
    (snapshot / "model.safetensors").symlink_to(blobs / "b1")
    return blobs.parent


def outcome(world: World, model: str = "org/model", revision: str = COMMIT) -> tuple[str, str]:
    world.serve(generation())
    candidate = generation(
        image="img:2", model=model, revision=revision, mounts={"/models": str(world.root / "models")}
    )
    result = world.ask(RolloutRequest("nano-00000001", candidate, ("nano",)))
    return result.outcome, result.diagnostic.code if result.diagnostic else ""


def test_a_model_that_is_there_is_served(world: World, hub: Path) -> None:
    assert hub.is_dir()
    assert outcome(world) == ("promoted", "")


@pytest.mark.parametrize("gone", ["blobs/b1", f"snapshots/{COMMIT}/model.safetensors"])
def test_a_model_whose_files_are_gone_is_refused_and_nothing_stops(
    world: World, hub: Path, gone: str
) -> None:
    (hub / gone).unlink()
    assert outcome(world) == ("refused", "weights-missing")
    (box,) = world.boxes.values()
    assert (box.running, box.starts, box.image) == (True, 1, "img:1")


def test_what_is_no_model_of_the_hub_is_not_looked_for(world: World, hub: Path) -> None:
    assert hub.is_dir()
    assert outcome(world, "/models/own", "") == ("promoted", "")
