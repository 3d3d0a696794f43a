"""Operation: each file of the declared models is on the Spark at its locked commit, while the old models
serve.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from sparkfleet.fleet.run import executor
from sparkfleet.fleet.staging import downloads
from sparkfleet.plan.model import Entry, Step


@operation()
def complete() -> Generator[FunctionCommand, None, None]:
    """Download what is missing or not whole, or copy it from a Spark that has it."""
    yield from executor.commands(state, host, Step.WEIGHTS, _fetch)


def _fetch(act: executor.Acting, entries: tuple[Entry, ...]) -> None:
    downloads.bring(act, entries, Step.WEIGHTS)
