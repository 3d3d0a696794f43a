"""The swaps of one change of a cluster, together: the head decides, its members ask.

``Alone`` is the party of a Spark that serves by itself: it waits for nobody and tells nobody.
"""

from __future__ import annotations

from typing import Protocol

from sparkfleet.contract.generation import SwapRequest
from sparkfleet.onhost.cluster.head import Head
from sparkfleet.onhost.cluster.member import Member
from sparkfleet.onhost.gate.candidate_start import Failure
from sparkfleet.onhost.gate.gate import Gate, Passed
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.state.journal import Journal


class Coordinator(Protocol):
    """What a swap asks of the others of its cluster, in this order."""

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
        """From here on it goes forward."""

    def was_committed(self) -> bool:
        """Ask, after an interruption, whether it goes forward."""

    def explain(self, failure: Failure) -> Failure:
        """Return the failure with what other ranks say of theirs: one engine's end brings the others'."""

    def abort(self, failure: Failure) -> None:
        """From here on it goes back."""

    def settle(self, promoted: bool, cause: str) -> tuple[str, ...]:
        """Tell the end of this rank; return what is wrong with the others'."""

    def close(self) -> None:
        """Say nothing any more."""


class SingleHost:
    """A Spark that serves by itself."""

    def open(self, *, again: bool) -> None:
        """Nobody to begin with."""

    def prepared(self, image_id: str) -> None:
        """Nobody to wait for."""

    def stopped(self) -> None:
        """Nobody to wait for."""

    def check(self) -> None:
        """Nobody to lose."""

    def prove(self, gate: Gate) -> Passed:
        """Ask the gate."""
        return gate.prove()

    def commit(self) -> None:
        """Nobody to tell."""

    def was_committed(self) -> bool:
        """Nobody to ask."""
        return False

    def explain(self, failure: Failure) -> Failure:
        """Nobody else to ask."""
        return failure

    def abort(self, failure: Failure) -> None:
        """Nobody to tell."""

    def settle(self, promoted: bool, cause: str) -> tuple[str, ...]:  # noqa: ARG002
        """Nobody to wait for."""
        return ()

    def close(self) -> None:
        """Nothing is open."""


def coordinator(system: System, journal: Journal, request: SwapRequest) -> Coordinator:
    """Return the party of a swap."""
    generation = request.candidate
    if generation is None or generation.rank is None or not request.cluster_key:
        return SingleHost()
    kind = Head if generation.rank.is_head else Member
    return kind(system, journal, request, generation, generation.rank)
