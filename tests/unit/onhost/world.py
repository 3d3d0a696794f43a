"""A Spark in memory: containers, systemd, engines, a clock, and a power switch.

It outlives the program under test: ``World.kill_at`` kills the program (as SIGKILL would) before or after its
n-th change of anything, ``World.reboot`` restarts the Spark. What is left is looked at afterwards.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet.contract.generation import (
    LABEL_GENERATION,
    LABEL_SERVICE,
    ContainerOf,
    CurrentGeneration,
    Gate,
    Generation,
    PromotedGeneration,
    RolloutRequest,
    convert,
)
from sparkfleet.contract.rollout import RolloutResult
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import (
    CommandResult,
    HttpRequest,
    HttpResponse,
    Memory,
    Paths,
    Stop,
    WatchdogProcess,
)
from sparkfleet.onhost.rollout import rollout, transient_unit
from sparkfleet.onhost.state import store, units
from sparkfleet.runtimes.base import (
    Instance,
    PortOwner,
    Role,
    Runtime,
    RuntimeRefusedError,
    RuntimeUnavailableError,
    Workload,
)
from sparkfleet.runtimes.docker.onhost.driver import DockerRuntime
from sparkfleet.runtimes.docker.onhost.names import container_name
from sparkfleet.runtimes.docker.onhost.workload import workload_of

TOTAL_MIB = 122_000


class Killed(BaseException):
    """The program under test was killed: nothing of it may catch this."""


@dataclass
class Engine:
    """How the engine of an image behaves."""

    ready_s: float = 20.0
    name: str = "nano"
    answer: str = "204"
    memory_mib: int = 60_000
    eats_mib_s: int = 0
    end_s: float = 0.0
    """Seconds after the start at which it ends by itself; 0: never."""
    exit_code: int = 1
    log: str = "(EngineCore pid=7) INFO 11-20 19:35:27 [x.py:1] Loading safetensors checkpoint shards"
    wedged: bool = False
    counts: bool = True
    accepts: float = 0.0
    completion_s: float = 0.5
    fails_first: str = ""
    """Log of its first start, which then ends after 3 s; "": the first start is like every other."""
    no_start: str = ""
    """dockerd's message when it cannot even start the container."""
    works_again: bool = True
    """False: it comes up the first time only."""
    base_model: bool = False
    port: int = 8000


@dataclass
class Box:
    """A container of the world."""

    id: str
    name: str
    labels: dict[str, str]
    image: str
    running: bool = False
    exit_code: int = 0
    started: float = 0.0
    starts: int = 0
    policy: str = "no"
    env: tuple[str, ...] = ()
    tokens: float = 0.0
    mounts: tuple[str, ...] = ()
    """Sources of its bind mounts."""
    error: str = ""
    """Why dockerd did not start it."""
    runtime: str = "docker"


@dataclass
class World:
    """The Spark. Its fields are free for a test to turn."""

    root: Path
    engines: dict[str, Engine] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    clock: float = 1_000_000.0
    clock_error: float = 0.0
    """Seconds by which the time of day is wrong; the monotonic clock never is."""
    enabled: set[str] = field(default_factory=set)
    active: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    spawned: list[str] = field(default_factory=list)
    foreign_holders: dict[int, PortOwner] = field(default_factory=dict)
    free: int = 100_000
    docker_gone: bool = False
    dockerd_back_at: float = 0.0
    docker_stopped: bool = False
    contents: dict[str, str] = field(default_factory=dict)
    """Id of an image -> its content; the id for one without."""
    """systemd holds dockerd down; with socket activation a question would start it."""
    woken: bool = False
    """Somebody asked it all the same."""
    create_error: str = ""
    remove_error: str = ""
    """dockerd's message when it cannot remove a container."""
    daemon: str = "41"
    """What changes when dockerd is started again."""
    start_refused: str = ""
    """systemd refuses to start a unit whose text contains this."""
    supervisor_status: str = ""
    """What systemd shows as the status of every supervisor."""
    dies_when_adopted: str = ""
    """The engine of this image ends in the moment in which its unit is started."""
    limited: set[str] = field(default_factory=set)
    """Units that used up their starts."""
    other_memory_mib: int = 4_000
    cache_mib: int = 0
    kill_at: int = -1
    points: int = 0
    output: list[str] = field(default_factory=list)
    on_tick: list[Callable[[], None]] = field(default_factory=list)
    desks: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    """Ports at which this Spark answers others."""
    peer_response: Callable[[str, int, dict[str, Any]], dict[str, Any] | None] = lambda *_: None
    """What other Sparks answer."""
    no_fabric: bool = False
    driver: CommandResult = CommandResult(127)  # noqa: RUF009  (frozen)
    """What nvidia-smi says and ends with; 127: there is none."""
    gpu_processes: CommandResult = CommandResult(0)  # noqa: RUF009  (frozen)
    """What nvidia-smi lists as processes of the GPU."""
    rdma_regions: Callable[[], str] | None = None
    """What ``rdma`` lists as memory regions; None: there is no such command."""
    pids: dict[int, str] = field(default_factory=dict)
    """Pid -> id of its container."""
    large_free: int | None = None
    """MiB of free memory in large blocks."""
    compacted: int = 0
    """How often memory was compacted."""
    kernel_log: str = "[1.0] quiet\n"
    """What dmesg prints."""

    def __post_init__(self) -> None:
        self.paths = Paths(
            state=self.root / "state",
            units=self.root / "units",
            bin=self.root / "bin",
            netplan=self.root / "netplan",
            rdma=self.root / "infiniband",
            fstab=self.root / "fstab",
            mountinfo=self.root / "mountinfo",
            run=self.root / "run",
            units_beside=(self.root / "run-units", self.root / "units.control"),
        )
        self.paths.units.mkdir(parents=True, exist_ok=True)
        self.docker = FakeRuntime(self)
        self.runtimes: dict[str, FakeRuntime] = {"docker": self.docker, "process": ProcessRuntime(self)}
        self._ids = itertools.count(1)
        self._timers: list[tuple[float, Callable[[], None]]] = []

    # -- the power switch

    def point(self) -> None:
        """Called before and after every change of anything."""
        if self.points == self.kill_at:
            self.points += 1
            raise Killed
        self.points += 1

    def changes(self, call: Callable[..., object]) -> Callable[..., object]:
        """Return ``call`` with a chance to be killed on either side."""

        def changed(*args: object, **kwargs: object) -> object:
            self.point()
            result = call(*args, **kwargs)
            self.point()
            return result

        return changed

    def dies(self) -> None:
        """Forget what the killed program had running in the background."""
        self._timers.clear()

    def reboot(self) -> None:
        """Restart the Spark: recover first, then what is enabled, then what recover started detached."""
        self.dies()
        self.clock += 40
        for box in self.boxes.values():
            if box.running:
                box.running, box.exit_code = False, 137
        self.active.clear()
        self.failed.clear()
        self.spawned.clear()
        try:
            transient_unit.recover(self)
        finally:  # systemd starts the others, whatever became of recover
            for unit in sorted(self.enabled):
                self._systemctl("start", unit)

    # -- system.System

    def runtime(self, name: str) -> Runtime:
        return self.runtimes[name]

    def now(self) -> float:
        return self.clock + self.clock_error

    def monotonic(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        end = self.clock + seconds
        while self.clock < end:
            self.clock = min(end, self.clock + 1.0)
            self._tick()

    def every(self, seconds: float, call: Callable[[], None]) -> Stop:
        timer = (seconds, call)
        self._timers.append(timer)
        call()
        return lambda: self._timers.remove(timer) if timer in self._timers else None

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        if argv[0] == "systemctl":
            return self.systemctl(*argv[1:])
        if argv[0] == "systemd-run":
            self.spawned.append(argv[-1])
            return CommandResult(0)
        if argv[0] == "dmesg":
            return CommandResult(0, self.kernel_log)
        if argv[0] == "rdma":
            return CommandResult(127) if self.rdma_regions is None else CommandResult(0, self.rdma_regions())
        if argv[:2] == ("nvidia-smi", "--query-compute-apps=pid,process_name"):
            return self.gpu_processes
        if argv[0] == "nvidia-smi" and self.driver.code != CommandResult(127).code:
            return self.driver
        return CommandResult(127, err=f"{argv[0]}: no such command")

    def memory(self) -> Memory:
        used = self.other_memory_mib
        for box in self.boxes.values():
            if box.running:
                engine = self.engines[box.image]
                used += engine.memory_mib + int(engine.eats_mib_s * (self.clock - box.started))
        left = TOTAL_MIB - used
        free = max(0, left - self.cache_mib)
        return Memory(TOTAL_MIB, max(0, left), free, self.cache_mib, large_free=self.large_free)

    def watch_memory(self, floor_mib: int, instance: Instance) -> WatchdogProcess:
        return WatchdogProcess(lambda: None, lambda: None)

    def drop_caches(self) -> str:
        self.cache_mib = 0
        return ""

    def compact_memory(self) -> str:
        self.compacted += 1
        return ""

    def cgroup_of(self, pid: int) -> str:
        return self.pids.get(pid, "")

    def http(self, request: HttpRequest) -> HttpResponse:
        box = self.serving(request.port)
        if box is None:
            return HttpResponse(0, error="Connection refused")
        engine = self.engines[box.image]
        if request.path == "/health":
            return HttpResponse(200)
        if request.path == "/v1/models":
            return HttpResponse(200, json.dumps({"data": [{"id": engine.name, "max_model_len": 65536}]}))
        if request.path == "/metrics":
            accepted = f'vllm:spec_decode_num_accepted_tokens_total{{e="0"}} {engine.accepts * box.tokens}\n'
            return HttpResponse(200, f'vllm:generation_tokens_total{{e="0"}} {box.tokens}\n{accepted}')
        if engine.wedged or engine.completion_s > request.timeout_s:
            self.sleep(request.timeout_s)
            return HttpResponse(0, error="timed out", timed_out=True)
        if engine.base_model and request.path == "/v1/chat/completions":
            return HttpResponse(400, json.dumps({"error": {"message": "you must provide a chat template"}}))
        self.sleep(engine.completion_s)
        if not box.running:
            return HttpResponse(0, error="Connection reset by peer")
        box.tokens += 7 if engine.counts else 0
        plain = request.path == "/v1/completions"
        choice = {"text": engine.answer} if plain else {"message": {"content": engine.answer}}
        return HttpResponse(200, json.dumps({"choices": [choice]}))

    def http_lines(self, request: HttpRequest, on_line: Callable[[str], None]) -> HttpResponse:
        response = self.http(request)
        for line in response.body.splitlines():
            on_line(line)
        return response

    def listen(
        self, address: str, port: int, respond: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[], None]:
        if self.no_fabric:
            raise OSError(99, "Cannot assign requested address")
        self.desks[port] = respond

        def stop() -> None:
            self.desks.pop(port, None)

        return stop

    def ask_other(
        self, address: str, port: int, message: dict[str, Any], timeout_s: float
    ) -> dict[str, Any] | None:
        return self.peer_response(address, port, message)

    def port_owners(self, port: int) -> tuple[PortOwner, ...]:
        if port in self.foreign_holders:
            return (self.foreign_holders[port],)
        box = self.serving(port, listening_only=True)
        return (PortOwner(99, "vllm serve", box.id),) if box else ()

    def free_mib(self, path: Path) -> int:
        return self.free

    def kill_now(self, runtime: Runtime, container: Instance) -> None:
        box = self.boxes.get(container.id)
        if box and box.running:
            box.running, box.exit_code = False, 137

    # -- systemd

    def systemctl(self, *argv: str) -> CommandResult:
        verb, unit = argv[0], argv[-1]
        if verb == "is-active":
            state = "active" if unit in self.active else "failed" if unit in self.failed else "inactive"
            return CommandResult(0 if state == "active" else 3, f"{state}\n")
        if verb == "is-enabled":
            return CommandResult(0, "enabled\n" if unit in self.enabled else "disabled\n")
        if "--property=StatusText" in argv:
            return CommandResult(0, f"{self.supervisor_status}\n")
        if verb == "show":
            return CommandResult(0, "41\n")
        return self.changes(self._systemctl)(verb, unit)  # type: ignore[return-value]

    def _systemctl(self, verb: str, unit: str) -> CommandResult:
        service = unit.removeprefix("sparkfleet-").removesuffix(".service")
        exists = (self.paths.units / unit).exists()
        if verb == "reset-failed":
            self.failed.discard(unit)
            self.limited.discard(unit)
        elif verb in {"enable", "start"} and not exists:
            return CommandResult(5, err=f"Unit {unit} not found.")
        elif verb == "enable":
            self.enabled.add(unit)
        elif verb == "disable":
            self.enabled.discard(unit)
        elif verb == "kill":  # SIGUSR1: the supervisor leaves its engine
            self.active.discard(unit)
        elif verb == "start":
            return self._start(service, unit)
        elif verb == "restart":
            self._systemctl("stop", unit)
            return self._start(service, unit)
        elif verb == "stop" and unit in self.active:
            self.active.discard(unit)
            box = self.supervised(service)
            if box:
                box.running = False
                self.sleep(2)
        return CommandResult(0)

    def _start(self, service: str, unit: str) -> CommandResult:
        """What the supervisor does: adopt or start the promoted container, refuse any other."""
        if unit in self.active:
            return CommandResult(0)
        if unit in self.limited:
            return CommandResult(1, err="Start request repeated too quickly.")
        box, record = self.supervised(service), store.current(self.paths.state, service)
        if self.start_refused and self.start_refused in (self.paths.units / unit).read_text():
            return CommandResult(1, err="refused by systemd")
        if box is None or (record and record.container_id != box.id):
            self.failed.add(unit)
            return CommandResult(1, err=f"{unit}: the supervisor refused")
        self.active.add(unit)
        if not box.running:
            try:
                self._run_box(box)
            except RuntimeRefusedError:
                return CommandResult(0)  # the supervisor waits, and tries again
        if box.image == self.dies_when_adopted:
            box.running = False
        return CommandResult(0)

    # -- looking at it

    def named(self, name: str, runtime: str = "docker") -> Box | None:
        return next((b for b in self.boxes.values() if (b.name, b.runtime) == (name, runtime)), None)

    def supervised(self, service: str) -> Box | None:
        """Return what the service's supervisor runs: the box of its name in the runtime of its record."""
        record = store.current(self.paths.state, service)
        return self.named(service, record.runtime if record else "docker")

    def serving(self, port: int, *, listening_only: bool = False) -> Box | None:
        for box in self.boxes.values():
            engine = self.engines[box.image]
            ready = self.clock - box.started >= engine.ready_s and (engine.works_again or box.starts == 1)
            if box.running and engine.port == port and (ready or listening_only):
                return box
        return None

    def add(self, name: str, generation: Generation | None, image: str = "", *, running: bool = True) -> Box:
        """Put a container there as if it had always been."""
        labels = {}
        if generation:
            labels = {LABEL_SERVICE: generation.service, LABEL_GENERATION: generation.id}
        box = Box(f"{next(self._ids):064x}", name, labels, image or (generation.image if generation else ""))
        box.mounts = _sources(generation.definition) if generation else ()
        box.runtime = generation.runtime if generation else "docker"
        self.boxes[box.id] = box
        if running:
            self._run_box(box)
            box.started -= 10_000
        return box

    def serve(self, generation: Generation) -> Box:
        """Put a promoted, supervised, serving generation there."""
        box = self.add(generation.service, generation)
        container = ContainerOf(box.id, generation.id)
        record = convert(CurrentGeneration, generation, container=container, promoted_at=1.0)
        store.set_current(self.paths.state, generation.service, record)
        store.remember(self.paths.state, convert(PromotedGeneration, record))
        files.write_atomic(self.paths.units / generation.unit_name, generation.unit)
        self.enabled.add(generation.unit_name)
        self.active.add(generation.unit_name)
        return box

    def ask(self, request: RolloutRequest) -> RolloutResult:
        """Write the request and run the rollout to its end, or to the program's death (Killed)."""
        self.write(request)
        return rollout.run(self, request.id)

    def write(self, request: RolloutRequest) -> None:
        """Write a rollout's request, as the command ``rollout`` does."""
        directory = store.rollout_directory(self.paths.state, request.id)
        files.write_document(directory / "request.json", request)

    def _run_box(self, box: Box) -> None:
        engine = self.engines[box.image]
        box.error = engine.no_start or self.missing_source(box.mounts)
        if box.error:
            raise RuntimeRefusedError(box.error, 500)
        box.running, box.started, box.exit_code, box.tokens = True, self.clock, 0, 0.0
        box.starts += 1

    def missing_source(self, sources: Sequence[str]) -> str:
        """Return dockerd's message for a bind mount whose source is missing."""
        missing = [source for source in sources if not Path(source).exists()]
        kind = 'invalid mount config for type "bind": bind source path does not exist'
        return f"{kind}: {missing[0]}" if missing else ""

    def _tick(self) -> None:
        if self.dockerd_back_at and self.clock >= self.dockerd_back_at:
            self.docker_gone, self.docker_stopped, self.dockerd_back_at = False, False, 0.0
        for box in self.boxes.values():
            engine = self.engines[box.image]
            end_s = 3.0 if engine.fails_first and box.starts == 1 else engine.end_s
            if box.running and end_s and self.clock - box.started >= end_s:
                box.running, box.exit_code = False, engine.exit_code
        for _, call in tuple(self._timers):
            call()
        for call in tuple(self.on_tick):
            call()


class FakeRuntime:
    """The Docker runtime of the world. Like every runtime, it knows its own boxes alone."""

    runtime_name = "docker"
    noun, daemon, mark = DockerRuntime.noun, DockerRuntime.daemon, DockerRuntime.mark
    check_command, unavailable_code = DockerRuntime.check_command, DockerRuntime.unavailable_code

    def __init__(self, world: World) -> None:
        self._world = world

    def _require_dockerd(self) -> None:
        self._world.woken |= self._world.docker_stopped
        if self._world.docker_gone:
            raise RuntimeUnavailableError("dockerd does not answer")

    def _box(self, name: str) -> Box | None:
        self._require_dockerd()
        box = self._world.boxes.get(name)
        own = box if box and box.runtime == self.runtime_name else None
        return own or self._world.named(name, self.runtime_name)

    def _must(self, name: str) -> Box:
        box = self._box(name)
        if box is None:
            raise RuntimeRefusedError(f"No such container: {name}", 404)
        return box

    def ping(self) -> None:
        self._require_dockerd()

    def inspect(self, name: str) -> Instance | None:
        box = self._box(name)
        if box is None:
            return None
        return Instance(
            box.id, box.name, box.running, 1 if box.running else 0, box.exit_code,
            error=box.error, started_at=str(box.started), labels=dict(box.labels), env=box.env,
            service=box.labels.get(LABEL_SERVICE, ""), generation=box.labels.get(LABEL_GENERATION, ""),
            artifact=f"sha256:{box.image}", details={"Id": box.id, "Config": {"Env": list(box.env)}},
        )  # fmt: skip

    def content_of(self, artifact: str) -> str:
        return self._world.contents.get(artifact, artifact)

    def _own(self) -> list[Box]:
        return [box for box in self._world.boxes.values() if box.runtime == self.runtime_name]

    def running(self) -> tuple[Instance, ...]:
        found = (self.inspect(box.id) for box in self._own() if box.running)
        return tuple(container for container in found if container)

    def available(self) -> bool:
        return not (self._world.docker_stopped or self._world.docker_gone)

    def is_stopping(self) -> bool:
        return self._world.docker_stopped

    def daemon_identity(self) -> str:
        return self._world.daemon

    def workload(self, generation: Generation) -> Workload:
        assert generation.runtime == self.runtime_name
        return workload_of(generation)

    def missing(self, workload: Workload) -> str:
        self._require_dockerd()
        return "" if workload.image in self._world.engines else f"image {workload.image}"

    def program_command(self, artifact: str, interpreter: str, args: tuple[str, ...]) -> tuple[str, ...]:
        return ("run", artifact, interpreter, *args)

    def data_directory(self) -> Path:
        self._require_dockerd()
        return self._world.root

    def find(self, service: str, role: Role = Role.CURRENT) -> Instance | None:
        return self.inspect(container_name(service, role))

    def name(self, service: str, role: Role) -> str:
        return container_name(service, role)

    def create(self, service: str, role: Role, workload: Workload) -> str:
        return str(self._world.changes(self._create)(container_name(service, role), workload.definition))

    def _create(self, name: str, argv: Sequence[str]) -> str:
        self._require_dockerd()
        problem = self._world.create_error or self._world.missing_source(_sources(argv))
        if problem:
            raise RuntimeRefusedError(problem)
        if self._world.named(name, self.runtime_name):
            raise RuntimeRefusedError(f"The container name {name} is already in use", 409)
        labels = dict(word.split("=", 1) for word in argv if word.startswith("io.sparkfleet."))
        box = Box(f"{next(self._world._ids):064x}", name, labels, argv[-1], mounts=_sources(argv))
        box.runtime = self.runtime_name
        self._world.boxes[box.id] = box
        return box.id

    def start(self, name: str) -> None:
        self._world.changes(lambda: self._world._run_box(self._must(name)))()

    def stop(self, name: str, timeout_s: int) -> None:
        self._world.changes(self._stop)(name)

    def _stop(self, name: str) -> None:
        box = self._must(name)
        if box.running:
            box.running = False
            self._world.sleep(2)

    def kill(self, name: str) -> None:
        self._world.changes(self._stop)(name)

    def holds(self, instance: Instance, owner: PortOwner, port: int) -> bool:
        return instance.id in owner.cgroup

    def assign(self, instance: str, service: str, role: Role) -> None:
        self._world.changes(self._rename)(instance, container_name(service, role))

    def _rename(self, name: str, new: str) -> None:
        box = self._must(name)
        if self._world.named(new, self.runtime_name):
            raise RuntimeRefusedError(f"name {new} is already in use", 409)
        box.name = new

    def remove(self, name: str) -> None:
        self._world.changes(self._remove)(name)

    def _remove(self, name: str) -> None:
        box = self._box(name)
        if box and self._world.remove_error:
            box.running = False
            raise RuntimeRefusedError(self._world.remove_error, 500)
        if box:
            del self._world.boxes[box.id]

    def adopt(self, instance: str) -> None:
        self._must(instance).policy = "no"

    def log(self, name: str, tail: int, since: float = 0.0) -> str:
        box = self._must(name)
        engine = self._world.engines[box.image]
        if not engine.fails_first:
            return engine.log
        before = () if box.starts > 1 and since >= box.started else (engine.fails_first,)
        return "\n".join((*before, *((engine.log,) if box.starts > 1 else ())))

    def follow(
        self,
        name: str,
        since: float,
        on_line: Callable[[str], None],
        on_end: Callable[[], None] = lambda: None,
        tail: int | None = None,
    ) -> Stop:
        for line in self.log(name, 0, since).splitlines():
            on_line(line)
        box = self._must(name)

        def watch() -> None:
            if not box.running or self._world.docker_gone:
                on_end()

        return self._world.every(1.0, watch)


class ProcessRuntime(FakeRuntime):
    """A runtime without a daemon, whose instances are processes."""

    runtime_name = "process"
    noun, daemon = "process", "systemd"
    check_command, unavailable_code = "systemctl status", "runtime-refused"

    def _require_dockerd(self) -> None:
        pass

    def available(self) -> bool:
        return True

    def is_stopping(self) -> bool:
        return False

    def daemon_identity(self) -> str:
        return ""

    def workload(self, generation: Generation) -> Workload:
        assert generation.runtime == self.runtime_name
        labels = (f"{LABEL_SERVICE}={generation.service}", f"{LABEL_GENERATION}={generation.id}")
        return Workload(
            generation.service, generation.id, ("serve",), image=generation.image,
            definition=(*labels, *generation.definition), identity=generation.definition,
        )  # fmt: skip


def _sources(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the sources of the bind mounts of a ``docker create``."""
    return tuple(
        dict(part.partition("=")[::2] for part in text.split(","))["source"]
        for option, text in itertools.pairwise(argv)
        if option == "--mount"
    )


def generation(service: str = "nano", image: str = "img:1", **changes: object) -> Generation:
    """Return a generation whose container and unit look like real ones."""
    text = units.service_unit(service, f"{service} from {image}", 2048, 60)
    mounts = changes.pop("mounts", {})
    assert isinstance(mounts, dict)
    options = [("--mount", f"type=bind,source={source},target={to}") for to, source in mounts.items()]
    mounted = tuple(word for option in options for word in option)
    values: dict[str, object] = {
        "service": service, "image": image, "model": "org/model", "revision": "abc", "served_name": service,
        "port": 8000, "engine": "vllm", "runtime": "docker", "unit": text,
        "gate": Gate(timeout_s=120, second_timeout_s=10),
        "definition": ("--label", f"{LABEL_SERVICE}={service}", *mounted, image), **changes,
    }  # fmt: skip
    return Generation(**values)  # type: ignore[arg-type]
