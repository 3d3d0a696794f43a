"""One shell command over pyinfra's connection, with a time limit that also covers a dead connection."""

from __future__ import annotations

import gevent
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.connectors.util import CommandOutput, OutputLine

from sparkfleet.fleet.connection.printable import printable

MARGIN_S = 5
"""Seconds after pyinfra's own time limit, which ends the command more cleanly where it works."""


def run_shell(
    host: PyinfraHost, command: str, *, timeout_s: int, stdin: str | None = None
) -> tuple[bool, CommandOutput]:
    """Return whether a command succeeded, and its output without control characters.

    Raise TimeoutError when it takes too long.

    pyinfra limits the time without output. It does not limit the time until the server accepts the command:
    on a dead connection that takes a quarter of an hour.
    """
    late = TimeoutError(f"no answer within {timeout_s} s")
    with gevent.Timeout(timeout_s + MARGIN_S, late):
        ok, output = host.run_shell_command(
            StringCommand(command),
            print_output=False,
            print_input=False,
            _stdin=[stdin] if stdin is not None else None,
            _timeout=timeout_s,
        )
    lines = [OutputLine("stdout", printable(line)) for line in output.stdout_lines]
    return ok, CommandOutput(
        [*lines, *(OutputLine("stderr", printable(line)) for line in output.stderr_lines)]
    )


def printed_instead(output: CommandOutput) -> str:
    """Return what a login printed where the output of a program was expected, as text."""
    lines = (*output.stderr_lines, *output.stdout_lines)
    line = next((line for line in lines if line.strip() and not line.startswith("<<")), "nothing")
    return f"the login printed: {line.strip()[:200]}"
