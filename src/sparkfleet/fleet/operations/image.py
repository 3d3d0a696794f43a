"""pyinfra operation: fetch the images of the declared services by digest, while the old ones serve."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import FunctionCommand
from pyinfra.context import host, state

from sparkfleet.fleet.run import executor
from sparkfleet.fleet.staging import downloads
from sparkfleet.plan.model import Step


@executor.own_operation
def fetch() -> Generator[FunctionCommand, None, None]:
    """Pull, build or copy missing images."""
    yield from executor.commands(state, host, Step.IMAGE, downloads.fetch_all)
