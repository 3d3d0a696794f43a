"""The supervisors of one cluster watch each other: all ranks start for one epoch, or none.

The head makes a new epoch for each start of the engine. With ``mp`` workers start for it before the head,
with ``ray`` after the head's Ray answers. A rank that is not of the epoch any more is lost to the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet.contract.cluster import PeerQuery, PeerState, RankRun, RolloutEnd
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.onhost.cluster import proof
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import Stop, System
from sparkfleet.onhost.state import store
from sparkfleet.runtimes.base import Instance

PORT = 29552
RAY_PORT = 6379
MASTER_PORT = 29501
"""Rendezvous ports at the head's fabric address, with ``ray`` and ``mp``."""

WAITING, READY, RUNNING, ENDS = "waiting", "ready", "running", "ends"
"""States of a rank. The last: it leaves its epoch, and waits for the next once its engine has ended."""
POLL_S, LOOK_S, PATIENCE_S = 1.0, 2.0, 3.0
LOST_S = 30.0
"""Seconds without a response after which a rank is lost: longer than a supervisor's own restart."""


@dataclass
class Peers:
    """What one supervisor reports to the others, and knows of them."""

    system: System
    service: str
    rank: Rank
    say: Callable[[str], None]
    cluster_key: str = field(default="", repr=False)
    """What the ranks share; "" for a cluster from before answers were signed."""
    epoch: str = ""
    state: str = WAITING
    serves: bool = False
    """The engine as a whole has been seen to answer."""
    cause: str = ""
    """Which rank is lost, and how; "" as long as none is."""
    _heard: dict[int, float] = field(default_factory=dict)
    _close: Stop | None = None
    _told: str = ""

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Report this rank's state, or how a rollout ended. Called from other threads."""
        try:
            query = PeerQuery.from_json(message)
        except ContractError as error:
            return {"error": error.diagnostic.message}
        if query.ask == "swap":
            return _word(self.system, query)
        state = PeerState(self.rank.make, self.epoch, self._state(), self.serves)
        return proof.signed(state, self.cluster_key, query)

    def _state(self) -> str:
        if self.state == RUNNING and self.rank.is_head and self.rank.executor == "ray":
            return RUNNING if self.system.port_owners(RAY_PORT) else READY
        return self.state

    def open(self) -> None:
        """Serve queries of the others as soon as the fabric address is up."""
        if self._close is None:
            try:
                self._close = self.system.listen(self.rank.address, PORT, self.answer)
            except OSError as error:
                self._tell(f"cannot answer other ranks at {self.rank.address}: {error}")

    def close(self) -> None:
        """Stop serving queries."""
        if self._close:
            self._close()
            self._close = None

    def wait(self, ended: Callable[[], bool], status: Callable[[str], None]) -> bool:
        """Return True when this rank may start; False when ``ended`` returned True first."""
        self.state, self.serves, self.cause = WAITING, False, ""
        self.epoch = uuid.uuid4().hex[:12] if self.rank.is_head else ""
        while not ended():
            self.open()
            reason = self._not_yet()
            if not reason:
                for path in self.rank.clear:
                    files.remove(Path(path))
                return True
            self._tell(reason)
            status(reason)
            self.system.sleep(POLL_S)
        return False

    def _not_yet(self) -> str:
        """Return what is waited for, "" when nothing is."""
        if not self.rank.is_head:
            return self._head_not_yet()
        wanted = RUNNING if self.rank.executor == "mp" else READY
        missing = []
        for rank in range(1, len(self.rank.hosts)):
            answer = self._ask(rank)
            if answer is None or (answer.epoch, answer.state) != (self.epoch, wanted):
                missing.append(f"{self.rank.name(rank)}{'' if answer else ': no answer'}")
        return f"waits for {', '.join(missing)}" if missing else ""

    def _head_not_yet(self) -> str:
        answer = self._ask(0)
        if answer is None:
            return f"waits for the head {self.rank.name(0)}"
        if self.rank.executor == "mp":
            self.epoch = answer.epoch
            return "" if answer.state == WAITING else "waits until the head restarts"
        if answer.state == WAITING:
            self.epoch, self.state = answer.epoch, READY
        elif answer.state == RUNNING and self.epoch == answer.epoch:
            return ""
        return "waits until Ray answers on the head"

    def started(self, container: Instance) -> None:
        """Record which container runs for this epoch."""
        self.state = RUNNING
        note_run(self.system, self.service, container, self.epoch)

    def adopt(self, container: Instance) -> None:
        """Take the recorded epoch of a container that runs already; "" without a record."""
        self.open()
        run = _noted_run(self.system, self.service)
        same = (run.container, run.started_at) == (container.id, container.started_at)
        self.epoch, self.state, self.cause = run.epoch if same else "", RUNNING, ""

    def watch(self) -> Stop:
        """Watch the others in the background; ``cause`` names the rank that is lost."""
        self._heard = dict.fromkeys(self._others(), self.system.monotonic())
        return self.system.every(LOOK_S, self._look)

    def _look(self) -> None:
        self.open()
        for rank in self._others():
            answer, now = self._ask(rank), self.system.monotonic()
            if answer is not None:
                self._heard[rank] = now
                if answer.epoch != self.epoch or self._has_ended(rank, answer.state):
                    self.cause = f"{self.rank.name(rank)} has ended or restarted"
                elif rank == 0:
                    self.serves = bool(answer.serves)
            elif now - self._heard[rank] >= LOST_S:
                self.cause = f"{self.rank.name(rank)} has not answered for {LOST_S:.0f} s"

    def _has_ended(self, rank: int, state: str) -> bool:
        if state == WAITING:  # with mp the head waits while workers of its epoch run
            return not (rank == 0 and self.rank.executor == "mp")
        return state == ENDS

    def _others(self) -> list[int]:
        return list(range(1, len(self.rank.hosts))) if self.rank.is_head else [0]

    def _ask(self, rank: int) -> PeerState | None:
        """Return the state of a rank with the same fingerprint; None: another one, no response, no proof."""
        query = proof.query("state")
        data = self.system.ask_other(self.rank.addresses[rank], PORT, query.to_json(), PATIENCE_S)
        answer = proof.proven(PeerState, data, self.cluster_key, query)
        return answer if answer is not None and answer.make == self.rank.make else None

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self.say(f"sparkfleet: {text}")


def peers_of(system: System, service: str, say: Callable[[str], None]) -> Peers | None:
    """Return the peers of a service; None: a single host serves it."""
    known: Generation | None = store.current_generation(system.paths.state, service)
    if known is None or known.rank is None:
        return None
    return Peers(system, service, known.rank, say, store.cluster_key(system.paths.state, service))


def note_run(system: System, service: str, container: Instance, epoch: str) -> None:
    """Record which container runs for which epoch: a supervisor that adopts it belongs to that epoch."""
    run = RankRun(epoch, container.id, container.started_at)
    files.write_json(_run_path(system, service), run.to_json())


def _noted_run(system: System, service: str) -> RankRun:
    return files.read_or_default(RankRun, _run_path(system, service))


def _run_path(system: System, service: str) -> Path:
    return store.service_directory(system.paths.state, service) / "run.json"


def _word(system: System, query: PeerQuery) -> dict[str, Any]:
    """Return how a rollout ended here, as a decision of the head; {}: it has not, or is not known."""
    try:
        directory = store.rollout_directory(system.paths.state, query.swap)
        result = files.read_json(directory / "result.json")
        request = RolloutRequest.from_json(files.read_json(directory / "request.json"))
    except ValueError:
        return {}
    if not result:
        return {}
    end = RolloutEnd("commit" if result.get("outcome") == "promoted" else "abort")
    return proof.signed(end, request.cluster_key, query)
