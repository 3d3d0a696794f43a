"""Look at a Spark over pyinfra's connection: one remote command, every failure turned into a Problem."""

from __future__ import annotations

import time
from dataclasses import dataclass

from paramiko import SSHException
from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.errors import Problem, SparkfleetError, together
from sparkfleet.facts import sudo
from sparkfleet.facts.shell import ask
from sparkfleet.probe.command import ProbeRequest, find_answer, has_no_python, probe_command
from sparkfleet.probe.observed import Observed, read_answer
from sparkfleet.probe.preflight import PreflightSeen, Unread, read_preflight

LOOK_TIMEOUT_S = 60
"""Seconds that a Spark under load may take to answer; a plan waits no longer."""


def look(host: PyinfraHost, request: ProbeRequest) -> Observed | Problem:
    """Return what a Spark looks like now, or why that cannot be known. Changes nothing there."""
    answer = _ask(host, request)
    return answer if isinstance(answer, Problem) else read_answer(host.name, answer)


@dataclass(frozen=True)
class Preflown:
    """What a preflight saw, and the Spark's clock against this machine's."""

    seen: PreflightSeen | Problem
    skew_s: float = 0.0
    """Seconds that the Spark is ahead, known to ``unsure_s``."""
    unsure_s: float = 0.0


def preflight(host: PyinfraHost, request: ProbeRequest) -> Preflown:
    """Return what a preflight sees of a Spark. Changes nothing there."""
    begin = time.time()
    answer = _ask(host, request)
    if isinstance(answer, Problem):
        return Preflown(answer)
    end = time.time()
    seen = read_preflight(host.name, answer)
    if isinstance(seen, Problem) or isinstance(seen.clock, Unread):
        return Preflown(seen)
    # The clock is read at the end of the look: what is left of the time was spent on the way.
    unsure = max(0.0, end - begin - seen.clock.took_s) / 2
    return Preflown(seen, seen.clock.now - (end - unsure), unsure)


def _ask(host: PyinfraHost, request: ProbeRequest) -> str | Problem:
    """Return the answer of the program that looks, as text."""
    try:
        if sudo.password(host):
            command = probe_command(request, password=True)
            _, output = sudo.ask_as_root(host, command, timeout_s=LOOK_TIMEOUT_S)
        else:
            _, output = ask(host, probe_command(request), timeout_s=LOOK_TIMEOUT_S)
    except SparkfleetError as error:
        problem = together(*error.problems)
        assert problem is not None  # noqa: S101  (an error has one at least)
        return problem
    except (TimeoutError, OSError, EOFError, SSHException) as error:
        return Problem(
            host.name,
            f"the connection was lost while looking: {error or type(error).__name__}",
            "an answer within a minute",
            f"ssh {host.name} true; then run again",
        )
    lines = output.stdout_lines
    answer = find_answer(lines)
    if answer is not None:
        return answer
    if has_no_python(lines):
        return Problem(
            host.name, "python3 is not there", "python3 on the Spark", "sudo apt-get install python3"
        )
    said = next((line for line in (*output.stderr_lines, *lines) if line.strip()), "nothing")
    return Problem(
        host.name,
        f"the login gave no answer to the probe, but: {said.strip()[:200]}",
        "a login shell that runs commands",
        f"ssh {host.name} python3 --version",
    )
