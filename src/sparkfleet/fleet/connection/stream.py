"""Output of a remote command, passed on line by line: for what a person watches."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from paramiko import SSHException
from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.fleet.connection import remote, sudo
from sparkfleet.fleet.connection.printable import printable
from sparkfleet.fleet.connection.remote import CommandOutput, ConnectionLostError
from sparkfleet.probe import frame

SILENCE_S = 60.0
"""Seconds without a byte after which the connection counts as lost."""
MESSAGE_LIMIT = 4096
"""Characters of stderr that are kept."""


def stream(
    host: PyinfraHost,
    argv: Sequence[str],
    on_line: Callable[[str], None],
    stdin: str = "",
    silence_s: float = SILENCE_S,
) -> CommandOutput:
    """Run argv as root on a Spark; call ``on_line`` for each line of its stdout that is not empty.

    Return whether it succeeded, its last line and stderr. The program must end by
    itself when its output cannot be written.

    Raise ConnectionLostError when the connection breaks, SparkfleetError when sudo is refused.
    """
    nonce = frame.new_nonce()
    command = sudo.as_root(host, f"r {shlex.join(frame.wrap(nonce, argv))}", stdin)
    reader, last = frame.Reader(nonce), ""
    try:
        with _started(host, command, silence_s) as process:
            for raw in process.stdout:
                line = reader.feed(printable(raw.decode("utf-8", "replace").rstrip("\r\n")))
                if line:
                    last = line
                    on_line(line)
            errors = process.stderr.read().decode("utf-8", "replace")[-MESSAGE_LIMIT:]
    except (TimeoutError, OSError, EOFError, SSHException) as error:
        raise ConnectionLostError(str(error) or type(error).__name__) from error
    sudo.require_accepted(host, errors)
    if reader.code is None:
        if remote.connection_was_lost(host):
            raise ConnectionLostError("it was cut")
        return CommandOutput(False, "", printable(errors) or "no output of the program")
    return CommandOutput(reader.code == 0, last, printable(errors))


@dataclass(frozen=True)
class _Process:
    """Output of a command that runs."""

    stdout: IO[bytes]
    stderr: IO[bytes]


@contextmanager
def _started(host: PyinfraHost, command: sudo.RootCommand, silence_s: float) -> Iterator[_Process]:
    argv = ("sh", "-c", command.text)  # the login shell may be another one
    client = getattr(host.connector, "client", None)
    if client is None:  # not SSH: the Spark is this machine
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018
            process.stdin.write(command.stdin.encode())
            process.stdin.close()
            yield _Process(process.stdout, process.stderr)
        return
    transport = client.get_transport()
    if transport is None:
        raise EOFError("no connection")
    with transport.open_session(timeout=silence_s) as channel:
        channel.settimeout(silence_s)
        channel.exec_command(shlex.join(argv))
        channel.sendall(command.stdin.encode())
        channel.shutdown_write()
        yield _Process(channel.makefile("rb"), channel.makefile_stderr("rb"))
