"""The members' side of a cluster rollout: they report to the head and follow its commands."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sparkfleet.contract.cluster import HeadResponse, MemberMessage, RolloutEnd
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult, Generation, Rank, RolloutRequest
from sparkfleet.onhost.cluster import messages, proof, ranks
from sparkfleet.onhost.cluster.messages import CoordinationError
from sparkfleet.onhost.gate.failure import Failure, StartFailedError
from sparkfleet.onhost.gate.gate import Gate
from sparkfleet.onhost.machine.system import Stop, System
from sparkfleet.onhost.state.journal import Journal


@dataclass
class Member:
    """Coordinator of every rank but 0: it reports to the head and follows its commands."""

    system: System
    journal: Journal
    request: RolloutRequest
    generation: Generation
    rank: Rank
    state: str = messages.CHECKING
    diagnostic: Diagnostic | None = None
    command: str = messages.PREPARE
    head_diagnostic: Diagnostic | None = None
    """Of the head's last response."""
    image_id: str = ""
    confirmed_state: str = ""
    """The state that the head has confirmed."""
    head_response_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _close: Stop | None = None

    @property
    def service(self) -> str:
        """Return the candidate's service."""
        return self.generation.service

    def open(self, *, again: bool) -> None:  # noqa: ARG002  (only the head needs it)
        """Start the heartbeat to the head."""
        self.head_response_at = self.system.monotonic()
        self._close = self.system.every(messages.HEARTBEAT_S, self.report_to_head)

    def report_to_head(self) -> None:
        """Report to the head and store its command. Called from other threads."""
        with self._lock:
            message = MemberMessage(
                self.rank.rank,
                self.state,
                self.diagnostic,
                messages.values_of_all_ranks(self.rank, self.image_id),
                self.request.cluster_key,
            )
            data = self.system.ask_other(
                self.rank.addresses[0], messages.PORT, message.to_json(), messages.REQUEST_S
            )
            try:
                response = HeadResponse.from_json(data)
            except ContractError:
                return  # not reachable, or the head of another rollout
            self.command, self.head_response_at = response.command, self.system.monotonic()
            self.confirmed_state = message.state
            self.head_diagnostic = response.diagnostic

    def prepared(self, image_id: str) -> None:
        """Report ready, and wait for the command to stop."""
        self.image_id = image_id
        self._report(messages.READY)
        try:
            self._wait(messages.STOP, messages.PREPARE_S)
        except StartFailedError as error:
            raise CoordinationError(error.failure) from None

    def stopped(self) -> None:
        """Report that the old engine has stopped, and wait for the command to start."""
        self._report(messages.STOPPED)
        self._wait(messages.START, messages.LOST_S)

    def check(self) -> None:
        """Raise StartFailedError when the head rolls back or does not answer."""
        if self.command == messages.ABORT:
            raise StartFailedError(
                messages.rank_diagnostic(self.service, self.rank.name(0), self.head_diagnostic)
            )
        self._require_response(messages.LOST_S)

    def prove(self, gate: Gate) -> GateResult:
        """Report that the engine runs; the head's gate decides."""
        began = self.system.monotonic()
        self._report(messages.RUNNING)
        gate.waiting("the head's gate")
        while self.command != messages.COMMIT:
            gate.check_alive()
            self.system.sleep(messages.POLL_S)
        spent = self.system.monotonic() - began
        return GateResult(round(spent, 2), serving_at=round(self.system.now(), 3))

    def commit(self) -> None:
        """Do nothing: the head commands it."""

    def was_committed(self) -> bool:
        """Request the outcome from the head's rollout, or from its supervisor."""
        deadline = self.system.monotonic() + messages.DECISION_S
        while self.system.monotonic() < deadline:
            self.report_to_head()
            query = proof.new_query("swap", self.request.id)
            data = self.system.ask_other(
                self.rank.addresses[0], ranks.PORT, query.to_json(), messages.REQUEST_S
            )
            end = proof.verify(RolloutEnd, data, self.request.cluster_key, query) or RolloutEnd()
            for command in (self.command, end.command):
                if command in {messages.COMMIT, messages.ABORT}:
                    return command == messages.COMMIT
            self.system.sleep(1.0)
        return False

    def explain(self, failure: Failure) -> Failure:
        """Report to the head, and add the cause that it reports."""
        if failure.exit_code is None:
            return failure
        self._report(messages.FAILED, failure.diagnostic)
        deadline = self.system.monotonic() + messages.EXPLAIN_S
        while self.command != messages.ABORT and self.system.monotonic() < deadline:
            self.system.sleep(messages.POLL_S)
        head = self.head_diagnostic
        if self.command != messages.ABORT or head is None or head.message in failure.diagnostic.message:
            return failure
        return messages.with_root_cause(
            failure, [messages.rank_diagnostic(self.service, self.rank.name(0), head)]
        )

    def abort(self, failure: Failure) -> None:
        """Report to the head why this rank rolls back."""
        self._report(messages.FAILED, failure.diagnostic)

    def settle(self, promoted: bool, diagnostic: Diagnostic | None) -> Diagnostic | None:
        """Report how this rank ended, also to a head that starts after this rank has refused."""
        began = self.system.monotonic()
        self._report(messages.PROMOTED if promoted else messages.ENDED, diagnostic)
        while (
            self.confirmed_state != self.state and self.system.monotonic() - began < messages.FINAL_REPORT_S
        ):
            self.system.sleep(messages.HEARTBEAT_S)
            self.report_to_head()
        return None

    def close(self) -> None:
        """Stop reporting."""
        if self._close:
            self._close()
            self._close = None

    def _report(self, state: str, diagnostic: Diagnostic | None = None) -> None:
        self.state, self.diagnostic = state, diagnostic or self.diagnostic
        self.report_to_head()

    def _wait(self, command: str, limit_s: float) -> None:
        while self.command == messages.ABORT or messages.ORDER.index(self.command) < messages.ORDER.index(
            command
        ):
            self.check()
            self._require_response(limit_s)
            self.system.sleep(messages.POLL_S)

    def _require_response(self, limit_s: float) -> None:
        silent = self.system.monotonic() - self.head_response_at
        if silent >= limit_s:
            text = f"{self.rank.name(0)}, the head, did not answer for {silent:.0f} s"
            raise StartFailedError(messages.rank_unreachable(self.service, text))
