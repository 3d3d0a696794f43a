"""The supervisor: ExecStart of a service's unit. Runs one container, adopts it when it already runs.

- SIGTERM (a stop on purpose): stops the container, ends with 0.
- The container ended by itself, with any exit code: ends with 1, so that systemd counts it and tries again.
- dockerd stopped, and the container with it: waits for dockerd, starts it again; that is no failure.
- MemAvailable below the floor: kills the container before the Spark stops answering, ends with 1.
- SIGUSR1: ends and leaves the container running, for another supervisor (new unit or program) to adopt.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sparkfleet.onhost.cluster import ranks
from sparkfleet.onhost.machine import memory, programs, runtime_wait, valve
from sparkfleet.onhost.machine.system import Question, System
from sparkfleet.onhost.state import store, units
from sparkfleet.onhost.supervisor.starts import Starts
from sparkfleet.runtimes.base import Instance, RuntimeRefusedError, RuntimeUnavailableError

STOPPED, ENDED = 0, 1
POLL_S = 0.2
"""Seconds within which a signal takes effect."""
LOOK_S = 30.0
"""Seconds between two checks of the container; its end is seen at once by the end of its output."""
LEAVING_S = 3.0
"""Seconds after a container's end in which a dockerd that shuts down shows it."""
HEALTH_S = 5.0
MOST_ENDS, PAUSE_S = 6, 10.0
"""Ends of a rank's engine within an hour that one supervisor tolerates, and seconds until the next start."""
OK = 200


class RefusedError(Exception):
    """The start is refused, and systemd does not try again."""


@dataclass
class Supervisor:
    """One run of the supervisor. ``stop`` and ``leave`` are set by signals."""

    system: System
    service: str
    floor_mib: int
    stop_timeout_s: int
    say: Callable[[str], None]
    """Receives the engine's output and the supervisor's own lines: systemd's journal."""
    notify: Callable[[str], None] = lambda _: None
    """Notifies systemd: READY=1, STATUS=..."""
    programs: str = ""
    """Identity of the program file (``programs.identity``)."""
    stop: threading.Event = field(default_factory=threading.Event)
    leave: threading.Event = field(default_factory=threading.Event)
    peers: ranks.Peers | None = None
    _ready: bool = False
    _ends: list[float] = field(default_factory=list)

    def run(self) -> int:
        """Supervise the container until it ends for good; return the exit code."""
        try:
            while True:
                code = self._hold()
                if code is not None:
                    return code
        except RefusedError as error:
            self.say(f"sparkfleet: {error}")
            return units.REFUSED
        except RuntimeRefusedError as error:
            self.say(f"sparkfleet: {self.system.runtime.daemon}: {error}")
            return ENDED

    def _hold(self) -> int | None:
        """Supervise the container once; None: dockerd stopped, begin again."""
        try:
            container = self._container()
            lost = container is None or not container.running
            if lost and (self.stop.is_set() or self.leave.is_set()):
                return self._stopped()
            if container is None:
                noun = self.system.runtime.noun
                raise RefusedError(
                    f"there is no {noun} {self.service}; pyinfra INVENTORY deploys/serve.py creates one"
                )
            began, daemon_was = self.system.now(), self.system.runtime.daemon_identity()
            peers = self._peers()
            if not container.running:
                if peers and not peers.wait(self._gone, self._tell_ready):
                    return self._stopped()
                container = self._start(container)
                if peers:
                    peers.started(container)
            else:
                self.say(f"sparkfleet: adopts {self._name(container)}, which already runs")
                if peers:
                    peers.adopt(container)
            self._tell_ready(f"{self.service} runs in {container.id[:12]}")
            return self._watch(container, began, daemon_was)
        except RuntimeUnavailableError:
            return self._await_runtime()

    def _gone(self) -> bool:
        return self.stop.is_set() or self.leave.is_set()

    def _peers(self) -> ranks.Peers | None:
        """Return the other ranks of the cluster, the same object as long as the record is the same."""
        found = ranks.peers_of(self.system, self.service, self.say)
        if self.peers is None or found is None or found.rank != self.peers.rank:
            if self.peers:
                self.peers.close()
            self.peers = found
        return self.peers

    def _container(self) -> Instance | None:
        """Return the service's container. Raise RefusedError for one that is not the promoted one."""
        container = self.system.runtime.find(self.service)
        if container is None:
            return None
        if container.service != self.service:
            raise RefusedError(
                f"container {self.service} is not managed by sparkfleet: no label io.sparkfleet.service"
            )
        books = store.current(self.system.paths.state, self.service) or {}
        promoted = (books.get("container") or {}).get("id")
        if promoted and promoted != container.id:
            raise RefusedError(
                f"container {self.service} is {container.id[:12]}, the record has {promoted[:12]}:  "
                "a rollout is in progress, or it was recreated by hand"
            )
        return container

    def _start(self, container: Instance) -> Instance:
        now = self.system.now()
        if self._starts.too_many(now):
            raise RefusedError(
                f"{len(self._starts.open(now))} starts within the last hour ended before it served, the last "
                "ones with a crash of the whole Spark: not started again. Deploy another generation, or: "
                f"sudo systemctl start after removing {self._starts_path}"
            )
        self._starts.begin(now)
        self.say(f"sparkfleet: starts {self._name(container)}")
        self.system.runtime.start(container.id)
        return self.system.runtime.inspect(container.id) or container

    def _watch(self, container: Instance, began: float, daemon_was: str) -> int | None:
        """Return the exit code; None: restart, a rank is lost. RuntimeUnavailableError: no daemon."""
        watchdog = memory.MemoryWatchdog(self.system, self.floor_mib, lambda: self.system.kill_now(container))
        stop_watchdog = self.system.every(1.0, watchdog.sample)
        silent = threading.Event()
        stop_log = self.system.runtime.follow(container.id, began, self.say, silent.set)
        stop_looking = self.peers.watch() if self.peers else lambda: None
        try:
            self._wait_for_end(container, silent)
        finally:
            stop_watchdog()
            stop_log()
            stop_looking()
        if self.leave.is_set():
            self.say("sparkfleet: leaves the engine running")
            return units.ADOPT_AGAIN
        if self.stop.is_set():
            return self._stop(container)
        if self.peers and self.peers.cause:
            self.say(f"sparkfleet: {self.peers.cause}: the engine is incomplete and is stopped here, too")
            self.peers.state = ranks.ENDS
            self.system.runtime.stop(container.id, self.stop_timeout_s)
            self.say(f"sparkfleet: {valve.flush(self.system).text}")
            return None
        if watchdog.struck:
            self.say(f"sparkfleet: {watchdog.cause}. {memory.REMEDY_FLOOR}")
            return ENDED
        if self._runtime_leaves(daemon_was):
            raise RuntimeUnavailableError
        ended = self.system.runtime.inspect(container.id)
        code = ended.exit_code if ended else "unknown"
        self.say(f"sparkfleet: the engine ended by itself with exit code {code}")
        return self._rank_ended(self.peers) if self.peers else ENDED

    def _rank_ended(self, peers: ranks.Peers) -> int | None:
        """Restart with the other ranks: when one engine ends the others end too, which is no failure.

        systemd would count it as one. Failed starts are counted on disk, as always.
        """
        now = self.system.now()
        self._ends = [at for at in (*self._ends, now) if now - at < units.WITHIN_S]
        if len(self._ends) > MOST_ENDS:
            return ENDED
        peers.state = ranks.ENDS
        pause = self.system.monotonic() + PAUSE_S
        while self.system.monotonic() < pause and not self._gone():
            self.system.sleep(POLL_S)
        self.say(f"sparkfleet: {valve.flush(self.system).text}")
        return None

    def _wait_for_end(self, container: Instance, silent: threading.Event) -> None:
        """Return when the container ended, or a signal came. Raise RuntimeUnavailableError when dockerd goes.

        dockerd is not polled: a request just after its stop would start it again.
        """
        proven, looked, asked = False, 0.0, 0.0
        while not (self._gone() or (self.peers and self.peers.cause)):
            clock = self.system.monotonic()
            if clock - looked >= (1.0 if silent.is_set() else LOOK_S):
                looked = clock
                if self.system.runtime.is_stopping():
                    raise RuntimeUnavailableError
                now = self.system.runtime.inspect(container.id)
                if now is None or not now.running:
                    return
            if not proven and clock - asked >= HEALTH_S:
                asked = clock
                proven = self._answers()
                if proven:
                    self._starts.forgive()
                    if self.peers:
                        self.peers.serves = True
            self.system.sleep(POLL_S)

    def _stop(self, container: Instance) -> int:
        self.notify("STOPPING=1")
        self.say(f"sparkfleet: stops {self._name(container)}, {self.stop_timeout_s} s at most")
        self.system.runtime.stop(container.id, self.stop_timeout_s)
        return self._stopped()

    def _stopped(self) -> int:
        if self.leave.is_set():
            return units.ADOPT_AGAIN
        self._starts.forgive()
        return STOPPED

    def _runtime_leaves(self, was: str) -> bool:
        """Return whether the container ended because dockerd stops or was restarted.

        A dockerd that is stopped first stops listening, then stops its containers, which end with 0.
        """
        deadline = self.system.monotonic() + LEAVING_S
        while self.system.monotonic() < deadline:
            if not self.system.runtime.available() or self.system.runtime.daemon_identity() != was:
                return True
            self.system.sleep(POLL_S)
        return False

    def _await_runtime(self) -> int | None:
        daemon = self.system.runtime.daemon
        self.say(f"sparkfleet: {daemon} stopped")
        self._tell_ready(f"waits for {daemon}")
        self._starts.forgive()
        if not runtime_wait.wait(self.system, lambda text: self.say(f"sparkfleet: {text}"), self._gone):
            return self._stopped()
        self.say(f"sparkfleet: {daemon} is back")
        self.say(f"sparkfleet: {valve.flush(self.system).text}")
        return None

    def _answers(self) -> bool:
        known = store.current_generation(self.system.paths.state, self.service)
        if known is None:
            return False
        if self.peers and known.rank and not known.rank.is_head:
            return self.peers.serves
        return self.system.http(Question(known.port, "GET", "/health", 2.0)).status == OK

    def _tell_ready(self, status: str) -> None:
        said = f"STATUS={programs.status(status, self.programs)}"
        self.notify(said if self._ready else f"READY=1\n{said}")
        self._ready = True

    def _name(self, container: Instance) -> str:
        return f"container {self.service} ({container.id[:12]}, generation {container.generation})"

    @property
    def _starts_path(self) -> Path:
        return store.service_directory(self.system.paths.state, self.service) / "starts.json"

    @property
    def _starts(self) -> Starts:
        return Starts(self._starts_path)


def to_journal(line: str) -> None:
    """Write a line to stdout, which systemd puts into its journal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
