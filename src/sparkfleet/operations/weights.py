"""Operation: each file of the declared models is on the Spark at its locked commit, while the old models
serve.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from sparkfleet.operations.run import acting
from sparkfleet.operations.staging import fetching
from sparkfleet.plan.model import Entry, Step


@operation()
def complete() -> Generator[FunctionCommand, None, None]:
    """Download what is missing or not whole, or copy it from a Spark that has it."""
    yield from acting.commands(state, host, Step.WEIGHTS, _fetch)


def _fetch(act: acting.Acting, entries: tuple[Entry, ...]) -> None:
    fetching.bring(act, entries, Step.WEIGHTS)
