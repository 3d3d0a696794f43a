"""What fails around an engine is not counted as the engine's failure, and does not keep a service down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet.contract.generation import CACHE_IN_CONTAINER, Generation, Rank, RolloutRequest
from sparkfleet.contract.rollout import RolloutResult, RolloutStarted, serving_now
from sparkfleet.fleet.operations.service import rollout_diagnostic
from sparkfleet.onhost.cluster import coordination
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.rollout import changeover, follow, rollout, transient_unit
from sparkfleet.onhost.state import store
from tests.unit.onhost.world import Engine, Killed, World, generation

BAD = Engine(end_s=3)
REQUEST = RolloutRequest("s1", None, ("nano",))


@pytest.fixture
def cache(world: World) -> Path:
    """The compile cache of the first image, below the directory of all compile caches."""
    path = world.root / "vllm-compile-cache" / "img1"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def models(world: World) -> Path:
    path = world.root / "disk" / "models"
    path.mkdir(parents=True)
    (path / "weights").touch()
    return path


def old(cache: Path, models: Path) -> Generation:
    return generation(mounts={CACHE_IN_CONTAINER: cache, "/models": models})


def new(models: Path) -> Generation:
    return generation(image="img:2", mounts={"/models": models})


def ask(world: World, candidate: Generation) -> RolloutResult:
    return world.ask(replace(REQUEST, candidate=candidate))


def when(world: World, condition: Callable[[], bool], action: Callable[[], object]) -> None:
    """Do something once, as soon as the condition holds."""

    def tick() -> None:
        if condition() and tick in world.on_tick:
            world.on_tick.remove(tick)
            action()

    world.on_tick.append(tick)


def clear(path: Path) -> None:
    for entry in path.iterdir():
        entry.rmdir()


def test_a_compile_cache_that_was_cleared_does_not_keep_the_old_generation_from_returning(
    world: World, cache: Path, models: Path
) -> None:
    world.serve(old(cache, models))
    world.engines["img:2"] = BAD
    clear(cache.parent)
    result = ask(world, new(models))
    assert (result.outcome, result.serving) == ("restored", ("nano",))
    assert cache.is_dir()
    assert cache.stat().st_uid == cache.parent.stat().st_uid


def test_a_container_and_cache_that_vanish_meanwhile_are_recreated_from_the_record(
    world: World, cache: Path, models: Path
) -> None:
    before = world.serve(old(cache, models))
    world.engines["img:2"] = BAD

    def somebody_cleans_up() -> None:
        world.boxes.pop(before.id)
        clear(cache.parent)

    when(world, lambda: before.name == "nano.old", somebody_cleans_up)
    result = ask(world, new(models))
    assert (result.outcome, result.serving) == ("restored", ("nano",))
    record = store.current(world.paths.state, "nano")
    box = world.named("nano")
    assert record is not None
    assert box is not None
    assert record.container_id == box.id
    assert box.labels["io.sparkfleet.generation"] == old(cache, models).id


def test_a_container_that_was_recreated_before_a_kill_is_the_one_of_the_record(
    world: World, cache: Path, models: Path
) -> None:
    before = world.serve(old(cache, models))
    world.engines["img:2"] = BAD
    when(world, lambda: before.name == "nano.old", lambda: world.boxes.pop(before.id))
    create, recreated = world.docker.create, []

    def create_and_die(*args: object) -> str:
        created = create(*args)  # type: ignore[arg-type]
        recreated.append(created)
        if len(recreated) == 2:
            raise Killed
        return created

    world.docker.create = create_and_die  # type: ignore[method-assign, assignment]
    with pytest.raises(Killed):
        ask(world, new(models))
    world.dies()
    assert rollout.run(world, "s1").outcome == "restored"
    record = store.current(world.paths.state, "nano")
    assert record is not None
    assert record.container_id == recreated[-1]


@pytest.mark.parametrize("returns", [True, False])
def test_a_disk_that_is_gone_is_waited_for_and_named(
    world: World, cache: Path, models: Path, returns: bool
) -> None:
    world.serve(old(cache, models))
    world.engines["img:2"] = BAD
    away = models.with_name("away")
    when(world, lambda: world.named("nano.old") is not None, lambda: models.rename(away))
    if returns:
        later = world.clock + 120
        when(world, lambda: world.clock > later and away.exists(), lambda: away.rename(models))
    result = ask(world, generation(image="img:2"))
    if returns:
        assert (result.outcome, result.serving) == ("restored", ("nano",))
    else:
        assert result.outcome == "failed"
        (wrong,) = result.restore_problems
        assert (wrong.location, wrong.message) == ("nano", f"{models} does not exist")
        assert wrong.code == "mount-missing"
        assert f"nothing answers on its port; nano: {models} does not exist" in result.text
        assert world.clock < 1_000_000 + 600


@pytest.mark.parametrize("kind", ["fstab", "mount unit"])
def test_a_declared_disk_that_is_not_mounted_is_named_before_anything_stops(
    world: World, cache: Path, models: Path, kind: str
) -> None:
    serving = world.serve(old(cache, models))
    (models / "weights").unlink()
    disk = models.parent
    if kind == "fstab":
        world.paths.fstab.write_text(f"# disks\nUUID=1 / ext4 defaults 0 1\nUUID=2 {disk} ext4 nofail 0 2\n")
    else:
        (world.paths.units / "disk.mount").write_text(f"[Mount]\nWhat=/dev/sdb1\nWhere={disk}\n")
    world.paths.mountinfo.write_text("24 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    result = ask(world, new(models))
    assert result.outcome == "refused"
    assert f"the disk of {disk} is declared, but not mounted" in result.cause
    assert serving.running
    with world.paths.mountinfo.open("a") as file:
        file.write(f"25 24 8:17 / {disk} rw - ext4 /dev/sdb1 rw\n")
    assert world.ask(RolloutRequest("s2", new(models), ("nano",))).outcome == "promoted"


@pytest.mark.parametrize("options", ["noauto", "defaults"])
def test_an_unmounted_disk_with_noauto_or_a_directory_with_content_blocks_no_rollout(
    world: World, cache: Path, models: Path, options: str
) -> None:
    world.serve(old(cache, models))
    if options == "noauto":
        (models / "weights").unlink()
    world.paths.fstab.write_text(f"UUID=2 {models.parent} ext4 {options} 0 2\n")
    assert ask(world, new(models)).outcome == "promoted"


@pytest.mark.provokes("mount-missing")
def test_models_that_are_not_there_are_named_before_anything_stops(world: World, models: Path) -> None:
    before = world.serve(generation())
    candidate = new(models)
    models.rename(models.with_name("away"))
    result = ask(world, candidate)
    assert (result.outcome, result.cause) == ("refused", f"{models} does not exist")
    assert before.running


@pytest.mark.provokes("runtime-restarted")
def test_a_restart_of_dockerd_has_a_code_of_its_own(world: World) -> None:
    world.engines["img:2"] = Engine(ready_s=60, end_s=30, exit_code=137)
    boxes = world.boxes.values()
    when(world, lambda: any(box.exit_code for box in boxes), lambda: setattr(world, "daemon", "42"))
    result = ask(world, generation(image="img:2"))
    assert result.diagnostic is not None
    assert result.diagnostic.code == "runtime-restarted"


def test_a_candidate_that_cannot_be_removed_does_not_keep_the_old_generation_from_returning(
    world: World,
) -> None:
    before = world.serve(generation())
    world.engines["img:2"] = BAD
    world.remove_error = "driver failed to remove root filesystem: device or resource busy"
    result = ask(world, generation(image="img:2"))
    assert (result.outcome, result.serving, before.name) == ("restored", ("nano",), "nano")
    assert world.named("nano.next") is not None


@pytest.mark.provokes("restore-failed")
def test_a_previous_container_that_cannot_be_recreated_ends_the_rollout_with_the_reason(world: World) -> None:
    before = world.serve(generation())
    world.engines["img:2"] = BAD

    def somebody_cleans_up() -> None:
        world.boxes.pop(before.id)
        world.create_error = "No such image: img:1"

    when(world, lambda: before.name == "nano.old", somebody_cleans_up)
    result = ask(world, generation(image="img:2"))
    assert result.outcome == "failed"
    (wrong,) = result.restore_problems
    assert (wrong.location, wrong.message, wrong.code) == ("nano", "No such image: img:1", "restore-failed")
    shown = rollout_diagnostic("spark-01", "nano", result)
    assert [(one.location, one.code) for one in shown.related] == [("spark-01: nano", "restore-failed")]
    assert result.cause.startswith("the engine ended with exit code 1")


def test_a_rollout_that_is_given_up_names_the_last_error_and_starts_what_ran_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.serve(generation())
    world.engines["img:2"] = BAD

    def broken(*_: object) -> None:
        before.running = False
        raise RuntimeError("no such thing")

    monkeypatch.setattr(changeover, "revert", broken)
    with pytest.raises(RuntimeError):
        ask(world, generation(image="img:2"))
    world.named("nano").name = "nano.next"  # type: ignore[union-attr]
    before.name = "nano"
    for _ in range(rollout.MAX_TRIES - 1):
        with pytest.raises(RuntimeError):
            rollout.run(world, "s1")
    result = rollout.run(world, "s1")
    assert result.outcome == "failed"
    assert result.cause.startswith(f"given up after {rollout.MAX_TRIES} tries: RuntimeError: no such thing")
    assert before.running


@pytest.mark.provokes("restore-unproven")
@pytest.mark.parametrize("service", ["without a record", "a rank of a cluster"])
def test_a_service_without_a_gate_of_its_own_is_not_called_serving(world: World, service: str) -> None:
    rank = Rank("pair", 1, ("spark-00", "spark-01"), ("10.0.0.1", "10.0.0.2"), "mp", "f")
    world.serve(generation(rank=rank if service == "a rank of a cluster" else None))
    if service == "without a record":
        store.record_path(world.paths.state, "nano").unlink()
    world.engines["img:1"].ready_s = 10_000
    world.engines["img:2"] = BAD
    result = ask(world, generation(image="img:2"))
    assert (result.outcome, result.serving, result.downtime_s) == ("restored", (), None)
    text = serving_now(result)
    assert text.startswith("nano: restarted, but nothing proves that it answers: ")
    assert "serves" not in text
    (wrong,) = result.restore_problems
    assert (wrong.code, wrong.severity) == ("restore-unproven", "warning")


DAEMON = "dockerd was restarted while the engine started"


@pytest.mark.parametrize(
    ("what", "cause"),
    [("dockerd", DAEMON), ("containerd", DAEMON), ("the engine alone", "the engine was killed")],
)
def test_a_restart_of_the_daemon_during_the_gate_is_not_called_lack_of_memory(
    world: World, what: str, cause: str
) -> None:
    world.serve(generation())
    world.engines["img:2"] = Engine(ready_s=60, end_s=30, exit_code=137)
    if what != "the engine alone":
        new_identity = {"dockerd": "42 7", "containerd": "41 8"}[what]
        world.daemon = "41 7"

        def restart() -> None:
            world.daemon = new_identity

        def ended() -> bool:
            return any(box.image == "img:2" and box.exit_code for box in world.boxes.values())

        when(world, ended, restart)
    result = ask(world, generation(image="img:2"))
    assert result.outcome == "restored"
    assert cause in result.cause
    assert result.diagnostic is not None
    assert (result.diagnostic.code == "runtime-restarted") == (what != "the engine alone")


class FullDisk:
    """A state directory that cannot be written from a moment on."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, *, only: str = "") -> None:
        self.broken = False
        self._state = world.paths.state
        self._only = only
        for name in ("append_line", "write_atomic"):
            monkeypatch.setattr(files, name, self._unless_broken(getattr(files, name)))

    def _unless_broken(self, call: Callable[..., object]) -> Callable[..., object]:
        def write(path: Path, *args: object, **more: object) -> object:
            if self.broken and path.is_relative_to(self._state) and path.name.endswith(self._only):
                raise OSError(30, "Read-only file system", str(path))
            return call(path, *args, **more)

        return write


@pytest.mark.parametrize("only", ["", "events.jsonl"], ids=["file system", "events alone"])
@pytest.mark.parametrize("engine", [BAD, Engine()], ids=["a bad candidate", "a good candidate"])
def test_a_journal_that_cannot_be_written_after_the_stop_ends_in_a_state_that_serves(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    engine: Engine,
    only: str,
) -> None:
    before = world.serve(generation())
    world.engines["img:2"] = engine
    disk = FullDisk(world, monkeypatch, only=only)
    when(world, lambda: before.name == "nano.old", lambda: setattr(disk, "broken", True))
    result = ask(world, generation(image="img:2"))
    assert (result.outcome, result.serving) == ("restored", ("nano",))
    assert world.serving(8000) is before
    events = list(follow.follow(world, "s1", 0, 0))
    assert events[-1].result == result.to_json()
    assert [event.n for event in events] == list(range(len(events)))
    assert "restore" in {event.step for event in events}
    assert "Read-only file system" in capsys.readouterr().err


@pytest.mark.provokes("journal-unwritable")
def test_a_rollout_that_cannot_record_its_first_step_changes_nothing_and_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.serve(generation())
    world.write(replace(REQUEST, candidate=generation(image="img:2")))
    FullDisk(world, monkeypatch).broken = True
    result = rollout.run(world, "s1")
    assert result.outcome == "refused"
    assert f"{store.rollout_directory(world.paths.state, 's1')}: it cannot be written" in result.cause
    assert before.running
    assert list(follow.follow(world, "s1", 0, 0))[-1].result == result.to_json()


@pytest.mark.parametrize("only", ["", "events.jsonl"], ids=["file system", "events alone"])
def test_a_stop_that_cannot_be_recorded_does_not_happen(
    world: World, monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    """A reboot would forget it: what memory alone knows must not stop a service."""
    before = world.serve(generation())
    disk = FullDisk(world, monkeypatch, only=only)
    create = world.docker.create

    def create_and_break(*args: object) -> str:
        disk.broken = True
        return create(*args)  # type: ignore[arg-type]

    world.docker.create = create_and_break  # type: ignore[method-assign, assignment]
    result = ask(world, generation(image="img:2"))
    assert result.outcome == "refused"
    assert (before.name, before.running) == ("nano", True)


def test_a_kill_while_the_journal_cannot_be_written_is_counted_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.serve(generation())
    world.engines["img:2"] = BAD
    disk = FullDisk(world, monkeypatch)
    when(world, lambda: before.name == "nano.old", lambda: setattr(disk, "broken", True))

    def dies(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(changeover, "revert", dies)
    with pytest.raises(Killed):
        ask(world, generation(image="img:2"))
    for _ in range(rollout.MAX_TRIES - 1):
        world.dies()
        with pytest.raises(Killed):
            rollout.run(world, "s1")
    assert rollout.run(world, "s1").cause.startswith(f"given up after {rollout.MAX_TRIES} tries")


def test_the_next_request_is_refused_with_the_reason_until_the_disk_can_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.serve(generation())
    world.engines["img:2"] = BAD
    disk = FullDisk(world, monkeypatch)
    when(world, lambda: before.name == "nano.old", lambda: setattr(disk, "broken", True))
    result = ask(world, generation(image="img:2"))
    following = RolloutRequest("s2", generation(image="img:2"), ("nano",))
    code, response = transient_unit.request(world, following)
    assert response.diagnostic is not None
    assert (code, response.diagnostic.code) == (1, "journal-unwritable")
    assert "Read-only file system" in response.diagnostic.message
    disk.broken = False
    assert transient_unit.request(world, following) == (0, RolloutStarted("s2", "started"))
    assert store.unfinished(world.paths.state) == ("s2",)
    path = store.rollout_directory(world.paths.state, "s1") / "result.json"
    assert files.read_document(RolloutResult, path) == result


def test_an_engine_that_these_programs_do_not_have_is_refused_before_any_change(world: World) -> None:
    before = world.serve(generation())
    result = ask(world, replace(generation(image="img:2"), engine="newer"))
    assert result.diagnostic is not None
    assert (result.outcome, result.diagnostic.code) == ("refused", "engine-unsupported")
    assert "engine newer" in result.cause
    assert (before.running, before.starts) == (True, 1)


def test_a_rollout_whose_engine_became_unsupported_after_the_stop_is_rolled_back(world: World) -> None:
    place = Rank("pair", 0, ("spark-01", "spark-02"), ("10.0.0.1", "10.0.0.2"), "mp", "f")
    world.serve(generation())
    world.write(RolloutRequest("s1", generation(image="img:2"), ("nano",)))
    world.on_tick.append(lambda: setattr(world, "kill_at", world.points))
    with pytest.raises(Killed):
        rollout.run(world, "s1")
    world.on_tick.clear()
    world.kill_at = -1
    world.dies()
    path = store.rollout_directory(world.paths.state, "s1") / "request.json"
    request = files.read_document(RolloutRequest, path)
    assert request is not None
    assert request.candidate is not None
    candidate = replace(request.candidate, rank=replace(place, executor="newer"))
    files.write_document(path, replace(request, candidate=candidate, cluster_key="t"))
    world.reboot()
    assert world.spawned == ["s1"]
    assert rollout.run(world, "s1").outcome == "restored"


@pytest.mark.parametrize("changed", [False, True])
def test_an_error_before_the_first_step_counts_and_ends_the_rollout(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    before = world.serve(generation())
    world.write(RolloutRequest("s1", generation(image="img:2"), ("nano",)))
    if changed:
        world.on_tick.append(lambda: setattr(world, "kill_at", world.points))
        with pytest.raises(Killed):
            rollout.run(world, "s1")
        world.on_tick.clear()
        world.kill_at = -1
        world.dies()

    def broken(*_: object) -> None:
        raise KeyError("newer")

    monkeypatch.setattr(coordination, "coordinator", broken)
    for _ in range(rollout.MAX_TRIES - changed):
        with pytest.raises(KeyError):
            rollout.run(world, "s1")
    result = rollout.run(world, "s1")
    assert result.outcome == "failed"
    assert result.cause.startswith(f"given up after {rollout.MAX_TRIES} tries: KeyError: 'newer'")
    assert before.running
