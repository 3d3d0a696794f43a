"""A plain TCP stream between two Sparks, if they have no better program in common."""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

CHUNK = 1 << 20
WAIT_S = 120.0
"""Seconds that a listener waits for its sender."""


def sink(own: str, peer: str, port: int, streams: int) -> None:
    """Receive what the peer sends over ``streams`` streams; report the received bytes on each."""
    with socket.create_server((own, port), backlog=streams) as server, ThreadPoolExecutor(streams) as pool:
        server.settimeout(WAIT_S)
        receivers: list[Future[None]] = []
        while len(receivers) < streams:
            connection, address = server.accept()
            if address[0] == peer:
                receivers.append(pool.submit(_receive, connection))
            else:
                connection.close()
        for one in receivers:
            one.result()


def _receive(connection: socket.socket) -> None:
    count, buffer = 0, bytearray(CHUNK)
    with connection:
        while got := connection.recv_into(buffer):
            count += got
        connection.sendall(str(count).encode())


def source(own: str, peer: str, port: int, streams: int, seconds: float) -> float:
    """Send for ``seconds``; return the Gb/s that arrived. Raise OSError when a stream breaks."""
    connections = [socket.create_connection((peer, port), 10, (own, 0)) for _ in range(streams)]
    began = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        arrived = list(pool.map(lambda one: _send(one, began + seconds), connections))
    return sum(arrived) * 8 / (time.monotonic() - began) / 1e9


def _send(connection: socket.socket, end: float) -> int:
    chunk = bytes(CHUNK)
    with connection:
        connection.settimeout(WAIT_S)
        while time.monotonic() < end:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while got := connection.recv(64):
            received += got
    if not received:
        raise ConnectionError("the peer closed the connection")
    return int(received)
