"""The log of a service, line by line over the connection; followed beyond the end of a connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.logs import MAX_LINES, LogLine
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.remote import CommandOutput, ConnectionLostError
from sparkfleet.fleet.connection.stream import stream

LEAST_AGE_S = 1.0
"""Seconds that are read again after a lost connection, at least: a line may be repeated, none is lost."""
Show = Callable[[LogLine], None]


@dataclass(frozen=True)
class Query:
    """What is requested of a log."""

    source: str
    service: str = ""
    """"": the only one of the Spark."""
    tail: int = MAX_LINES
    age_s: float = 0.0
    """Seconds that a line is old, at most; 0: any."""
    follow: bool = False

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the command of the programs on the Spark."""
        options = ("--source", self.source, "--tail", str(self.tail), "--age", f"{self.age_s:.3f}")
        return (*remote.PROGRAM, "logs", *options, *(["--follow"] if self.follow else []), self.service)


def print_log(host: PyinfraHost, query: Query, show: Show, report: Callable[[str], None]) -> None:
    """Call ``show`` for each line of a log. Raise SparkfleetError when there is none."""
    last = time.monotonic()

    def on_line(text: str) -> None:
        nonlocal last
        last = time.monotonic()
        try:
            line = codec.loads(LogLine, text)
        except ContractError:  # why there is no log: the result has it
            return
        show(line)

    while True:
        try:
            ended = stream(host, query.argv, on_line)
        except ConnectionLostError as error:
            if not query.follow:
                raise
            report(f"connection lost ({error}); reconnecting")
            remote.reconnect(host)
            query = replace(query, tail=MAX_LINES, age_s=max(LEAST_AGE_S, time.monotonic() - last))
            continue
        if not ended.ok:
            raise SparkfleetError(_no_log(host, ended))
        return


def _no_log(host: PyinfraHost, ended: CommandOutput) -> Diagnostic:
    found = remote.programs_outdated(host, ended) or remote.refusal(ended, host.name, "no log")
    return replace(found, hint=found.hint.replace(" HOST", f" {host.name}"))
