"""Sockets with one deadline for all their reads: a socket's own timeout restarts with every byte."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any


class DeadlineSocket(socket.socket):
    """A TCP socket. Reads, also through ``makefile``, raise TimeoutError after the deadline."""

    deadline: float
    """Monotonic."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read into a buffer: what every read through ``makefile`` comes down to."""
        self.settimeout(_left(self.deadline))
        return super().recv_into(*args, **kwargs)


class _TlsSocket(ssl.SSLSocket):
    deadline: float

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left(self.deadline))
        return super().recv_into(*args, **kwargs)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def with_tls(connection: DeadlineSocket) -> ssl.SSLSocket:
    """Return the connection after a TLS handshake, with the same deadline; no certificate is verified.

    The argument must not be used any more. Raise OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = _TlsSocket
    connection.settimeout(_left(connection.deadline))  # for the whole handshake
    wrapped = context.wrap_socket(connection)
    assert isinstance(wrapped, _TlsSocket)  # noqa: S101  (the context's class)
    wrapped.deadline = connection.deadline
    return wrapped


def connected(address: str, port: int, timeout_s: float) -> DeadlineSocket:
    """Return a connection that may last ``timeout_s`` in all. Raise OSError."""
    deadline = time.monotonic() + timeout_s
    return with_deadline(socket.create_connection((address, port), timeout_s), deadline)


def with_deadline(connection: socket.socket, deadline: float) -> DeadlineSocket:
    """Return the connection with a deadline; the argument must not be used any more."""
    timeout = max(0.001, deadline - time.monotonic())
    bounded = DeadlineSocket(fileno=connection.detach())
    bounded.settimeout(timeout)  # for writes: ``sendall`` counts it as a whole
    bounded.deadline = deadline
    return bounded
