"""Look at a Spark over pyinfra's connection: one remote command, every failure turned into a Problem."""

from __future__ import annotations

from paramiko import SSHException
from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.errors import Problem
from sparkfleet.facts.shell import ask
from sparkfleet.probe.command import ProbeRequest, find_answer, has_no_python, probe_command
from sparkfleet.probe.observed import Observed, read_answer

LOOK_TIMEOUT_S = 60
"""Seconds that a Spark under load may take to answer; a plan waits no longer."""


def look(host: PyinfraHost, request: ProbeRequest) -> Observed | Problem:
    """Return what a Spark looks like now, or why that cannot be known. Changes nothing there."""
    try:
        _, output = ask(host, probe_command(request), timeout_s=LOOK_TIMEOUT_S)
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
        return read_answer(host.name, answer)
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
