"""The members' side of a cluster rollout: they report to the head and follow its decision."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from sparkfleet.contract.cluster import HeadAnswer, MemberMessage, RolloutEnd
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.generation import Generation, Rank, RolloutRequest
from sparkfleet.onhost.cluster import messages, proof, ranks
from sparkfleet.onhost.cluster.messages import CoordinationError
from sparkfleet.onhost.gate.candidate_start import CandidateFailedError, Failure
from sparkfleet.onhost.gate.gate import Gate, Passed
from sparkfleet.onhost.machine.system import Stop, System
from sparkfleet.onhost.state.journal import Journal


@dataclass
class Member:
    """Coordinator of every rank but 0: it reports to the head and follows its decision."""

    system: System
    journal: Journal
    request: RolloutRequest
    generation: Generation
    rank: Rank
    state: str = messages.CHECKING
    cause: str = ""
    remedy: str = ""
    word: str = messages.PREPARE
    why: str = ""
    what: str = ""
    """Cause and remedy that the head reported."""
    image_id: str = ""
    told: str = ""
    """The state that the head has confirmed."""
    heard_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _close: Stop | None = None

    def open(self, *, again: bool) -> None:  # noqa: ARG002  (for the head)
        """Begin to report to the head."""
        self.heard_at = self.system.monotonic()
        self._close = self.system.every(messages.BEAT_S, self.beat)

    def beat(self) -> None:
        """Report to the head and read its decision. Called from other threads."""
        with self._lock:
            message = MemberMessage(
                self.rank.rank,
                self.state,
                self.cause,
                self.remedy,
                messages.shared(self.rank, self.image_id),
                self.request.cluster_key,
            )
            data = self.system.ask_other(
                self.rank.addresses[0], messages.PORT, message.to_json(), messages.PATIENCE_S
            )
            try:
                answer = HeadAnswer.from_json(data)
            except ContractError:
                return  # not reachable, or the head of another rollout
            self.word, self.heard_at = answer.word, self.system.monotonic()
            self.told = message.state
            self.why, self.what = answer.cause, answer.remedy

    def prepared(self, image_id: str) -> None:
        """Report ready, and wait for the decision to stop."""
        self.image_id = image_id
        self._tell(messages.READY)
        try:
            self._wait(messages.STOP, messages.PREPARE_S)
        except CandidateFailedError as error:
            raise CoordinationError(error.failure.cause, error.failure.remedy) from None

    def stopped(self) -> None:
        """Report that the old engine has stopped, and wait for the decision to start."""
        self._tell(messages.STOPPED)
        self._wait(messages.START, messages.LOST_S)

    def check(self) -> None:
        """Raise when the head rolls back."""
        if self.word == messages.ABORT:
            raise CandidateFailedError(Failure(f"{self.rank.name(0)}: {self.why}", self.what))
        silent = self.system.monotonic() - self.heard_at
        if silent >= messages.LOST_S:
            raise CandidateFailedError(
                Failure(f"{self.rank.name(0)}, the head, did not answer for {silent:.0f} s")
            )

    def prove(self, gate: Gate) -> Passed:
        """Report that the engine runs; the head's gate decides."""
        began = self.system.monotonic()
        self._tell(messages.RUNNING)
        gate.waiting("the head's gate")
        while self.word != messages.COMMIT:
            gate.check_alive()
            self.system.sleep(messages.POLL_S)
        spent = self.system.monotonic() - began
        return Passed(spent, 0.0, 0.0, "", 0.0, serving_at=self.system.now())

    def commit(self) -> None:
        """Do nothing: the head decided it."""

    def was_committed(self) -> bool:
        """Request the decision from the head's rollout, or from its supervisor."""
        deadline = self.system.monotonic() + messages.WORD_S
        while self.system.monotonic() < deadline:
            self.beat()
            query = proof.query("swap", self.request.id)
            data = self.system.ask_other(
                self.rank.addresses[0], ranks.PORT, query.to_json(), messages.PATIENCE_S
            )
            end = proof.proven(RolloutEnd, data, self.request.cluster_key, query) or RolloutEnd()
            for word in (self.word, end.word):
                if word in {messages.COMMIT, messages.ABORT}:
                    return word == messages.COMMIT
            self.system.sleep(1.0)
        return False

    def explain(self, failure: Failure) -> Failure:
        """Report to the head, and add what it reports of the others."""
        if failure.exit_code is None:
            return failure
        self._tell(messages.FAILED, failure.cause, failure.remedy)
        deadline = self.system.monotonic() + messages.EXPLAIN_S
        while self.word != messages.ABORT and self.system.monotonic() < deadline:
            self.system.sleep(messages.POLL_S)
        if self.word != messages.ABORT or not self.why or self.why in failure.cause:
            return failure
        return replace(failure, cause=f"{failure.cause}; {self.rank.name(0)}: {self.why}")

    def abort(self, failure: Failure) -> None:
        """Report to the head why this rank rolls back."""
        self._tell(messages.FAILED, failure.cause, failure.remedy)

    def settle(self, promoted: bool, cause: str) -> tuple[str, ...]:
        """Report how this rank ended: also to a head that begins after this rank has refused."""
        began = self.system.monotonic()
        self._tell(messages.PROMOTED if promoted else messages.ENDED, cause)
        while self.told != self.state and self.system.monotonic() - began < messages.HEARD_S:
            self.system.sleep(messages.BEAT_S)
            self.beat()
        return ()

    def close(self) -> None:
        """Stop reporting."""
        if self._close:
            self._close()
            self._close = None

    def _tell(self, state: str, cause: str = "", remedy: str = "") -> None:
        self.state, self.cause, self.remedy = state, cause or self.cause, remedy or self.remedy
        self.beat()

    def _wait(self, word: str, limit_s: float) -> None:
        while self.word == messages.ABORT or messages.ORDER.index(self.word) < messages.ORDER.index(word):
            self.check()
            silent = self.system.monotonic() - self.heard_at
            if silent >= limit_s:
                text = f"{self.rank.name(0)}, the head, did not answer for {silent:.0f} s"
                raise CandidateFailedError(Failure(text, messages.NO_FABRIC))
            self.system.sleep(messages.POLL_S)
