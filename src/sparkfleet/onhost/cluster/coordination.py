"""Coordination of a cluster rollout: the head decides, its members ask.

``SingleHost`` is for a Spark that serves by itself: there is nothing to coordinate.
"""

from __future__ import annotations

from typing import Protocol

from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.onhost.cluster.head import Head
from sparkfleet.onhost.cluster.member import Member
from sparkfleet.onhost.gate.candidate_start import Failure
from sparkfleet.onhost.gate.gate import Gate, Passed
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.state.journal import Journal


class Coordinator(Protocol):
    """What a rollout needs of the other ranks of its cluster, in this order."""

    def open(self, *, again: bool) -> None:
        """Begin; ``again``: after an interruption. Raise CoordinationError when that cannot be."""

    def prepared(self, image_id: str) -> None:
        """Return when every rank has its candidate. Raise CoordinationError."""

    def stopped(self) -> None:
        """Return when this rank may start. Raise CandidateFailedError."""

    def check(self) -> None:
        """Raise CandidateFailedError when another rank is lost."""

    def prove(self, gate: Gate) -> Passed:
        """Return when the service serves. Raise GateFailedError, EngineEndedError, CandidateFailedError."""

    def commit(self) -> None:
        """Record that the rollout is promoted; it is not rolled back any more."""

    def was_committed(self) -> bool:
        """Return, after an interruption, whether the rollout was promoted."""

    def explain(self, failure: Failure) -> Failure:
        """Return the failure with those of other ranks: when one engine ends, the others end too."""

    def abort(self, failure: Failure) -> None:
        """Record that the rollout rolls back."""

    def settle(self, promoted: bool, cause: str) -> tuple[str, ...]:
        """Report the end of this rank; return what is wrong with the others'."""

    def close(self) -> None:
        """Stop all communication."""


class SingleHost:
    """A Spark that serves by itself."""

    def open(self, *, again: bool) -> None:
        """Do nothing."""

    def prepared(self, image_id: str) -> None:
        """Return at once."""

    def stopped(self) -> None:
        """Return at once."""

    def check(self) -> None:
        """Return: there is no other rank."""

    def prove(self, gate: Gate) -> Passed:
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

    def settle(self, promoted: bool, cause: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return at once."""
        return ()

    def close(self) -> None:
        """Do nothing."""


def coordinator(system: System, journal: Journal, request: RolloutRequest) -> Coordinator:
    """Return the coordinator of a rollout."""
    generation = request.candidate
    if generation is None or generation.rank is None or not request.cluster_key:
        return SingleHost()
    kind = Head if generation.rank.is_head else Member
    return kind(system, journal, request, generation, generation.rank)
