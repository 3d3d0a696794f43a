"""Several Sparks in memory under one clock: rollouts and supervisors run side by side in an order that a seed
decides.

Each program is a greenlet; it gives way where it sleeps. Nothing here waits for real time.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from sparkfleet import engines
from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.contract.rollout import RolloutResult
from sparkfleet.onhost.cluster import messages
from sparkfleet.onhost.machine.system import CommandResult, PortOwner, Stop
from sparkfleet.onhost.rollout import rollout, transient_unit
from sparkfleet.onhost.state import units
from sparkfleet.onhost.supervisor.supervisor import Supervisor
from tests.unit.onhost.world import Box, Engine, World, generation

RAY = engines.on_host(engines.DEFAULT).cluster_starts["ray"]
RAY_S = 4.0
"""Seconds after its container's start at which the head's Ray answers."""


class Sparks:
    """The Sparks of one cluster, by rank."""

    def __init__(self, root: Path, executor: str = "mp", count: int = 2, seed: int = 0) -> None:
        self.executor, self.random, self.clock = executor, random.Random(seed), 1_000_000.0
        self.names = tuple(f"spark-{number:02}" for number in range(1, count + 1))
        self.addresses = tuple(f"10.0.0.{number}" for number in range(1, count + 1))
        self.starts: list[tuple[float, int]] = []
        """When an engine's container was started, and on which rank."""
        self.results: dict[int, RolloutResult] = {}
        self._queue: list[tuple[float, int, greenlet]] = []
        self._count = itertools.count()
        self.all = [Spark(self, rank, root / name) for rank, name in enumerate(self.names)]

    def generation(self, rank: int, image: str = "img:1", make: str = "") -> Generation:
        """Return a rank's generation; the make of an image is its name."""
        place = Rank("pair", rank, self.names, self.addresses, self.executor, make or image)
        return generation(image=image, rank=place)

    def roll_out(self, image: str = "img:2", *, delays: Sequence[float] = (), cluster_key: str = "t") -> None:
        """Ask every rank for the same change, each after its delay."""
        for spark in self.all:
            delay = delays[spark.rank] if spark.rank < len(delays) else self.random.uniform(0, 5)
            self.spawn(spark, partial(spark.change, image, cluster_key), delay)

    def spawn(self, spark: Spark, call: Callable[[], object], delay: float = 0.0) -> None:
        """Run a program on a Spark, ``delay`` seconds from now."""

        def program() -> None:
            try:
                call()
            finally:
                spark.programs.discard(task)

        task = greenlet(program)
        spark.programs.add(task)
        heapq.heappush(self._queue, (self.clock + delay, next(self._count), task))

    def pause(self, seconds: float) -> None:
        """Let the others run for so long, and a little more."""
        wake = self.clock + seconds + self.random.uniform(0, 0.05)
        heapq.heappush(self._queue, (wake, next(self._count), getcurrent()))
        task = getcurrent().parent
        assert task is not None, "the main program cannot sleep"
        task.switch()

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, until a condition holds."""
        end = self.clock + seconds
        while self.clock < end and not until():
            second = int(self.clock) + 1.0
            while self._queue and self._queue[0][0] <= second:
                at, _, task = heapq.heappop(self._queue)
                self._set_clock(max(self.clock, at))
                if not task.dead:
                    task.parent = getcurrent()
                    task.switch()
            self._set_clock(second)
            for spark in self.all:
                spark.tick()

    def _set_clock(self, clock: float) -> None:
        self.clock = clock
        for spark in self.all:
            spark.clock = clock

    def forget(self, programs: set[greenlet]) -> None:
        """Kill programs where they stand."""
        self._queue = [entry for entry in self._queue if entry[2] not in programs]
        heapq.heapify(self._queue)

    def epochs(self) -> list[list[int]]:
        """Return the order in which ranks were started, epoch by epoch of ``len(self.all)`` starts."""
        order = [rank for _, rank in self.starts]
        size = len(self.all)
        return [order[index : index + size] for index in range(0, len(order), size)]

    def outcomes(self) -> list[str]:
        """Return how the ranks' rollouts ended."""
        return [self.results[rank].outcome for rank in sorted(self.results)]

    def images(self) -> list[str]:
        """Return what runs on each rank."""
        return [",".join(sorted(b.image for b in spark.boxes.values() if b.running)) for spark in self.all]

    def serves(self) -> bool:
        """Tell whether the head answers with all ranks behind it."""
        return self.all[0].serving(8000) is not None


class Spark(World):
    """One of them."""

    def __init__(self, sparks: Sparks, rank: int, root: Path) -> None:
        super().__init__(root)
        self.sparks, self.rank, self.clock = sparks, rank, sparks.clock
        self.engines = {"img:1": Engine(), "img:2": Engine()}
        self.programs: set[greenlet] = set()
        self.supervisors: dict[str, Supervisor] = {}
        self._beats: list[tuple[greenlet, Callable[[], None]]] = []
        """What is called every second, and for which program."""
        self.cut = False
        """Nobody reaches it over the fabric, nor it anybody."""
        self.off = False

    # -- programs

    def change(self, image: str, cluster_key: str) -> None:
        """Run the rollout to its end."""
        request = RolloutRequest(
            "s1", self.sparks.generation(self.rank, image), ("nano",), cluster_key=cluster_key
        )
        self.write(request)
        self.sparks.results[self.rank] = rollout.run(self, request.id)

    def serve_rank(self, image: str = "img:1") -> Box:
        """Put a promoted rank there, stopped; its unit is enabled."""
        box = self.serve(self.sparks.generation(self.rank, image))
        box.running, box.starts = False, 0
        self.active.clear()
        return box

    def boot(self, delay: float = 0.0) -> None:
        """Start what starts at boot."""
        self.off = False

        def start() -> None:
            transient_unit.recover(self)
            for unit in sorted(self.enabled):
                self._start(unit.removeprefix("sparkfleet-").removesuffix(".service"), unit)
            for rollout_id in self.spawned:
                self.sparks.results[self.rank] = rollout.run(self, rollout_id)

        self.sparks.spawn(self, start, delay)

    def power_off(self) -> None:
        """Everything ends at once."""
        self.sparks.forget(self.programs)
        self.off = True
        self.programs.clear()
        self.supervisors.clear()
        self.desks.clear()
        self._beats.clear()
        self.active.clear()
        self.spawned.clear()
        for box in self.boxes.values():
            if box.running:
                box.running, box.exit_code = False, 137

    def kill_rollout(self, *, again: float) -> None:
        """Kill what runs but the supervisors; systemd starts the rollout again after ``again`` seconds."""
        supervisors = {task for task in self.programs if getattr(task, "is_supervisor", False)}
        self.sparks.forget(self.programs - supervisors)
        self.programs &= supervisors
        self.desks.pop(messages.PORT, None)
        self._beats = [beat for beat in self._beats if beat[0] in supervisors]
        self.sparks.spawn(self, self._again, again)

    def _again(self) -> None:
        self.sparks.results[self.rank] = rollout.run(self, "s1")

    def tick(self) -> None:
        """A second has passed."""
        if not self.off:
            self._tick()
            for _, call in tuple(self._beats):
                call()

    # -- system.System

    def sleep(self, seconds: float) -> None:
        self.sparks.pause(seconds)

    def every(self, seconds: float, call: Callable[[], None]) -> Stop:
        beat = (getcurrent(), call)
        self._beats.append(beat)
        call()
        return lambda: self._beats.remove(beat) if beat in self._beats else None

    def listen(
        self, address: str, port: int, respond: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[], None]:
        if port in self.desks:
            raise OSError(98, "Address already in use")
        return super().listen(address, port, respond)

    def ask_other(
        self, address: str, port: int, message: dict[str, Any], timeout_s: float
    ) -> dict[str, Any] | None:
        other = self.sparks.all[self.sparks.addresses.index(address)]
        if self.cut or other.cut or other.off or port not in other.desks:
            return None
        return other.desks[port](message)

    def port_owners(self, port: int) -> tuple[PortOwner, ...]:
        if port != RAY.head_port:
            return super().port_owners(port)
        ready = (b for b in self.boxes.values() if b.running and self.clock - b.started >= RAY_S)
        return tuple(PortOwner(9, "gcs_server", box.id) for box in ready) if self.rank == 0 else ()

    def serving(self, port: int, *, listening_only: bool = False) -> Box | None:
        """The head answers with all ranks; other ranks never do."""
        box = super().serving(port, listening_only=listening_only)
        if box is None or self.rank or not box.running:
            return None
        engines = [next((b for b in s.boxes.values() if b.running), None) for s in self.sparks.all]
        same = all(one is not None and one.image == box.image for one in engines)
        return box if same and not any(s.cut or s.off for s in self.sparks.all) else None

    def _run_box(self, box: Box) -> None:
        super()._run_box(box)
        self.sparks.starts.append((self.clock, self.rank))

    # -- systemd

    def _systemctl(self, verb: str, unit: str) -> CommandResult:
        service = unit.removeprefix("sparkfleet-").removesuffix(".service")
        if verb == "stop" and service in self.supervisors:
            self.supervisors[service].stop.set()
            while service in self.supervisors:
                self.sleep(0.2)
            self.active.discard(unit)
            return CommandResult(0)
        return super()._systemctl(verb, unit)

    def _start(self, service: str, unit: str) -> CommandResult:
        """Run the supervisor, again after 10 s when it fails; return when it is ready."""
        if unit in self.active:
            return CommandResult(0)
        ready: list[str] = []
        self.active.add(unit)

        def hold() -> None:
            getcurrent().is_supervisor = True
            for _ in range(units.MAX_STARTS):
                supervisor = self.supervisors[service] = Supervisor(
                    self, service, 2048, 60, self.output.append, ready.append
                )
                code = supervisor.run()
                if supervisor.peers:
                    supervisor.peers.close()
                del self.supervisors[service]
                if code in {0, units.REFUSED}:
                    break
                self.sleep(10)
            self.active.discard(unit)
            ready.append("ended")

        self.sparks.spawn(self, hold)
        while not ready:
            self.sleep(0.2)
        return CommandResult(0)


__all__ = ["Spark", "Sparks"]
