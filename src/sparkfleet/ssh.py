"""SSH transport for pyinfra's connections (``ssh_paramiko_connect_kwargs`` in group_data)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paramiko import Transport


WAKE_S = 1.0
"""Seconds after which a connection that waits looks whether it is still wanted. paramiko's own 0.1 s is CPU
that grows with the hosts and with their distance; an answer, an end or a close is noticed at once either way.
"""


def without_delay(sock: socket.socket, **options: Any) -> Transport:
    """Return a transport that sends at once.

    paramiko leaves Nagle's algorithm on: with delayed acknowledgements each command waits some 45 ms, also on
    loopback. The keyword arguments are those that ``SSHClient.connect`` gives its factory.
    """
    from paramiko import Transport  # noqa: PLC0415  (group_data is read by commands that never connect, too)

    if isinstance(sock, socket.socket) and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = Transport(sock, **options)
    sock.settimeout(WAKE_S)
    return transport
