"""The head's side of a cluster rollout: it listens on the fabric and commands the members."""

from __future__ import annotations

import hmac
import threading
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.contract.cluster import HeadResponse, MemberMessage, MessageRefused
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.contract.generation import GateResult, Generation, Rank, RolloutRequest
from sparkfleet.engines.host import ClusterStart
from sparkfleet.onhost.cluster import messages
from sparkfleet.onhost.cluster.messages import CoordinationError
from sparkfleet.onhost.gate.failure import Failure, StartFailedError
from sparkfleet.onhost.gate.gate import Gate
from sparkfleet.onhost.machine.system import Stop, System
from sparkfleet.onhost.state.journal import Journal


@dataclass
class Head:
    """Coordinator of rank 0: it listens and commands."""

    system: System
    journal: Journal
    request: RolloutRequest
    generation: Generation
    rank: Rank
    start: ClusterStart
    command: str = messages.PREPARE
    diagnostic: Diagnostic | None = None
    reports: dict[int, MemberMessage] = field(default_factory=dict)
    """The last report of each member, by rank."""
    _reported_at: dict[int, float] = field(default_factory=dict)
    """Monotonic times of the reports."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _close: Stop | None = None

    @property
    def service(self) -> str:
        """Return the candidate's service."""
        return self.generation.service

    def open(self, *, again: bool) -> None:
        """Listen on the fabric; ``again``: after an interruption, with the recorded command."""
        if again:
            forward = self.journal.last("promote") and not self.journal.last("restore")
            self.command = messages.COMMIT if forward else messages.ABORT
            message, hint = "its rollout was interrupted", "run again"
            self.diagnostic = (
                None if forward else Diagnostic(self.service, message, hint=hint, code="rollout-interrupted")
            )
        deadline = self.system.monotonic() + (messages.DECISION_S if again else 0.0)
        while True:
            try:
                self._close = self.system.listen(self.rank.address, messages.PORT, self.respond)
            except OSError as error:
                if self.system.monotonic() < deadline:
                    self.system.sleep(1.0)
                    continue
                if again:
                    return  # the head can end without its members
                message = f"cannot listen on {self.rank.address}, port {messages.PORT}: {error}"
                raise CoordinationError(messages.rank_unreachable(self.service, message)) from None
            return

    def respond(self, message: dict[str, Any]) -> dict[str, Any]:
        """Store a member's report and return the command. Called from other threads."""
        try:
            report = MemberMessage.from_json(message)
        except ContractError as error:
            return MessageRefused(error.diagnostic).to_json()
        if not hmac.compare_digest(report.cluster_key.encode(), self.request.cluster_key.encode()):
            found = "another rollout: the cluster key differs"
            refused = Diagnostic("", found, hint="run again", code="rollout-in-progress")
            return MessageRefused(refused).to_json()
        with self._lock:
            self._reported_at[report.rank] = self.system.monotonic()
            self.reports[report.rank] = report
            return HeadResponse(self.command, self.diagnostic).to_json()

    def prepared(self, image_id: str) -> None:
        """Wait until every member is ready with the same image and arguments, then command all to stop."""
        deadline = self.system.monotonic() + messages.PREPARE_S
        while missing := self._not_in_state(messages.READY):
            for rank, report in self._by_rank():
                if report.state in {messages.FAILED, messages.ENDED}:
                    raise CoordinationError(
                        messages.rank_diagnostic(self.service, self.rank.name(rank), report.diagnostic)
                    )
            if self.system.monotonic() >= deadline:
                names = ", ".join(self.rank.name(rank) for rank in missing)
                text = f"{names} did not report ready within {messages.PREPARE_S:.0f} s"
                raise CoordinationError(messages.rank_unreachable(self.service, text))
            self.system.sleep(messages.POLL_S)
        own = messages.values_of_all_ranks(self.rank, image_id)
        for rank, report in self._by_rank():
            for key, value in own.items():
                if report.shared.get(key) != value:
                    message = (
                        f"{self.rank.name(rank)} has another {key} than the head: {report.shared.get(key)}, "
                        f"not {value}"
                    )
                    hint = "run again; the plan shows the differences on each member"
                    raise CoordinationError(
                        Diagnostic(self.service, message, hint=hint, code="cluster-image-differs")
                    )
        self.journal.log("note", "every rank is ready", phase="cluster")
        self._send(messages.STOP)

    def stopped(self) -> None:
        """Wait until every rank has stopped; if the head starts last, also until every worker runs."""
        self._wait(messages.STOPPED, messages.STOP_S)
        if not self.start.head_first:
            self._send(messages.START)
            self._wait(messages.RUNNING, messages.STOP_S)

    def check(self) -> None:
        """Check the members; if the head starts first, let the workers start once it listens."""
        for rank in range(1, len(self.rank.hosts)):
            report = self.reports.get(rank)
            silent = self.system.monotonic() - self._reported_at[rank] if report else messages.SILENT_S
            if report and report.state in {messages.FAILED, messages.ENDED}:
                raise StartFailedError(
                    messages.rank_diagnostic(self.service, self.rank.name(rank), report.diagnostic)
                )
            if silent >= messages.SILENT_S:
                text = f"{self.rank.name(rank)} did not report for {silent:.0f} s"
                raise StartFailedError(messages.rank_unreachable(self.service, text))
        if (
            self.command == messages.STOP
            and self.start.head_first
            and self.system.port_owners(self.start.head_port)
        ):
            self._send(messages.START)

    def prove(self, gate: Gate) -> GateResult:
        """Pass the gate, then wait for one more report of every member."""
        passed = gate.prove()
        proven = self.system.monotonic()
        while any(
            report.state != messages.RUNNING or self._reported_at[rank] <= proven
            for rank, report in self._by_rank()
        ):
            self.check()
            self.system.sleep(messages.POLL_S)
        return passed

    def commit(self) -> None:
        """Command the members to promote; the journal has it already."""
        self._send(messages.COMMIT)

    def was_committed(self) -> bool:
        """Return False: the head reads its own journal."""
        return False

    def explain(self, failure: Failure) -> Failure:
        """Add the causes that members report: clocks do not show which engine ended first."""
        deadline = self.system.monotonic() + (messages.EXPLAIN_S if failure.exit_code is not None else 0.0)
        while len(ended := self._ended(failure)) < self.members and self.system.monotonic() < deadline:
            self.system.sleep(messages.POLL_S)
        return messages.with_root_cause(failure, ended)

    def _ended(self, failure: Failure) -> list[Diagnostic]:
        return [
            messages.rank_diagnostic(self.service, self.rank.name(rank), report.diagnostic)
            for rank, report in self._by_rank()
            if report.state == messages.FAILED and self.rank.name(rank) not in failure.diagnostic.message
        ]

    def abort(self, failure: Failure) -> None:
        """Command the members to roll back, with the cause; the journal has it already."""
        with self._lock:
            self.command, self.diagnostic = messages.ABORT, failure.diagnostic

    def settle(self, promoted: bool, diagnostic: Diagnostic | None) -> Diagnostic | None:
        """Wait until every member has ended; return those that ended differently from the head."""
        if not promoted and self.command != messages.ABORT:
            with self._lock:
                self.command, self.diagnostic = messages.ABORT, diagnostic
        deadline = self.system.monotonic() + messages.SETTLE_S
        while self._close and self.system.monotonic() < deadline:
            not_ended = self._not_in_state(messages.PROMOTED, messages.ENDED)
            open_ = [rank for rank in not_ended if promoted or rank in self.reports]
            if not open_:
                break
            self.system.sleep(messages.POLL_S)
        if not promoted:
            return None
        reports = {rank: self.reports.get(rank) for rank in self._not_in_state(messages.PROMOTED)}
        return combine(
            *(
                messages.rank_diagnostic(
                    self.service, self.rank.name(rank), report.diagnostic if report else None
                )
                for rank, report in reports.items()
            )
        )

    def close(self) -> None:
        """Stop listening."""
        if self._close:
            self._close()
            self._close = None

    def _send(self, command: str) -> None:
        with self._lock:
            self.command = command

    def _by_rank(self) -> list[tuple[int, MemberMessage]]:
        with self._lock:
            return sorted(self.reports.items())

    @property
    def members(self) -> int:
        """Return the number of other ranks."""
        return len(self.rank.hosts) - 1

    def _not_in_state(self, *states: str) -> list[int]:
        return [
            rank
            for rank in range(1, len(self.rank.hosts))
            if rank not in self.reports or self.reports[rank].state not in states
        ]

    def _wait(self, state: str, limit_s: float) -> None:
        deadline = self.system.monotonic() + limit_s
        while missing := self._not_in_state(state):
            self.check()
            if self.system.monotonic() >= deadline:
                names = ", ".join(self.rank.name(rank) for rank in missing)
                text = f"{names}: not {state} within {limit_s:.0f} s"
                raise StartFailedError(messages.rank_unreachable(self.service, text))
            self.system.sleep(messages.POLL_S)
