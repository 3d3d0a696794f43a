"""Locking a fleet: what stays, what moves, what fails, against a registry and a hub in memory."""

from dataclasses import replace

import pytest

from sparkfleet.lock import images, resolve
from sparkfleet.lock.hub import HubError
from sparkfleet.lock.registry import Registry, RegistryError
from sparkfleet.spec.locked import Lock, LockedImage, LockedModel
from sparkfleet.spec.resolved import Weights
from tests.unit.spec.fleet_files import NANO, SMALL

NGC = "nvcr.io/nvidia/vllm:26.04-py3"


class World:
    """What registry and hub answer; ``turn`` makes tags and branches move."""

    def __init__(self) -> None:
        self.turn = 1
        self.vllm: str | None = None
        """The version in every image; else it goes with ``turn``."""
        self.broken: set[str] = set()
        self.asked: list[str] = []

    def image(self, image, _registry) -> LockedImage:
        self.asked.append(image.display)
        if image.display in self.broken:
            raise RegistryError(f"{image.display} is broken", "mend it")
        digest = image.digest or f"sha256:{self.turn:064x}"
        vllm = f"0.{self.turn}.0" if self.vllm is None else self.vllm
        return LockedImage(replace(image, digest=digest, vllm=vllm), digest)

    def resolve(self, repo: str, asked: str) -> LockedModel:
        self.asked.append(repo)
        if repo in self.broken:
            raise HubError(f"{repo} is broken", "mend it")
        return LockedModel(Weights(repo, f"{self.turn:040x}"), asked)


@pytest.fixture
def world(monkeypatch):
    made = World()
    monkeypatch.setattr(images, "resolve", made.image)
    return made


def lock(files, world, old=None, update=()):
    return resolve.lock(files.load(), old or Lock(), world, Registry, update)


def test_everything_that_a_fleet_names_is_pinned_once(fleet, world):
    files = fleet({f"spark-0{n}.yaml": f"serve: {SMALL}\n" for n in range(1, 5)})
    outcome = lock(files, world)
    assert set(outcome.lock.images) == {NGC}
    assert set(outcome.lock.models) == {"openai/gpt-oss-20b"}
    assert sorted(world.asked) == ["nvcr.io/nvidia/vllm:26.04-py3", "openai/gpt-oss-20b"]
    assert outcome.problems == ()


def test_what_is_locked_stays_and_is_not_asked_for_again(fleet, world):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.turn, world.asked = 2, []
    second = lock(files, world, first.lock)
    assert second.lock == first.lock
    assert second.changes == ()
    assert world.asked == []


def test_what_is_new_is_added_beside_what_is_locked(fleet, world):
    first = lock(fleet({"spark-01.yaml": f"serve: {SMALL}\n"}), world)
    world.turn = 2
    second = lock(fleet({"spark-02.yaml": f"serve: {NANO}\n"}), world, first.lock)
    assert second.lock.images == first.lock.images
    assert [change.key for change in second.changes] == ["nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"]


@pytest.mark.parametrize("name", ["openai/gpt-oss-20b", "gpt-oss-*", SMALL])
def test_an_update_moves_what_it_names_and_nothing_else(fleet, world, name):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve: {NANO}\n"})
    first = lock(files, world)
    world.turn = 2
    second = lock(files, world, first.lock, [name])
    (change,) = [change for change in second.changes if change.key == "openai/gpt-oss-20b"]
    assert change.old == first.lock.models["openai/gpt-oss-20b"]
    assert change.new == second.lock.models["openai/gpt-oss-20b"] != change.old
    nano = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"
    assert second.lock.models[nano] == first.lock.models[nano]


@pytest.mark.parametrize("name", ["nvcr.io/nvidia/vllm:26.04-py3", "nvcr.io/nvidia/vllm"])
def test_an_image_is_moved_by_its_name_with_or_without_tag(fleet, world, name):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.turn = 2
    (change,) = lock(files, world, first.lock, [name]).changes
    assert change.key == NGC


def test_an_update_of_everything_moves_everything(fleet, world):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.turn = 2
    assert len(lock(files, world, first.lock, ["*"]).changes) == 2


def test_an_update_of_nothing_known_is_a_problem_with_the_nearest_name(fleet, world):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    outcome = lock(files, world, update=["gpt-oss-30b"])
    (problem,) = outcome.problems
    assert problem.remedy == f"did you mean '{SMALL}'?"
    assert len(outcome.lock.models) == 1


def test_what_cannot_be_resolved_is_told_where_it_is_written_and_the_rest_is_pinned(fleet, world):
    files = fleet(
        {"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve:\n  recipe: {NANO}\n  model: a/b\n"}
    )
    world.broken = {"a/b"}
    outcome = lock(files, world)
    (problem,) = outcome.problems
    assert problem.where == "inventories/lab/spark-02.yaml:3"
    assert (problem.found, problem.remedy) == ("a/b is broken", "mend it")
    assert set(outcome.lock.models) == {"openai/gpt-oss-20b"}


def test_an_update_that_fails_keeps_what_was_locked(fleet, world):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.broken = {"nvcr.io/nvidia/vllm:26.04-py3", "openai/gpt-oss-20b"}
    outcome = lock(files, world, first.lock, ["*"])
    assert outcome.lock == first.lock
    assert len(outcome.problems) == 2


def test_what_the_fleet_no_longer_names_is_dropped(fleet, world):
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve: {NANO}\n"})
    first = lock(files, world)
    (files.directory / "spark-02.yaml").unlink()
    second = lock(files, world, first.lock)
    (change,) = second.changes
    assert change.new is None
    assert set(second.lock.models) == {"openai/gpt-oss-20b"}


def test_an_image_by_digest_and_a_model_by_commit_have_entries_of_their_own(fleet, world):
    digest = "sha256:" + "e" * 64
    commit = "f" * 40
    text = (
        f"serve: {{recipe: {SMALL}, image: 'nvcr.io/nvidia/vllm:26.04-py3@{digest}', revision: '{commit}'}}\n"
    )
    outcome = lock(fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": text}), world)
    assert set(outcome.lock.images) == {NGC, f"nvcr.io/nvidia/vllm@{digest}"}
    assert set(outcome.lock.models) == {"openai/gpt-oss-20b", f"openai/gpt-oss-20b@{commit}"}
    assert outcome.lock.models[f"openai/gpt-oss-20b@{commit}"].asked == commit


def test_a_drafter_is_pinned_like_a_model(fleet, world):
    spec = "{method: dflash, model: z-lab/Drafter}"
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{speculative-config: {spec}}}}}\n"})
    assert "z-lab/Drafter" in lock(files, world).lock.models
