"""The head's side of a cluster rollout: it listens on the fabric, and decides."""

from __future__ import annotations

import hmac
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from sparkfleet.contract.cluster import HeadAnswer, MemberMessage
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.onhost.cluster import messages, ranks
from sparkfleet.onhost.cluster.messages import CoordinationError
from sparkfleet.onhost.gate.candidate_start import CandidateFailedError, Failure
from sparkfleet.onhost.gate.gate import Gate, Passed
from sparkfleet.onhost.machine.system import Stop, System
from sparkfleet.onhost.state.journal import Journal


@dataclass
class Said:
    """The last report of a member."""

    state: str
    cause: str
    remedy: str
    shared: dict[str, str]
    at: float
    """Monotonic."""


@dataclass
class Head:
    """Coordinator of rank 0: it listens, and decides."""

    system: System
    journal: Journal
    request: RolloutRequest
    generation: Generation
    rank: Rank
    word: str = messages.PREPARE
    cause: str = ""
    remedy: str = ""
    said: dict[int, Said] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _close: Stop | None = None

    def open(self, *, again: bool) -> None:
        """Listen on the fabric; ``again``: after an interruption, with the recorded decision."""
        if again:
            forward = self.journal.last("promote") and not self.journal.last("restore")
            self.word = messages.COMMIT if forward else messages.ABORT
            self.cause = "" if forward else "its rollout was interrupted"
        deadline = self.system.monotonic() + (messages.WORD_S if again else 0.0)
        while True:
            try:
                self._close = self.system.listen(self.rank.address, messages.PORT, self.answer)
            except OSError as error:
                if self.system.monotonic() < deadline:
                    self.system.sleep(1.0)
                    continue
                if again:
                    return  # its own end does not depend on who listens
                cause = f"cannot listen on {self.rank.address}, port {messages.PORT}: {error}"
                raise CoordinationError(cause, messages.NO_FABRIC) from None
            return

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Store a member's report and return the decision. Called from other threads."""
        try:
            report = MemberMessage.from_json(message)
        except ContractError as error:
            return {"error": error.diagnostic.message}
        if not hmac.compare_digest(report.cluster_key.encode(), self.request.cluster_key.encode()):
            return {"error": "not of this rollout"}
        now = self.system.monotonic()
        said = Said(report.state, report.cause, report.remedy, dict(report.shared), now)
        with self._lock:
            self.said[report.rank] = said
            return HeadAnswer(self.word, self.cause, self.remedy).to_json()

    def prepared(self, image_id: str) -> None:
        """Wait until every member is ready with the same image and arguments, then let all stop."""
        deadline = self.system.monotonic() + messages.PREPARE_S
        while missing := self._without(messages.READY):
            for rank, said in self._all():
                if said.state in {messages.FAILED, messages.ENDED}:
                    raise CoordinationError(f"{self.rank.name(rank)}: {said.cause}", said.remedy)
            if self.system.monotonic() >= deadline:
                names = ", ".join(self.rank.name(rank) for rank in missing)
                raise CoordinationError(
                    f"{names} did not report ready within {messages.PREPARE_S:.0f} s",
                    messages.NO_FABRIC,
                )
            self.system.sleep(messages.POLL_S)
        own = messages.shared(self.rank, image_id)
        for rank, said in self._all():
            for key, value in own.items():
                if said.shared.get(key) != value:
                    found = f"{self.rank.name(rank)} has another {key} than the head: {said.shared.get(key)}"
                    raise CoordinationError(
                        f"{found}, not {value}", "run again; the plan shows what differs on each member"
                    )
        self.journal.log("note", "every rank is ready", phase="together")
        self._say(messages.STOP)

    def stopped(self) -> None:
        """Wait until every rank has stopped; with mp also until every worker runs."""
        self._wait(messages.STOPPED, messages.STOP_S)
        if self.rank.executor == "mp":
            self._say(messages.START)
            self._wait(messages.RUNNING, messages.STOP_S)

    def check(self) -> None:
        """Check the members; let workers of Ray start once it answers here."""
        for rank in range(1, len(self.rank.hosts)):
            said = self.said.get(rank)
            silent = self.system.monotonic() - said.at if said else messages.SILENT_S
            if said and said.state in {messages.FAILED, messages.ENDED}:
                raise CandidateFailedError(Failure(f"{self.rank.name(rank)}: {said.cause}", said.remedy))
            if silent >= messages.SILENT_S:
                text = f"{self.rank.name(rank)} did not report for {silent:.0f} s"
                raise CandidateFailedError(Failure(text, messages.NO_FABRIC))
        if (
            self.word == messages.STOP
            and self.rank.executor == "ray"
            and self.system.port_owners(ranks.RAY_PORT)
        ):
            self._say(messages.START)

    def prove(self, gate: Gate) -> Passed:
        """Pass the gate, then check every member once more."""
        passed = gate.prove()
        proven = self.system.monotonic()
        while any(said.state != messages.RUNNING or said.at <= proven for _, said in self._all()):
            self.check()
            self.system.sleep(messages.POLL_S)
        return passed

    def commit(self) -> None:
        """Tell the members to promote; the journal has it."""
        self._say(messages.COMMIT)

    def was_committed(self) -> bool:
        """Return False: only the head's own journal has it."""
        return False

    def explain(self, failure: Failure) -> Failure:
        """Add what members report of their engines' ends: clocks do not show which was first."""
        deadline = self.system.monotonic() + (messages.EXPLAIN_S if failure.exit_code is not None else 0.0)
        while len(ended := self._ended(failure)) < self.members and self.system.monotonic() < deadline:
            self.system.sleep(messages.POLL_S)
        return replace(failure, cause="; ".join((failure.cause, *ended)))

    def _ended(self, failure: Failure) -> list[str]:
        return [
            f"{self.rank.name(rank)}: {said.cause}"
            for rank, said in self._all()
            if said.state == messages.FAILED and self.rank.name(rank) not in failure.cause
        ]

    def abort(self, failure: Failure) -> None:
        """Tell the members to roll back, and why; the journal has it."""
        with self._lock:
            self.word, self.cause, self.remedy = messages.ABORT, failure.cause, failure.remedy

    def settle(self, promoted: bool, cause: str) -> tuple[str, ...]:
        """Wait until every member has ended; return those that did not end as the head."""
        if not promoted and self.word != messages.ABORT:
            self.abort(Failure(cause))
        deadline = self.system.monotonic() + messages.SETTLE_S
        while self._close and self.system.monotonic() < deadline:
            not_ended = self._without(messages.PROMOTED, messages.ENDED)
            open_ = [rank for rank in not_ended if promoted or rank in self.said]
            if not open_:
                break
            self.system.sleep(messages.POLL_S)
        if not promoted:
            return ()
        return tuple(
            f"{self.rank.name(rank)}: {self.said[rank].cause if rank in self.said else 'silent'}"
            for rank in self._without(messages.PROMOTED)
        )

    def close(self) -> None:
        """Stop listening."""
        if self._close:
            self._close()
            self._close = None

    def _say(self, word: str) -> None:
        with self._lock:
            self.word = word

    def _all(self) -> list[tuple[int, Said]]:
        with self._lock:
            return sorted(self.said.items())

    @property
    def members(self) -> int:
        """Return how many other ranks there are."""
        return len(self.rank.hosts) - 1

    def _without(self, *states: str) -> list[int]:
        return [
            rank
            for rank in range(1, len(self.rank.hosts))
            if rank not in self.said or self.said[rank].state not in states
        ]

    def _wait(self, state: str, limit_s: float) -> None:
        deadline = self.system.monotonic() + limit_s
        while missing := self._without(state):
            self.check()
            if self.system.monotonic() >= deadline:
                names = ", ".join(self.rank.name(rank) for rank in missing)
                raise CandidateFailedError(Failure(f"{names}: not {state} after {limit_s:.0f} s"))
            self.system.sleep(messages.POLL_S)
