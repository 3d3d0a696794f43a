"""Operation: the images of the declared services are on the Spark, by digest, while the old ones serve."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from sparkfleet.fleet.run import executor
from sparkfleet.fleet.staging import downloads
from sparkfleet.plan.model import Entry, Step


@operation()
def present() -> Generator[FunctionCommand, None, None]:
    """Pull what is missing."""
    yield from executor.commands(state, host, Step.IMAGE, _pull)


def _pull(act: executor.Acting, entries: tuple[Entry, ...]) -> None:
    downloads.bring(act, entries, Step.IMAGE)
