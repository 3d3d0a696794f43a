from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkfleet import engines
from sparkfleet.contract.generation import CACHE_IN_CONTAINER, Rank
from sparkfleet.engines.host import Request
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import HttpRequest, HttpResponse
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.supervisor.starts import Starts
from sparkfleet.onhost.supervisor.supervisor import ENDED, STOPPED, Supervisor
from sparkfleet.runtimes.base import RuntimeRefusedError
from tests.unit.onhost.world import Box, Engine, World, generation

NANO = generation()


@pytest.fixture
def box(world: World) -> Box:
    """A promoted container, not running."""
    served = world.serve(NANO)
    served.running = False
    served.starts = 0
    return served


def supervisor(world: World, **more: object) -> Supervisor:
    notes: list[str] = []
    supervised = Supervisor(world, "nano", 2048, 60, world.output.append, notes.append, **more)  # type: ignore[arg-type]
    supervised.notes = notes  # type: ignore[attr-defined]
    return supervised


def after(world: World, seconds: float, action: Callable[[], None]) -> None:
    """Call a function once after a number of seconds."""
    due = world.clock + seconds

    def tick() -> None:
        if world.clock >= due and tick in world.on_tick:
            world.on_tick.remove(tick)
            action()

    world.on_tick.append(tick)


def test_it_starts_the_container_and_tells_systemd_when_it_runs(world: World, box: Box) -> None:
    supervised = supervisor(world)
    after(world, 5, supervised.stop.set)
    supervised.run()
    assert box.starts == 1
    assert supervised.notes[0].startswith("READY=1")  # type: ignore[attr-defined]


def test_a_requested_stop_stops_the_container_and_is_a_success(world: World, box: Box) -> None:
    supervised = supervisor(world)
    after(world, 5, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert not box.running


def test_it_adopts_a_running_container_without_a_restart(world: World, box: Box) -> None:
    world._run_box(box)
    started = box.started
    supervised = supervisor(world)
    after(world, 5, supervised.leave.set)
    assert supervised.run() == units.ADOPT_AGAIN
    assert (box.running, box.starts, box.started) == (True, 1, started)


@pytest.mark.parametrize("code", [0, 1, 137])
def test_an_engine_that_ends_by_itself_is_a_failure_whatever_its_exit_code(
    world: World, box: Box, code: int
) -> None:
    world.engines["img:1"] = Engine(end_s=5, exit_code=code)
    assert supervisor(world).run() == ENDED
    assert world.output[-1] == f"sparkfleet: the engine ended by itself with exit code {code}"


def test_memory_below_the_floor_kills_the_engine(world: World, box: Box) -> None:
    world.engines["img:1"] = Engine(eats_mib_s=6000)
    assert supervisor(world).run() == ENDED
    assert not box.running
    assert "below the floor of 2048 MiB" in world.output[-1]


def test_dockerd_going_away_is_waited_out_and_the_container_started_again(world: World, box: Box) -> None:
    supervised = supervisor(world)

    def dockerd_goes() -> None:
        world.docker_gone, world.docker_stopped, world.dockerd_back_at = True, True, world.clock + 3600
        box.running = False

    after(world, 30, dockerd_goes)
    after(world, 3700, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert box.starts == 2


def test_a_dockerd_that_was_stopped_on_purpose_is_not_woken_up(world: World, box: Box) -> None:
    supervised = supervisor(world)

    def dockerd_is_stopped() -> None:
        world.docker_stopped, box.running = True, False

    after(world, 30, dockerd_is_stopped)
    after(world, 600, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert not world.woken


def test_a_container_that_ends_just_before_dockerd_goes_is_no_failure(world: World, box: Box) -> None:
    """A stopping dockerd ends its containers with 0 while old connections still answer."""
    supervised = supervisor(world)

    def container_ends() -> None:
        box.running, world.docker_stopped = False, True
        world.dockerd_back_at = world.clock + 20

    after(world, 30, container_ends)
    after(world, 100, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert box.starts == 2


def test_a_dockerd_that_shows_its_end_a_moment_later_is_waited_for(world: World, box: Box) -> None:
    supervised = supervisor(world)

    def container_ends() -> None:
        box.running, box.exit_code = False, 0

    def dockerd_ends() -> None:
        world.docker_stopped, world.dockerd_back_at = True, world.clock + 20

    after(world, 30, container_ends)
    after(world, 32, dockerd_ends)
    after(world, 100, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert box.starts == 2


def test_a_stop_while_dockerd_is_away_ends_the_supervisor(world: World, box: Box) -> None:
    world.docker_gone = True
    supervised = supervisor(world)
    after(world, 5, supervised.stop.set)
    assert supervised.run() == STOPPED


def test_dockerd_away_at_the_start_does_not_hold_up_the_boot(world: World, box: Box) -> None:
    world.docker_gone = True
    supervised = supervisor(world)
    after(world, 5, supervised.stop.set)
    supervised.run()
    assert supervised.notes[0] == "READY=1\nSTATUS=waiting for dockerd"  # type: ignore[attr-defined]


@pytest.mark.provokes("container-recreated")
def test_another_container_than_the_promoted_one_is_refused(world: World, box: Box) -> None:
    del world.boxes[box.id]
    candidate = world.add("nano", NANO, running=False)
    assert supervisor(world).run() == units.REFUSED
    assert candidate.starts == 0
    assert "the record has" in world.output[-1]


def test_a_container_without_our_label_is_refused(world: World, box: Box) -> None:
    box.labels.clear()
    assert supervisor(world).run() == units.REFUSED
    assert box.starts == 0


@pytest.mark.provokes("container-disappeared")
def test_no_container_at_all_is_refused(world: World) -> None:
    assert supervisor(world).run() == units.REFUSED


@pytest.mark.provokes("starts-crash-host")
def test_starts_that_crashed_the_whole_spark_are_not_repeated_for_ever(world: World, box: Box) -> None:
    """Each boot starts the engine, the start takes the Spark down: no signal, no exit, just the next boot."""

    class PowerCut(BaseException):
        pass

    def power_cut() -> None:
        raise PowerCut

    for _ in range(units.MAX_STARTS):
        box.running = False
        after(world, 10, power_cut)
        with pytest.raises(PowerCut):
            supervisor(world).run()
    box.running = False
    assert supervisor(world).run() == units.REFUSED
    assert box.starts == units.MAX_STARTS
    world.clock += units.WITHIN_S
    supervised = supervisor(world)
    after(world, 5, supervised.stop.set)
    assert supervised.run() == STOPPED


def test_an_engine_that_serves_resets_the_count_of_starts(world: World, box: Box) -> None:
    supervised = supervisor(world)
    after(world, 40, supervised.leave.set)
    supervised.run()
    assert not (store.service_directory(world.paths.state, "nano") / "starts.json").exists()


def test_the_health_request_is_the_one_of_the_engine(
    world: World, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.on_host("vllm"), "health", Request("GET", "/livez"))
    monkeypatch.setattr(engines.on_host("vllm"), "uses_tls", lambda _argv: True)
    requests: list[tuple[str, bool]] = []
    real = world.http

    def http(request: HttpRequest) -> HttpResponse:
        requests.append((request.path, request.tls))
        return real(request)

    monkeypatch.setattr(world, "http", http)
    supervised = supervisor(world)
    after(world, 40, supervised.leave.set)
    supervised.run()
    assert set(requests) == {("/livez", True)}


def test_the_start_of_an_engine_that_still_loads_stays_counted(world: World, box: Box) -> None:
    supervised = supervisor(world)
    after(world, 10, supervised.leave.set)
    supervised.run()
    assert (store.service_directory(world.paths.state, "nano") / "starts.json").exists()


def test_the_engines_output_goes_to_the_journal(world: World, box: Box) -> None:
    world.engines["img:1"].log = "first line\nsecond line"
    supervised = supervisor(world)
    after(world, 5, supervised.stop.set)
    supervised.run()
    assert {"first line", "second line"} <= set(world.output)


@pytest.mark.parametrize("text", ["[]", '{"version": 99}'])
def test_a_record_that_cannot_be_read_starts_nothing_and_is_not_tried_again(
    world: World, box: Box, text: str
) -> None:
    path = store.record_path(world.paths.state, "nano")
    path.write_text(text)
    supervised = supervisor(world)
    assert supervised.run() == units.REFUSED
    assert (box.starts, world.output[-1].startswith(f"sparkfleet: {path}: ")) == (0, True)


def test_a_record_that_becomes_unreadable_stops_no_running_engine(world: World, box: Box) -> None:
    path = store.record_path(world.paths.state, "nano")
    supervised = supervisor(world)
    after(world, 3, lambda: files.write_atomic(path, json.dumps({"version": 99})))
    after(world, 60, supervised.leave.set)
    assert supervised.run() == units.ADOPT_AGAIN
    assert box.running


def with_mounts(world: World) -> tuple[Box, Path, Path]:
    """A promoted container that does not run, its compile cache, and the directory of models."""
    cache, models = world.root / "caches" / "img1", world.root / "disk" / "models"
    for path in (cache, models):
        path.mkdir(parents=True)
    served = world.serve(generation(mounts={CACHE_IN_CONTAINER: cache, "/models": models}))
    served.running, served.starts = False, 0
    return served, cache, models


def test_a_compile_cache_that_was_cleared_is_created_before_the_start(world: World) -> None:
    served, cache, _ = with_mounts(world)
    cache.rmdir()
    supervised = supervisor(world)
    after(world, 5, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert served.starts == 1
    assert cache.is_dir()


def test_a_disk_that_comes_late_is_waited_for_and_counts_as_no_start(world: World) -> None:
    served, _, models = with_mounts(world)
    models.rmdir()
    supervised = supervisor(world)
    after(world, 1500, models.mkdir)
    after(world, 1560, supervised.leave.set)
    assert supervised.run() == units.ADOPT_AGAIN
    assert served.starts == 1
    assert f"sparkfleet: {models} does not exist: waiting, for 30 min at most" in world.output
    assert f"STATUS=waiting: {models} does not exist" in "".join(supervised.notes)  # type: ignore[attr-defined]


def test_a_disk_that_never_comes_ends_the_unit_with_its_name_and_without_a_restart(world: World) -> None:
    served, _, models = with_mounts(world)
    models.rmdir()
    assert supervisor(world).run() == units.REFUSED
    assert served.starts == 0
    assert f"not started within 30 min: {models} does not exist; mount its disk" in world.output[-1]
    assert not (store.service_directory(world.paths.state, "nano") / "starts.json").exists()


def test_a_start_that_dockerd_refuses_is_tried_again_and_counts_as_no_start(world: World, box: Box) -> None:
    world.engines["img:1"].no_start = "could not select device driver"
    starts = Starts(store.service_directory(world.paths.state, "nano") / "starts.json")
    counts: list[int] = []
    supervised = supervisor(world)
    after(world, 590, lambda: counts.append(len(starts.recent(world.clock))))
    after(world, 600, lambda: setattr(world.engines["img:1"], "no_start", ""))
    after(world, 660, supervised.leave.set)
    assert supervised.run() == units.ADOPT_AGAIN
    assert (box.starts, counts) == (1, [0])
    assert sum("could not select device driver" in line for line in world.output) == 1


def test_a_stop_ends_the_wait_for_a_disk(world: World) -> None:
    _, __, models = with_mounts(world)
    models.rmdir()
    supervised = supervisor(world)
    after(world, 30, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert world.clock < 1_000_000 + 60


def test_a_restart_of_containerd_is_no_failure_of_the_engine(world: World, box: Box) -> None:
    supervised = supervisor(world)

    def containerd_restarts() -> None:
        box.running, box.exit_code, world.daemon = False, 137, "41 8"

    after(world, 30, containerd_restarts)
    after(world, 100, supervised.stop.set)
    assert supervised.run() == STOPPED
    assert box.starts == 2


@pytest.mark.parametrize("refusals", [5, 1000])
def test_a_request_that_dockerd_refuses_is_no_failure_of_a_running_engine(
    world: World, box: Box, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    world._run_box(box)
    find, refused = world.docker.find, [0]

    def find_or_refuse(*args: object) -> object:
        refused[0] += 1
        if refused[0] <= refusals:
            raise RuntimeRefusedError("500: layer not known", 500)
        return find(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.docker, "find", find_or_refuse)
    supervised = supervisor(world)
    after(world, 3000, supervised.leave.set)
    assert supervised.run() == (units.ADOPT_AGAIN if refusals == 5 else ENDED)
    assert (box.running, box.starts) == (True, 1)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [("ranks/.json", "{"), ("ranks/.json", '{"version": 99}'), ("run.json", '{"version": 99}')],
)
def test_a_rank_whose_key_or_last_start_cannot_be_read_is_refused_and_its_engine_left_alone(
    world: World, name: str, text: str, running: bool
) -> None:
    place = Rank("pair", 0, ("spark-01", "spark-02"), ("10.0.0.1", "10.0.0.2"), "mp", "f")
    box = world.serve(generation(rank=place))
    box.running = running
    starts = box.starts
    path = store.service_directory(world.paths.state, "nano") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert supervisor(world).run() == units.REFUSED
    assert world.output[-1].startswith(f"sparkfleet: {path}: ")
    assert (box.running, box.starts, path.read_text()) == (running, starts, text)


def test_an_engine_is_not_started_uncounted(world: World, box: Box) -> None:
    path = store.service_directory(world.paths.state, "nano") / "starts.json"
    path.write_text('{"version": 99}')
    assert supervisor(world).run() == units.REFUSED
    assert "version 99" in world.output[-1]
    assert (box.starts, path.read_text()) == (0, '{"version": 99}')


def test_a_rank_of_an_executor_that_these_programs_do_not_have_is_refused(world: World) -> None:
    place = Rank("pair", 0, ("spark-01", "spark-02"), ("10.0.0.1", "10.0.0.2"), "newer", "f")
    world.serve(generation(rank=place)).running = False
    assert supervisor(world).run() == units.REFUSED
    assert "executor newer of vllm" in world.output[-1]
