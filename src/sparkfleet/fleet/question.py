"""One question to a service, sent from its Spark; the answer comes over the connection as it is generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract import codec
from sparkfleet.contract.ask import AnswerPart, AskRequest
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.stream import stream

MARGIN_S = 30.0
"""Seconds beside those of the answer until the connection counts as lost."""


def ask(host: PyinfraHost, request: AskRequest, show: Callable[[AnswerPart], None]) -> AnswerPart:
    """Call ``show`` for each part of the answer; return its end. Raise SparkfleetError without one."""
    end: AnswerPart | None = None

    def on_line(text: str) -> None:
        nonlocal end
        try:
            part = codec.loads(AnswerPart, text)
        except ContractError:  # why there is no answer: the result has it
            return
        if part.ended:
            end = part
        else:
            show(part)

    argv = (*remote.PROGRAM, "ask")
    ended = stream(host, argv, on_line, codec.dumps(request), request.timeout_s + MARGIN_S)
    if end is None or not ended.ok:
        found = remote.programs_outdated(host, ended) or remote.refusal(ended, host.name, "no answer")
        raise SparkfleetError(replace(found, hint=found.hint.replace(" HOST", f" {host.name}")))
    return end
