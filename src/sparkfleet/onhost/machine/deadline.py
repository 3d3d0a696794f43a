"""Sockets with one deadline for all their reads: a socket's own timeout restarts with every byte."""

from __future__ import annotations

import socket
import time
from typing import Any


class DeadlineSocket(socket.socket):
    """A TCP socket. Reads, also through ``makefile``, raise TimeoutError after the deadline."""

    deadline: float
    """Monotonic."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read into a buffer: what every read through ``makefile`` comes down to."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*args, **kwargs)


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
