"""SSH port forwarding from a Spark's loopback to this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from paramiko import Channel, SSHException
from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 18


@contextmanager
def forward_port(host: PyinfraHost, port: int) -> Iterator[int]:
    """Forward a port of the Spark's loopback to ``port`` of this machine; yield the Spark's port.

    Raise SparkfleetError if the Spark's SSH server does not allow it.
    """
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client is not None else None
    if transport is None:
        yield port  # not SSH: the Spark is this machine
        return

    def accept(channel: Channel, _: tuple[str, int], __: tuple[str, int]) -> None:
        threading.Thread(target=_join, args=(channel, port), daemon=True).start()

    try:
        remote_port = transport.request_port_forward(LOOPBACK, 0, accept)
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
        yield remote_port
    finally:
        with suppress(SSHException, EOFError, OSError):
            transport.cancel_port_forward(LOOPBACK, remote_port)


def _join(channel: Channel, port: int) -> None:
    """Copy bytes in both directions until one side closes."""
    try:
        connection = socket.create_connection((LOOPBACK, port), 10)
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
