"""Coordination of a cluster rollout: the members poll the head for its commands.

``SingleHost`` is for a service on one Spark, which needs no coordination.
"""

from __future__ import annotations

from typing import Protocol

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import GateResult, RolloutRequest
from sparkfleet.onhost.cluster import ranks
from sparkfleet.onhost.cluster.head import Head
from sparkfleet.onhost.cluster.member import Member
from sparkfleet.onhost.cluster.messages import CoordinationError
from sparkfleet.onhost.gate.failure import Failure
from sparkfleet.onhost.gate.gate import Gate
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.state.journal import Journal


class Coordinator(Protocol):
    """Synchronizes a rollout with the other ranks. Methods are called in this order."""

    def open(self, *, again: bool) -> None:
        """Start communication; ``again``: after an interruption. Raise CoordinationError."""

    def prepared(self, image_id: str) -> None:
        """Wait until every rank has created its candidate. Raise CoordinationError."""

    def stopped(self) -> None:
        """Wait until this rank may start. Raise StartFailedError."""

    def check(self) -> None:
        """Raise StartFailedError when another rank failed or is silent."""

    def prove(self, gate: Gate) -> GateResult:
        """Wait until the gate has passed. Raise StartFailedError, EngineEndedError."""

    def commit(self) -> None:
        """Command all ranks to promote. From here on nothing is rolled back."""

    def was_committed(self) -> bool:
        """Return, after an interruption, whether the rollout was promoted."""

    def explain(self, failure: Failure) -> Failure:
        """Return the failure with those of other ranks: when one engine ends, the other engines end too."""

    def abort(self, failure: Failure) -> None:
        """Command all ranks to roll back."""

    def settle(self, promoted: bool, diagnostic: Diagnostic | None) -> Diagnostic | None:
        """Report the end of this rank; return what failed on other ranks."""

    def close(self) -> None:
        """Stop all communication."""


class SingleHost:
    """Coordinator of a service on one Spark."""

    def open(self, *, again: bool) -> None:
        """Do nothing."""

    def prepared(self, image_id: str) -> None:
        """Return at once."""

    def stopped(self) -> None:
        """Return at once."""

    def check(self) -> None:
        """Return: there is no other rank."""

    def prove(self, gate: Gate) -> GateResult:
        """Pass the gate."""
        return gate.prove()

    def commit(self) -> None:
        """Do nothing."""

    def was_committed(self) -> bool:
        """Return False: there is no head."""
        return False

    def explain(self, failure: Failure) -> Failure:
        """Return the failure unchanged."""
        return failure

    def abort(self, failure: Failure) -> None:
        """Do nothing."""

    def settle(self, promoted: bool, diagnostic: Diagnostic | None) -> Diagnostic | None:  # noqa: ARG002
        """Return at once."""
        return None

    def close(self) -> None:
        """Do nothing."""


def coordinator(system: System, journal: Journal, request: RolloutRequest) -> Coordinator:
    """Return the coordinator of a rollout. Raise CoordinationError where nothing has changed yet."""
    generation = request.candidate
    if generation is None or generation.rank is None or not request.cluster_key:
        return SingleHost()
    rank = generation.rank
    if not rank.is_head:
        return Member(system, journal, request, generation, rank)
    try:
        return Head(system, journal, request, generation, rank, ranks.cluster_start(generation, rank))
    except SparkfleetError as error:
        if journal.has_changed:
            return SingleHost()  # it can still be rolled back here; the members do that without the head
        raise CoordinationError(error.diagnostic) from None
