"""A service goes from its host file to its removal, without containers on a Spark without Docker; it moves
between docker and that runtime.

Host file, plan, request and rollout are the real ones; the Spark is in memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import CurrentGeneration, Generation
from sparkfleet.contract.rollout import SUCCEEDED, RolloutResult
from sparkfleet.desired_state import Host
from sparkfleet.fleet.operations.service import rollout_request
from sparkfleet.onhost.machine import mounts
from sparkfleet.onhost.rollout import services
from sparkfleet.onhost.state import store
from sparkfleet.plan import host_changes, render_service
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import ChangeKind, ChangeSet, HostState
from sparkfleet.plan.operations import RolloutOperation
from sparkfleet.probe.observation import Listener, Observed, ObservedPath, ObservedUnit, User, WithoutRuntime
from sparkfleet.probe.response import runtimes_to_read
from sparkfleet.runtimes.base import Role
from sparkfleet.runtimes.docker.onhost.names import container_name
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance
from tests.unit.config.fleet_files import write
from tests.unit.onhost.world import Box, Engine, World
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import rows
from tests.unit.runtimes.process_runtime import LIMIT, NAME, unit_name, unit_seen

pytestmark = pytest.mark.usefixtures("process_runtime")
DOCKER = "docker"
SERVICE = "recipe: gpt-oss-20b, name: nano, gate: {timeout: 2m}"
IMAGE = "nvcr.io/nvidia/vllm:26.04-py3"
GENERATION = "io.sparkfleet.generation"


class Engines(dict[str, Engine]):
    """Whatever is started serves ``nano``; the engine of one generation never answers."""

    def __init__(self, world: World, wedged: str = "") -> None:
        super().__init__()
        self._world, self._wedged = world, wedged

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Engine:
        running = (box.labels[GENERATION] for box in self._world.boxes.values() if box.running)
        return Engine(wedged=self._wedged in running)


class Spark:
    """A Spark, and the fleet directory of its operator."""

    def __init__(self, root: Path, world: World) -> None:
        self.world, self.files = world, write(root, {})
        self.user = User("nvidia", str(root / "home"), 1000, 1000, "nvidia")
        self.sent: dict[str, Generation] = {}
        (root / "home" / "vllm").mkdir(parents=True)
        world.engines = Engines(world)

    def declare(self, runtime: str = "", *, seqs: int = 4, more: str = "") -> Host:
        """Write the host file, with one service or none, and load it."""
        flags = f"flags: {{gpu-memory-utilization: 0.4, max-num-seqs: {seqs}}}"
        own = f"{{runtime: {runtime}, {SERVICE}, {flags}{more}}}" if runtime else "[]"
        write(self.files.root, {"spark-01.yaml": f"serve: {own}\n"})
        self.files.pin()
        (host,) = self.files.load(need_lock=True).hosts
        return host

    def observe(self, host: Host) -> Observed | Diagnostic:
        """Return what the probes of a plan see."""
        request = probe_request(host)
        needed = runtimes_to_read(host.name, request, self._probe(host, request.runtimes))
        return needed if isinstance(needed, Diagnostic) else self._probe(host, needed)

    def _probe(self, host: Host, names: tuple[str, ...]) -> Observed | Diagnostic:
        world, images = self.world, [one.image for one in host.services if one.image]
        seen_images = {one.pull_ref: fake_spark.image_seen(one) for one in images}
        records = [
            store.current(world.paths.state, path.name) for path in (world.paths.state / "services").glob("*")
        ]
        seen = replace(
            fake_spark.fresh(host),
            user=self.user,
            images={**seen_images, **{one.id: one for one in seen_images.values()}},
            instances=tuple(self._seen(box) for box in world.boxes.values() if box.runtime in names),
            units={path.name: self._unit(path) for path in world.paths.units.glob("*.service")}
            | {host_changes.RECOVER_UNIT: ObservedUnit("...", enabled="enabled", active="active")},
            generations={one.service: one for one in records if one},
            paths=_prepared(host, self.user),
            weights={
                f"{service.weights.repo}@{service.weights.revision}": {
                    file.path: (file.size, file.blob) for file in service.weights.files
                }
                for service in host.services
            },
            listeners=self._listeners(),
        )
        if DOCKER in names and world.docker_gone:
            found = "Docker missing"
            return WithoutRuntime(
                host.name, found, code="docker-unavailable", runtime=DOCKER, state="missing", rest=seen
            )
        return seen

    def _listeners(self) -> dict[int, Listener]:
        running = [box for box in self.world.boxes.values() if box.running]
        return {8000: Listener(42, "vllm serve", f"0::/{running[0].id}")} if running else {}

    def _seen(self, box: Box) -> ObservedInstance:
        made = self.sent[box.labels[GENERATION]]
        role = next(one for one in Role if box.name == container_name(made.service, one))
        state = "running" if box.running else "exited"
        if box.runtime == NAME:
            seen = unit_seen(made.service, made.id, "", made.definition)
            return replace(seen, id=box.id, name=unit_name(made.service, role), state=state)
        entrypoint = ("/opt/nvidia/nvidia_entrypoint.sh",)
        image = ObservedImage("sha256:" + made.image.rpartition("sha256:")[2][::-1], entrypoint=entrypoint)
        return replace(fake_spark.container_seen(made, image), id=box.id, name=box.name, state=state)

    def _unit(self, path: Path) -> ObservedUnit:
        active = "active" if path.name in self.world.active else "inactive"
        enabled = "enabled" if path.name in self.world.enabled else "disabled"
        return ObservedUnit(path.read_text(), enabled=enabled, active=active, status=fake_spark.GUARDED)

    def plan(self, host: Host) -> ChangeSet | None:
        """Return the plan's only change; None: nothing is left to do."""
        plan = host_plan(host, self.observe(host))
        assert plan.state in {HostState.UNCHANGED, HostState.CHANGE}, plan
        (change,) = plan.change_sets or (None,)
        return change

    def apply(self, change: ChangeSet | None, *, wedged: bool = False) -> RolloutResult:
        """Carry out the only operation of a change."""
        assert change is not None
        (operation,) = change.operations
        assert isinstance(operation, RolloutOperation)
        request = rollout_request(operation)
        if request.candidate:
            self.sent[request.candidate.id] = request.candidate
            self.world.engines = Engines(self.world, request.candidate.id if wedged else "")
        return self.world.ask(request)

    def converge(self, host: Host) -> ChangeSet:
        """Plan, apply, and check that nothing is left to do."""
        change = self.plan(host)
        result = self.apply(change)
        assert result.outcome in SUCCEEDED, result.diagnostic
        assert self.plan(host) is None
        assert change is not None
        return change

    def rollback(self) -> None:
        """Roll back as the command on the Spark does."""
        request = services.rollback(self.world, "nano", f"back-{len(self.sent)}")
        assert self.world.ask(request).outcome == "promoted"

    def serving(self) -> CurrentGeneration:
        """Return the record of the service, whose instance must be the only instance."""
        (box,) = self.world.boxes.values()
        record = store.current(self.world.paths.state, "nano")
        assert record is not None
        self.world.sleep(30)
        assert self.world.serving(8000) is box
        assert (box.runtime, box.id) == (record.runtime, record.container_id)
        return record


def _prepared(host: Host, user: User) -> dict[str, ObservedPath]:
    files = {
        file.path: ObservedPath("file", file.mode, "root", "root", len(file.content), file.sha256)
        for file in host_changes.managed_files()
    }
    folders = render_service.directories(host, user)
    return files | {one.path: ObservedPath("directory", one.mode, one.user, one.group) for one in folders}


def _create(path: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    return ""


@pytest.fixture
def spark(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Spark:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mounts, "_create", _create)
    return Spark(tmp_path, world)


def test_a_service_without_image_lives_on_a_spark_without_docker(spark: Spark) -> None:
    spark.world.docker_gone = True
    created = spark.converge(spark.declare(NAME))
    assert created.kind is ChangeKind.CREATE
    assert not {"image", "pull"} & {row[0] for row in rows(created)}
    first = spark.serving()
    assert (first.runtime, first.image) == (NAME, "")

    changed = spark.converge(spark.declare(NAME, seqs=8))
    assert changed.kind is ChangeKind.RECREATE
    assert rows(changed) == [("flag", "--max-num-seqs", "4", "8")]
    assert spark.serving().id != first.id

    spark.rollback()
    assert spark.serving().id == first.id
    assert spark.plan(spark.declare(NAME)) is None

    removed = spark.plan(spark.declare())
    assert removed is not None
    assert rows(removed)[0] == (NAME, "", "nano", "")
    assert spark.apply(removed).outcome == "removed"
    assert (spark.world.boxes, spark.world.enabled) == ({}, set())
    assert not list(spark.world.paths.units.glob("*"))


def test_a_generation_that_fails_its_gate_is_replaced_by_the_former_one(spark: Spark) -> None:
    spark.converge(spark.declare(NAME))
    before = spark.serving()
    change = spark.plan(spark.declare(NAME, more=", container: {memory: 9g}"))
    assert change is not None
    assert rows(change) == [("unit", LIMIT, "", "9g")]
    assert spark.apply(change, wedged=True).outcome == "restored"
    assert spark.serving() == before
    assert spark.plan(spark.declare(NAME)) is None


@pytest.mark.parametrize(("old", "new"), [(DOCKER, NAME), (NAME, DOCKER)])
def test_a_service_moves_to_another_runtime_and_back(spark: Spark, old: str, new: str) -> None:
    spark.converge(spark.declare(old))
    first = spark.serving()
    moved = spark.converge(spark.declare(new))
    assert moved.kind is ChangeKind.RECREATE
    assert ("runtime", "", old, new) in rows(moved)
    assert ("image", "", *((IMAGE, "") if new == NAME else ("", IMAGE))) in rows(moved)
    assert spark.serving().runtime == new

    spark.rollback()
    assert spark.serving().id == first.id
    assert spark.plan(spark.declare(old)) is None

    spark.converge(spark.declare(new))
    assert spark.apply(spark.plan(spark.declare())).outcome == "removed"
    assert spark.world.boxes == {}


@pytest.mark.parametrize(("old", "new"), [(DOCKER, NAME), (NAME, DOCKER)])
def test_a_move_whose_gate_fails_restores_the_service_in_its_former_runtime(
    spark: Spark, old: str, new: str
) -> None:
    spark.converge(spark.declare(old))
    before = spark.serving()
    assert spark.apply(spark.plan(spark.declare(new)), wedged=True).outcome == "restored"
    assert spark.serving() == before
    assert spark.plan(spark.declare(old)) is None


def test_a_move_away_from_docker_is_unknown_while_docker_does_not_respond(spark: Spark) -> None:
    spark.converge(spark.declare(DOCKER))
    spark.world.docker_gone = True
    host = spark.declare(NAME)
    plan = host_plan(host, spark.observe(host))
    assert plan.unknown is not None
    assert plan.unknown.message == "Docker missing"
