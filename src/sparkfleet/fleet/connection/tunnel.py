"""SSH port forwarding: a port of a Spark's loopback that leads to this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from paramiko import Channel, SSHException
from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError

HOME = "127.0.0.1"
CHUNK = 1 << 18


@contextmanager
def forwarded(host: PyinfraHost, port: int) -> Iterator[int]:
    """Have a port of the Spark's loopback lead to this machine's ``port``; the Spark may be this machine.

    Raise SparkfleetError where the Spark's SSH server does not allow it.
    """
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client is not None else None
    if transport is None:
        yield port  # not SSH: it is here
        return

    def arrived(channel: Channel, _: tuple[str, int], __: tuple[str, int]) -> None:
        threading.Thread(target=_join, args=(channel, port), daemon=True).start()

    try:
        there = transport.request_port_forward(HOME, 0, arrived)
    except SSHException as error:
        raise SparkfleetError(
            Diagnostic(
                host.name,
                f"its SSH server refuses port forwarding: {error}",
                "AllowTcpForwarding yes (the default), which sending from an offline mirror needs",
                f"on {host.name}: sudo grep -ri forwarding /etc/ssh/sshd_config*",
                code="ssh-forwarding-denied",
            )
        ) from None
    try:
        yield there
    finally:
        with suppress(SSHException, EOFError, OSError):
            transport.cancel_port_forward(HOME, there)


def _join(channel: Channel, port: int) -> None:
    """Pass bytes both ways until one side has ended."""
    try:
        connection = socket.create_connection((HOME, port), 10)
    except OSError:
        channel.close()
        return
    connection.settimeout(None)
    upward = threading.Thread(target=_pump, args=(channel, connection), daemon=True)
    upward.start()
    _pump(connection, channel)
    upward.join()
    channel.close()
    connection.close()


def _pump(source: socket.socket | Channel, sink: socket.socket | Channel) -> None:
    with suppress(OSError, EOFError, SSHException):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with suppress(OSError, EOFError, SSHException):
        sink.shutdown(socket.SHUT_WR)
