"""Locking a fleet: what stays, what moves, what fails, against a registry and a hub in memory."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.config.lock_data import Lock, LockedImage, LockedModel, LockedPackages
from sparkfleet.desired_state import PackageIndex, WeightFile, Weights
from sparkfleet.desired_state.derived_packages import DerivedPackages, Wheel
from sparkfleet.engines.base import Engine
from sparkfleet.lock import images, packages, resolve
from sparkfleet.lock.errors import HubError, PackagesError, RegistryError
from sparkfleet.lock.registry import Registry
from tests.unit.config.fleet_files import NANO, SMALL, FleetFiles

NGC = "nvcr.io/nvidia/vllm:26.04-py3"


class World:
    """What registry and hub answer; ``turn`` makes tags and branches move."""

    def __init__(self) -> None:
        self.turn = 1
        self.vllm: str | None = None
        """The version in every image; else it goes with ``turn``."""
        self.broken: set[str] = set()
        self.requests: list[str] = []

    def image(self, image: Any, _registry: Any, _engine: Engine) -> LockedImage:
        self.requests.append(image.display)
        if image.display in self.broken:
            raise RegistryError(f"{image.display} is broken", "repair it")
        digest = image.digest or f"sha256:{self.turn:064x}"
        vllm = f"0.{self.turn}.0" if self.vllm is None else self.vllm
        return LockedImage(replace(image, digest=digest, engine_version=vllm), digest)

    def resolve(self, repo: str, revision: str, engine: str = "vllm", pattern: str = "") -> LockedModel:
        self.requests.append(repo)
        if repo in self.broken:
            raise HubError(f"{repo} is broken", "repair it")
        files = (WeightFile("config.json", 7, "", "a" * 40),)
        return LockedModel(Weights(repo, f"{self.turn:040x}", files), revision)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(images, "resolve", made.image)
    return made


def lock(
    files: FleetFiles, world: Any, old: Lock | None = None, update: Collection[str] = ()
) -> resolve.LockResult:
    return resolve.lock(files.load(), old or Lock(), world, Registry, tuple(update))


def test_everything_that_a_fleet_names_is_pinned_once(fleet: Callable[..., FleetFiles], world: World) -> None:
    files = fleet({f"spark-0{n}.yaml": f"serve: {SMALL}\n" for n in range(1, 5)})
    outcome = lock(files, world)
    assert set(outcome.lock.images) == {NGC}
    assert set(outcome.lock.models) == {"openai/gpt-oss-20b"}
    assert sorted(world.requests) == ["nvcr.io/nvidia/vllm:26.04-py3", "openai/gpt-oss-20b"]
    assert outcome.diagnostics == ()


def test_what_is_locked_stays_and_is_not_asked_for_again(
    fleet: Callable[..., FleetFiles], world: World
) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.turn, world.requests = 2, []
    second = lock(files, world, first.lock)
    assert second.lock == first.lock
    assert second.changes == ()
    assert world.requests == []


def test_what_is_new_is_added_beside_what_is_locked(fleet: Callable[..., FleetFiles], world: World) -> None:
    first = lock(fleet({"spark-01.yaml": f"serve: {SMALL}\n"}), world)
    world.turn = 2
    second = lock(fleet({"spark-02.yaml": f"serve: {NANO}\n"}), world, first.lock)
    assert second.lock.images == first.lock.images
    assert [change.key for change in second.changes] == ["nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"]


@pytest.mark.parametrize("name", ["openai/gpt-oss-20b", "gpt-oss-*", SMALL])
def test_an_update_moves_what_it_names_and_nothing_else(
    fleet: Callable[..., FleetFiles], world: World, name: Any
) -> None:
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
def test_an_image_is_moved_by_its_name_with_or_without_tag(
    fleet: Callable[..., FleetFiles], world: World, name: str
) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.turn = 2
    (change,) = lock(files, world, first.lock, [name]).changes
    assert change.key == NGC


def test_an_update_of_everything_moves_everything(fleet: Callable[..., FleetFiles], world: World) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.turn = 2
    assert len(lock(files, world, first.lock, ["*"]).changes) == 2


@pytest.mark.provokes("lock-update-unknown")
def test_an_update_of_nothing_known_is_a_diagnostic_with_the_nearest_name(
    fleet: Callable[..., FleetFiles], world: World
) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    outcome = lock(files, world, update=["gpt-os-20b"])
    (diagnostic,) = outcome.diagnostics
    assert diagnostic.hint == f"did you mean '{SMALL}'?"
    assert len(outcome.lock.models) == 1


@pytest.mark.provokes("lock-model-unresolved")
def test_what_cannot_be_resolved_is_reported_where_it_is_written_and_the_rest_is_pinned(
    fleet: Callable[..., FleetFiles], world: World
) -> None:
    files = fleet(
        {"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve:\n  recipe: {NANO}\n  model: a/b\n"}
    )
    world.broken = {"a/b"}
    outcome = lock(files, world)
    (diagnostic,) = outcome.diagnostics
    assert diagnostic.location == "inventories/lab/spark-02.yaml:3"
    assert (diagnostic.message, diagnostic.hint) == ("a/b is broken", "repair it")
    assert set(outcome.lock.models) == {"openai/gpt-oss-20b"}


def test_an_update_that_fails_keeps_what_was_locked(fleet: Callable[..., FleetFiles], world: World) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    first = lock(files, world)
    world.broken = {"nvcr.io/nvidia/vllm:26.04-py3", "openai/gpt-oss-20b"}
    outcome = lock(files, world, first.lock, ["*"])
    assert outcome.lock == first.lock
    assert len(outcome.diagnostics) == 2


def test_what_the_fleet_no_longer_names_is_dropped(fleet: Callable[..., FleetFiles], world: World) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve: {NANO}\n"})
    first = lock(files, world)
    (files.directory / "spark-02.yaml").unlink()
    second = lock(files, world, first.lock)
    (change,) = second.changes
    assert change.new is None
    assert set(second.lock.models) == {"openai/gpt-oss-20b"}


def test_an_image_by_digest_and_a_model_by_commit_have_entries_of_their_own(
    fleet: Callable[..., FleetFiles], world: World
) -> None:
    digest = "sha256:" + "e" * 64
    commit = "f" * 40
    text = (
        f"serve: {{recipe: {SMALL}, image: 'nvcr.io/nvidia/vllm:26.04-py3@{digest}', revision: '{commit}'}}\n"
    )
    outcome = lock(fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": text}), world)
    assert set(outcome.lock.images) == {NGC, f"nvcr.io/nvidia/vllm@{digest}"}
    assert set(outcome.lock.models) == {"openai/gpt-oss-20b", f"openai/gpt-oss-20b@{commit}"}
    assert outcome.lock.models[f"openai/gpt-oss-20b@{commit}"].requested == commit


def test_a_drafter_is_pinned_like_a_model(fleet: Callable[..., FleetFiles], world: World) -> None:
    spec = "{method: dflash, model: z-lab/Drafter}"
    files = fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, flags: {{speculative-config: {spec}}}}}\n"})
    assert "z-lab/Drafter" in lock(files, world).lock.models


@pytest.fixture
def wheels(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An index in memory: the version of each package goes with ``turn``."""
    requests = []

    def choose(lock_targets: Any, installed: Any, index: Any) -> Any:
        names = [name for name, _ in lock_targets]
        requests.append((names, dict(installed), index))
        if world.broken & set(names):
            raise PackagesError("no wheels", "name another range")
        made = tuple(Wheel(f"{n}-{world.turn}-py3-none-any.whl", f"u{n}", "a" * 64, 1) for n in names)
        return LockedPackages(DerivedPackages(tuple(names), made), index.python, index.machine)

    monkeypatch.setattr(packages, "resolve", choose)
    world.vllm = "0.19.0"
    return requests


def with_scipy(fleet: Callable[..., FleetFiles]) -> FleetFiles:
    return fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, packages: {{scipy: '>=1'}}}}\n"})


SCIPY_KEY = f"{NGC} + scipy>=1"


def test_packages_that_the_pinned_image_lacks_are_pinned_with_its_vllms_bounds(
    fleet: Callable[..., FleetFiles], world: World, wheels: Any
) -> None:
    outcome = lock(with_scipy(fleet), world)
    assert set(outcome.lock.packages) == {SCIPY_KEY}
    ((names, installed, index),) = wheels
    assert names == ["scipy"]
    assert installed["torch"] == "==2.10.0"
    assert index == PackageIndex()
    assert {change.key for change in outcome.changes} == {NGC, "openai/gpt-oss-20b", SCIPY_KEY}


def test_packages_that_the_pinned_image_has_are_not_asked_for(
    fleet: Callable[..., FleetFiles], world: World, wheels: Any
) -> None:
    world.vllm = "0.11.0"  # requires Ray
    text = f"serve: {{recipe: {SMALL}, packages: {{ray: ''}}}}\n"
    assert lock(fleet({"spark-01.yaml": text}), world).lock.packages == {}
    assert wheels == []


def test_locked_packages_stay_until_the_image_the_python_or_their_name_moves(
    fleet: Callable[..., FleetFiles], world: World, wheels: Any
) -> None:
    files = with_scipy(fleet)
    first = lock(files, world)
    world.turn = 2
    assert lock(files, world, first.lock).changes == ()
    assert len(wheels) == 1
    for update in (["scipy"], [NGC], [SMALL]):
        assert SCIPY_KEY in {change.key for change in lock(files, world, first.lock, update).changes}
    (files.root / "group_data").mkdir(exist_ok=True)
    (files.root / "group_data" / "all.py").write_text("sparkfleet = {'python_packages': {'python': '3.13'}}")
    (change,) = lock(files, world, first.lock).changes
    assert isinstance(change.new, LockedPackages)
    assert (change.key, change.new.python) == (SCIPY_KEY, "3.13")


@pytest.mark.provokes("lock-packages-unresolved")
def test_unavailable_packages_keep_what_was_locked_and_are_reported(
    fleet: Callable[..., FleetFiles], world: World, wheels: Any
) -> None:
    files = with_scipy(fleet)
    first = lock(files, world)
    world.broken = {"scipy"}
    outcome = lock(files, world, first.lock, ["scipy"])
    assert outcome.lock == first.lock
    (diagnostic,) = outcome.diagnostics
    assert (diagnostic.message, diagnostic.expected) == (
        "no wheels",
        "wheels of scipy for Python 3.12 on aarch64",
    )


@pytest.mark.provokes("lock-image-unresolved")
def test_packages_of_an_image_that_cannot_be_pinned_wait_for_it(
    fleet: Callable[..., FleetFiles], world: World, wheels: Any
) -> None:
    world.broken = {NGC}
    outcome = lock(with_scipy(fleet), world)
    assert outcome.lock.packages == {}
    assert [diagnostic.message for diagnostic in outcome.diagnostics] == [f"{NGC} is broken"]
    assert wheels == []
