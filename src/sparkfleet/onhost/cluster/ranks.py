"""The supervisors of a cluster watch each other: all ranks start for one epoch, or none.

The head creates an epoch for each start of the engine. The engine's ``ClusterStart`` says whether the head or
the workers start first. A rank that has left the epoch counts as lost.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet import engines
from sparkfleet.contract.cluster import MessageRefused, PeerQuery, PeerState, RankRun, RolloutEnd
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.contract.rollout import PROMOTED, RolloutResult
from sparkfleet.engines.host import ClusterStart
from sparkfleet.onhost.cluster import proof
from sparkfleet.onhost.machine import files, mounts
from sparkfleet.onhost.machine.system import Stop, System, runtime_of
from sparkfleet.onhost.state import store
from sparkfleet.runtimes.base import Instance

PORT = 29552

WAITING, READY, RUNNING, ENDS = "waiting", "ready", "running", "ends"
"""States of a rank. ``ends``: it leaves its epoch, and waits for the next one when its engine has ended."""
POLL_S, CHECK_S, REQUEST_S = 1.0, 2.0, 3.0
LOST_S = 30.0
"""Seconds without a response after which a rank is lost: longer than a supervisor's own restart."""


@dataclass
class Peers:
    """State of one rank and what its supervisor knows of the others."""

    system: System
    service: str
    rank: Rank
    start: ClusterStart
    log: Callable[[str], None]
    cluster_key: str = field(default="", repr=False)
    """Key that the ranks share; "" for a cluster whose supervisors do not sign responses yet."""
    mounted: tuple[str, ...] = ()
    """Directories that the engine can write to."""
    epoch: str = ""
    state: str = WAITING
    serves: bool = False
    """The engine of the cluster has answered."""
    cause: str = ""
    """Which rank is lost, and why; "" while none is."""
    _response_at: dict[int, float] = field(default_factory=dict)
    _close: Stop | None = None
    _logged: str = ""

    def respond(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return this rank's state, or the end of a rollout. Called from other threads."""
        try:
            query = PeerQuery.from_json(message)
        except ContractError as error:
            return MessageRefused(error.diagnostic).to_json()
        if query.subject == "swap":
            return _rollout_end(self.system, query)
        state = PeerState(self.rank.fingerprint, self.epoch, self._state(), self.serves)
        return proof.sign(state, self.cluster_key, query)

    def _state(self) -> str:
        if self.state == RUNNING and self.rank.is_head and self.start.head_first:
            return RUNNING if self.system.port_owners(self.start.head_port) else READY
        return self.state

    def open(self) -> None:
        """Listen for queries as soon as the fabric address is up."""
        if self._close is None:
            try:
                self._close = self.system.listen(self.rank.address, PORT, self.respond)
            except OSError as error:
                self._log_change(f"cannot listen for other ranks on {self.rank.address}: {error}")

    def close(self) -> None:
        """Stop listening."""
        if self._close:
            self._close()
            self._close = None

    def wait(self, ended: Callable[[], bool], status: Callable[[str], None]) -> bool:
        """Wait until this rank may start; return False when ``ended`` returned True first."""
        self.state, self.serves, self.cause = WAITING, False, ""
        self.epoch = uuid.uuid4().hex[:12] if self.rank.is_head else ""
        while not ended():
            self.open()
            reason = self._awaited()
            if not reason:
                mounts.clear_caches(self.mounted, self.rank.clear)
                return True
            self._log_change(reason)
            status(reason)
            self.system.sleep(POLL_S)
        return False

    def _awaited(self) -> str:
        """Return what must happen before the start, "" when nothing."""
        if not self.rank.is_head:
            return self._awaited_of_head()
        expected = READY if self.start.head_first else RUNNING
        missing = []
        for rank in range(1, len(self.rank.hosts)):
            response = self._ask(rank)
            if response is None or (response.epoch, response.state) != (self.epoch, expected):
                missing.append(f"{self.rank.name(rank)}{'' if response else ': no answer'}")
        return f"waiting for {', '.join(missing)}" if missing else ""

    def _awaited_of_head(self) -> str:
        response = self._ask(0)
        if response is None:
            return f"waiting for the head {self.rank.name(0)}"
        if not self.start.head_first:
            self.epoch = response.epoch
            return "" if response.state == WAITING else "waiting until the head restarts"
        if response.state == WAITING:
            self.epoch, self.state = response.epoch, READY
        elif response.state == RUNNING and self.epoch == response.epoch:
            return ""
        return f"waiting until {self.start.head_process} answers on the head"

    def started(self, container: Instance) -> None:
        """Record the container that runs for this epoch."""
        self.state = RUNNING
        record_run(self.system, self.service, container, self.epoch)

    def adopt(self, container: Instance) -> None:
        """Restore the recorded epoch of a container that runs already; "" without a record."""
        self.open()
        run = recorded_run(self.system, self.service)
        same = (run.container, run.started_at) == (container.id, container.started_at)
        self.epoch, self.state, self.cause = run.epoch if same else "", RUNNING, ""

    def watch(self) -> Stop:
        """Watch the other ranks in the background; a lost one is named in ``cause``."""
        self._response_at = dict.fromkeys(self._watched_ranks(), self.system.monotonic())
        return self.system.every(CHECK_S, self._check_ranks)

    def _check_ranks(self) -> None:
        self.open()
        for rank in self._watched_ranks():
            response, now = self._ask(rank), self.system.monotonic()
            if response is not None:
                self._response_at[rank] = now
                if response.epoch != self.epoch or self._has_ended(rank, response.state):
                    self.cause = f"{self.rank.name(rank)} has ended or restarted"
                elif rank == 0:
                    self.serves = bool(response.serves)
            elif now - self._response_at[rank] >= LOST_S:
                self.cause = f"{self.rank.name(rank)} has not answered for {LOST_S:.0f} s"

    def _has_ended(self, rank: int, state: str) -> bool:
        if state == WAITING:  # a head that starts last waits while the workers of its epoch start
            return rank != 0 or self.start.head_first
        return state == ENDS

    def _watched_ranks(self) -> list[int]:
        return list(range(1, len(self.rank.hosts))) if self.rank.is_head else [0]

    def _ask(self, rank: int) -> PeerState | None:
        """Return the state of a rank; None: no response, no valid signature, or another fingerprint."""
        query = proof.new_query("state")
        data = self.system.ask_other(self.rank.addresses[rank], PORT, query.to_json(), REQUEST_S)
        response = proof.verify(PeerState, data, self.cluster_key, query)
        return response if response is not None and response.fingerprint == self.rank.fingerprint else None

    def _log_change(self, text: str) -> None:
        if text != self._logged:
            self._logged = text
            self.log(f"sparkfleet: {text}")


def unsupported(generation: Generation) -> Diagnostic | None:
    """Return that these programs do not have a generation's engine, or its executor; None: they have both."""
    if generation.engine not in engines.host_names():
        feature, supported = f"engine {generation.engine}", engines.host_names()
    else:
        starts = engines.on_host(generation.engine).cluster_starts
        if generation.rank is None or generation.rank.executor in starts:
            return None
        feature, supported = f"executor {generation.rank.executor} of {generation.engine}", tuple(starts)
    return Diagnostic(
        generation.service,
        f"the programs on this Spark do not support {feature}",
        " or ".join(supported) or "a service on a single Spark",
        "pyinfra INVENTORY deploys/prepare.py with a sparkfleet that supports it updates them",
        code="engine-unsupported",
    )


def cluster_start(generation: Generation, rank: Rank) -> ClusterStart:
    """Return how the ranks of a generation start. Raise SparkfleetError when that is unsupported."""
    if diagnostic := unsupported(generation):
        raise SparkfleetError(diagnostic)
    return engines.on_host(generation.engine).cluster_starts[rank.executor]


def peers_of(system: System, service: str, log: Callable[[str], None]) -> Peers | None:
    """Return the peers of a service; None for a service on one host. Raise SparkfleetError."""
    known = store.current(system.paths.state, service)
    if known is None or known.rank is None:
        return None
    start = cluster_start(known, known.rank)
    recorded_run(system, service)  # one of a newer version is not overwritten at the start
    mounted = tuple(mount.source for mount in runtime_of(system, known).workload(known).mounts)
    key = store.cluster_key(system.paths.state, service)
    return Peers(system, service, known.rank, start, log, key, mounted)


def record_run(system: System, service: str, container: Instance, epoch: str) -> None:
    """Record which container runs for which epoch, for a supervisor that adopts it."""
    run = RankRun(epoch, container.id, container.started_at)
    files.write_document(_run_path(system, service), run)


def recorded_run(system: System, service: str) -> RankRun:
    """Return the record of the last start. Raise ContractError for one of a newer version."""
    return files.read_or_default(RankRun, _run_path(system, service))


def _run_path(system: System, service: str) -> Path:
    return store.service_directory(system.paths.state, service) / "run.json"


def _rollout_end(system: System, query: PeerQuery) -> dict[str, Any]:
    """Return the end of a rollout here as a command of the head; {}: it has not ended, or is not known."""
    try:
        directory = store.rollout_directory(system.paths.state, query.rollout)
        result = files.read_document(RolloutResult, directory / "result.json")
        request = files.read_document(RolloutRequest, directory / "request.json")
    except ValueError:  # no id of a rollout, or a file that cannot be read
        return {}
    if result is None or request is None:
        return {}
    end = RolloutEnd("commit" if result.outcome == PROMOTED else "abort")
    return proof.sign(end, request.cluster_key, query)
