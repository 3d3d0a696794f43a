"""SSH transport for pyinfra's connections (``ssh_paramiko_connect_kwargs`` in group_data)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paramiko import Transport


WAKE_S = 1.0
"""Timeout of the socket: how often an idle transport wakes up. paramiko's default of 0.1 s costs CPU per
host; data and a closed connection wake it at once.
"""


def without_delay(sock: socket.socket, **options: Any) -> Transport:
    """Return a transport without Nagle's algorithm.

    With delayed acknowledgements each command would wait about 45 ms, even on loopback. ``options``: keyword
    arguments of the ``transport_factory`` of ``SSHClient.connect``.
    """
    from paramiko import Transport  # noqa: PLC0415  (group_data is read by commands that never connect, too)

    if isinstance(sock, socket.socket) and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = Transport(sock, **options)
    sock.settimeout(WAKE_S)
    return transport
