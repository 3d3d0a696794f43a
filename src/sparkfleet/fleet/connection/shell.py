"""One shell command over pyinfra's connection, with a limit that holds."""

from __future__ import annotations

import gevent
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.connectors.util import CommandOutput

MARGIN_S = 5
"""Seconds after pyinfra's own limit, which ends the command in a better way where it works."""


def ask(
    host: PyinfraHost, command: str, *, timeout_s: int, stdin: str | None = None
) -> tuple[bool, CommandOutput]:
    """Return whether a command succeeded, and what it said. Raise TimeoutError when it takes too long.

    pyinfra limits the time that is waited for output. It does not limit the time until a command is taken:
    on a connection whose packets go nowhere that takes a quarter of an hour.
    """
    late = TimeoutError(f"no answer within {timeout_s} s")
    with gevent.Timeout(timeout_s + MARGIN_S, late):
        return host.run_shell_command(
            StringCommand(command),
            print_output=False,
            print_input=False,
            _stdin=[stdin] if stdin is not None else None,
            _timeout=timeout_s,
        )
