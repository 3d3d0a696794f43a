"""The supervisor: ExecStart of a service's unit. Runs one instance; adopts it when it runs already.

- SIGTERM (a stop on purpose): stops the instance, exits with 0.
- The instance ended by itself, with any exit code: exits with 1, so that systemd counts it and restarts.
- The runtime stopped, and the instance with it: waits for it and restarts the instance; not a failure.
- A mounted directory is missing, or the runtime refuses the start: waits and tries again, for half an hour.
  No engine ran, so this is not counted as a failed start.
- MemAvailable below the minimum: kills the instance before the Spark hangs, exits with 1.
- SIGUSR1: exits and leaves the instance running for another supervisor (new unit or program) to adopt.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sparkfleet import engines
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.onhost.cluster import ranks
from sparkfleet.onhost.machine import memory, mounts, programs, rdma, runtime_wait, valve
from sparkfleet.onhost.machine.system import HttpRequest, System
from sparkfleet.onhost.rollout import snapshot
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.supervisor.starts import Starts
from sparkfleet.runtimes.base import Instance, Runtime, RuntimeRefusedError, RuntimeUnavailableError

STOPPED, ENDED = 0, 1
POLL_S = 0.2
"""Seconds within which a signal takes effect."""
INSPECT_S, INSPECT_SILENT_S = 30.0, 1.0
"""Seconds between two checks of the instance, and once its output has ended."""
HEALTH_S, HEALTH_TIMEOUT_S = 5.0, 2.0
"""Seconds between two health requests until the first success, and for one response."""
MAX_ENDS, PAUSE_S = 6, 10.0
"""Ends of a rank's engine within an hour after which the supervisor fails, and seconds until a restart."""
START_S, RETRY_S = 1800.0, 15.0
"""Seconds for mounts and the runtime to let the instance start, and between two attempts."""
MAX_REFUSALS = 30
"""Refused requests of the runtime within an hour after which the supervisor fails."""
OK = 200


@dataclass
class Supervisor:
    """One run of the supervisor. ``stop`` and ``leave`` are set by signals."""

    system: System
    service: str
    floor_mib: int
    stop_timeout_s: int
    log: Callable[[str], None]
    """Writes a line to systemd's journal: the engine's output and the supervisor's own messages."""
    notify: Callable[[str], None] = lambda _: None
    """Notifies systemd: READY=1, STATUS=..."""
    programs: str = ""
    """Identity of the program file (``programs.identity``)."""
    stop: threading.Event = field(default_factory=threading.Event)
    leave: threading.Event = field(default_factory=threading.Event)
    peers: ranks.Peers | None = None
    _ready: bool = False
    _ends: list[float] = field(default_factory=list)
    _refusals: list[float] = field(default_factory=list)

    def run(self) -> int:
        """Supervise the instance until it ends for good; return the exit code."""
        for name in engines.host_names():
            engines.on_host(name)  # imports it now, before the program file can be replaced
        try:
            self.runtime  # as above  # noqa: B018
        except RuntimeRefusedError as error:
            self.log(f"sparkfleet: {error}")
            return units.REFUSED
        try:
            while True:
                code = self._supervise_once()
                if code is not None:
                    return code
        except SparkfleetError as error:  # refused: systemd does not restart the unit
            self.log(f"sparkfleet: {error}")
            return units.REFUSED

    @functools.cached_property
    def runtime(self) -> Runtime:
        """The runtime of the recorded generation. A rollout to another one starts another supervisor."""
        return snapshot.current_runtime(self.system, self.service)

    def _refusal(self, error: RuntimeRefusedError) -> str:
        return f"{self.runtime.daemon}: {error}"

    def _supervise_once(self) -> int | None:
        """Supervise one run of the instance. Return the exit code; None: start over."""
        try:
            instance = self._instance()
            lost = instance is None or not instance.running
            if lost and (self.stop.is_set() or self.leave.is_set()):
                return self._stopped()
            if instance is None:
                gone = f"there is no {self.runtime.noun} {self.service}"
                hint = "pyinfra INVENTORY deploys/serve.py creates one"
                raise self._refused(gone, hint, code="container-disappeared")
            began, daemon_was = self.system.now(), self.runtime.daemon_identity()
            peers = self._peers()
            if not instance.running:
                if not self._until(self._obstacle, mounts.REMEDY, code="mount-missing"):
                    return self._stopped()
                if peers:
                    self._wait_for_fabric(instance)
                if peers and not peers.wait(self._signalled, self._notify_ready):
                    return self._stopped()
                found = instance  # for the function below
                if not self._until(
                    lambda: self._try_start(found),
                    self.runtime.check_command,
                    code="container-start-failed",
                ):
                    return self._stopped()
                instance = self.runtime.inspect(found.id) or found
                if peers:
                    peers.started(instance)
            else:
                self.log(f"sparkfleet: adopting {self._name(instance)}, which runs already")
                if peers:
                    peers.adopt(instance)
            self._notify_ready(f"{self.service} runs in {instance.id[:12]}")
            return self._watch(instance, began, daemon_was)
        except RuntimeUnavailableError:
            return self._await_runtime()
        except RuntimeRefusedError as error:
            return self._after_refusal(error)

    def _after_refusal(self, error: RuntimeRefusedError) -> int | None:
        """Start over after a pause: an engine that runs is adopted. Return ENDED after many refusals."""
        self.log(f"sparkfleet: {self._refusal(error)}")
        now = self.system.monotonic()
        self._refusals = [at for at in (*self._refusals, now) if now - at < units.WITHIN_S]
        if len(self._refusals) > MAX_REFUSALS or self._signalled():
            return ENDED
        self._pause(RETRY_S)
        return None

    def _refused(self, message: str, hint: str, *, code: str) -> SparkfleetError:
        return SparkfleetError(Diagnostic(self.service, message, hint=hint, code=code))

    def _signalled(self) -> bool:
        return self.stop.is_set() or self.leave.is_set()

    def _peers(self) -> ranks.Peers | None:
        """Return the other ranks of the cluster; the same object while the record is the same."""
        found = ranks.peers_of(self.system, self.service, self.log)
        if self.peers is None or found is None or found.rank != self.peers.rank:
            if self.peers:
                self.peers.close()
            self.peers = found
        return self.peers

    def _instance(self) -> Instance | None:
        """Return the service's instance. Raise SparkfleetError when it is not the promoted one."""
        instance, noun = self.runtime.find(self.service), self.runtime.noun
        if instance is None:
            return None
        if instance.service != self.service:
            foreign = f"{noun} {self.service} is not managed by sparkfleet: no {self.runtime.mark}"
            raise self._refused(foreign, "rename or remove it", code="container-name-taken")
        record = store.current(self.system.paths.state, self.service)
        promoted = record.container_id if record else ""
        if promoted and promoted != instance.id:
            other = (
                f"{noun} {self.service} is {instance.id[:12]}, the record has {promoted[:12]}: "
                "a rollout is in progress, or it was recreated by hand"
            )
            hint = "pyinfra INVENTORY deploys/serve.py shows and repairs it"
            raise self._refused(other, hint, code="container-recreated")
        return instance

    def _until(self, attempt: Callable[[], str], remedy: str, *, code: str) -> bool:
        """Repeat ``attempt`` until it returns ""; False after a signal. Raise SparkfleetError in the end."""
        deadline, shown = self.system.monotonic() + START_S, ""
        while not self._signalled():
            problem = attempt()
            if not problem:
                return True
            if self.system.monotonic() >= deadline:
                message = f"not started within {START_S / 60:.0f} min: {problem}"
                hint = f"{remedy}; then sudo systemctl start {units.unit_name(self.service)}"
                raise self._refused(message, hint, code=code)
            if problem != shown:
                shown = problem
                self.log(f"sparkfleet: {problem}: waiting, for {START_S / 60:.0f} min at most")
                self._notify_ready(f"waiting: {problem}")
            self._pause(RETRY_S)
        return False

    def _wait_for_fabric(self, instance: Instance) -> None:
        """Wait, within limits, for the release of the last engine's RDMA regions, then for the GIDs."""

        def report(text: str) -> None:
            self.log(f"sparkfleet: {text}")
            self._notify_ready(text)

        rdma.wait_for_release(self.system, {instance.id}, report, self._signalled)
        record = store.current(self.system.paths.state, self.service)
        if record:
            rdma.wait_for_gids(self.system, record, report, self._signalled)

    def _obstacle(self) -> str:
        """Return the mount that is not ready, "" for none."""
        record = store.current(self.system.paths.state, self.service)
        return mounts.obstacle(self.system, self.runtime.workload(record)) if record else ""

    def _try_start(self, instance: Instance) -> str:
        """Start it; return "" or why the runtime refused: then no engine ran, and no start counts."""
        now = self.system.now()
        if self._starts.too_many(now):
            failed = (
                f"{len(self._starts.recent(now))} starts within the last hour ended before the engine "
                "answered: not started again"
            )
            hint = (
                f"deploy another generation, or remove {self._starts_path} and run: "
                f"sudo systemctl start {units.unit_name(self.service)}"
            )
            raise self._refused(failed, hint, code="starts-crash-host")
        self._starts.record_start(now)
        self.log(f"sparkfleet: starting {self._name(instance)}")
        try:
            self.runtime.start(instance.id)
        except RuntimeRefusedError as error:
            self._starts.withdraw(now)
            return self._refusal(error)
        return ""

    def _pause(self, seconds: float) -> None:
        """Wait, until a signal at most."""
        end = self.system.monotonic() + seconds
        while self.system.monotonic() < end and not self._signalled():
            self.system.sleep(POLL_S)

    def _watch(self, instance: Instance, began: float, daemon_was: str) -> int | None:
        """Return the exit code; None: restart with the other ranks. Raise RuntimeUnavailableError."""
        watchdog = memory.MemoryWatchdog(
            self.system, self.floor_mib, lambda: self.system.kill_now(self.runtime, instance)
        )
        stop_watchdog = watchdog.start(instance)
        silent = threading.Event()
        stop_log = self.runtime.follow(instance.id, began, self.log, silent.set)
        stop_peers = self.peers.watch() if self.peers else lambda: None
        try:
            self._wait_for_end(instance, silent)
        finally:
            stop_watchdog()
            stop_log()
            stop_peers()
        if self.leave.is_set():
            self.log("sparkfleet: leaving the engine running")
            return units.ADOPT_AGAIN
        if self.stop.is_set():
            return self._stop(instance)
        if self.peers and self.peers.cause:
            self.log(f"sparkfleet: {self.peers.cause}: stopping the engine of this rank, too")
            self.peers.state = ranks.ENDS
            self.runtime.stop(instance.id, self.stop_timeout_s)
            self.log(f"sparkfleet: {valve.before_start(self.system)}")
            return None
        if low := watchdog.diagnostic(self.service):
            self.log(f"sparkfleet: {low.message}. {low.hint}")
            return ENDED
        if runtime_wait.was_restarted(self.system, self.runtime, daemon_was):
            raise RuntimeUnavailableError
        ended = self.runtime.inspect(instance.id)
        code = ended.exit_code if ended else "unknown"
        self.log(f"sparkfleet: the engine ended by itself with exit code {code}")
        return self._rank_ended(self.peers) if self.peers else ENDED

    def _rank_ended(self, peers: ranks.Peers) -> int | None:
        """Restart with the other ranks: when one engine ends, all end. systemd must not count a failure."""
        now = self.system.monotonic()
        self._ends = [at for at in (*self._ends, now) if now - at < units.WITHIN_S]
        if len(self._ends) > MAX_ENDS:
            return ENDED
        peers.state = ranks.ENDS
        self._pause(PAUSE_S)
        self.log(f"sparkfleet: {valve.before_start(self.system)}")
        return None

    def _wait_for_end(self, instance: Instance, silent: threading.Event) -> None:
        """Wait for the instance's end or a signal. Raise RuntimeUnavailableError when the daemon stops.

        The daemon is rarely polled: a request just after its stop would start it again (socket activation).
        """
        proven, inspected_at, health_checked_at = False, 0.0, 0.0
        while not (self._signalled() or (self.peers and self.peers.cause)):
            clock = self.system.monotonic()
            if clock - inspected_at >= (INSPECT_SILENT_S if silent.is_set() else INSPECT_S):
                inspected_at = clock
                if self.runtime.is_stopping():
                    raise RuntimeUnavailableError
                now = self.runtime.inspect(instance.id)
                if now is None or not now.running:
                    return
            if not proven and clock - health_checked_at >= HEALTH_S:
                health_checked_at = clock
                proven = self._is_healthy()
                if proven:
                    self._starts.reset()
                    if self.peers:
                        self.peers.serves = True
            self.system.sleep(POLL_S)

    def _stop(self, instance: Instance) -> int:
        self.notify("STOPPING=1")
        self.log(f"sparkfleet: stopping {self._name(instance)} within {self.stop_timeout_s} s")
        self.runtime.stop(instance.id, self.stop_timeout_s)
        return self._stopped()

    def _stopped(self) -> int:
        if self.leave.is_set():
            return units.ADOPT_AGAIN
        self._starts.reset()
        return STOPPED

    def _await_runtime(self) -> int | None:
        daemon = self.runtime.daemon
        self.log(f"sparkfleet: {daemon} stopped")
        self._notify_ready(f"waiting for {daemon}")
        self._starts.reset()
        if not runtime_wait.wait(
            self.system, self.runtime, lambda text: self.log(f"sparkfleet: {text}"), self._signalled
        ):
            return self._stopped()
        self.log(f"sparkfleet: {daemon} is available again")
        self.log(f"sparkfleet: {valve.before_start(self.system)}")
        return None

    def _is_healthy(self) -> bool:
        try:
            known = store.current(self.system.paths.state, self.service)
        except ContractError:
            return False  # it was readable at the start; a running engine is not stopped for it
        if known is None or known.engine not in engines.host_names():
            return False
        if self.peers and known.rank and not known.rank.is_head:
            return self.peers.serves
        engine = engines.on_host(known.engine)
        tls = engine.uses_tls(known.argv)
        request = HttpRequest(known.port, engine.health.method, engine.health.path, HEALTH_TIMEOUT_S, tls=tls)
        return self.system.http(request).status == OK

    def _notify_ready(self, status: str) -> None:
        status_line = f"STATUS={programs.status(status, self.programs)}"
        self.notify(status_line if self._ready else f"READY=1\n{status_line}")
        self._ready = True

    def _name(self, instance: Instance) -> str:
        return f"{self.runtime.noun} {self.service} ({instance.id[:12]}, generation {instance.generation})"

    @property
    def _starts_path(self) -> Path:
        return store.service_directory(self.system.paths.state, self.service) / "starts.json"

    @property
    def _starts(self) -> Starts:
        return Starts(self._starts_path)


def print_line(line: str) -> None:
    """Write a line to stdout, which systemd puts into its journal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
