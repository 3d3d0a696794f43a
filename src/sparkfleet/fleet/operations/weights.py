"""pyinfra operation: fetch the files of the declared models at their locked commits."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import FunctionCommand
from pyinfra.context import host, state

from sparkfleet.fleet.run import executor
from sparkfleet.fleet.staging import downloads
from sparkfleet.plan.model import Step


@executor.own_operation
def fetch() -> Generator[FunctionCommand, None, None]:
    """Download missing or incomplete files, or copy them from a host that has them."""
    yield from executor.commands(state, host, Step.WEIGHTS, downloads.fetch_all)
