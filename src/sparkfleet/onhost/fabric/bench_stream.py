"""A plain TCP stream between two Sparks, for links where no better program is on both."""

from __future__ import annotations

import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

CHUNK = 1 << 20
WAIT_S = 120.0
"""Seconds that a listener waits for its sender."""


def sink(own: str, peer: str, port: int, streams: int) -> None:
    """Take what the peer sends over so many streams; then tell it on each how many bytes came."""
    with socket.create_server((own, port), backlog=streams) as server, ThreadPoolExecutor(streams) as pool:
        server.settimeout(WAIT_S)
        taken: list[Future[None]] = []
        while len(taken) < streams:
            connection, address = server.accept()
            if address[0] == peer:
                taken.append(pool.submit(_take, connection))
            else:
                connection.close()
        for one in taken:
            one.result()


def _take(connection: socket.socket) -> None:
    count, buffer = 0, bytearray(CHUNK)
    with connection:
        while got := connection.recv_into(buffer):
            count += got
        connection.sendall(str(count).encode())


def source(own: str, peer: str, port: int, streams: int, seconds: float) -> float:
    """Send for so many seconds; return the Gb/s that arrived. Raise OSError when a stream breaks off."""
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
        said = b""
        while got := connection.recv(64):
            said += got
    if not said:
        raise ConnectionError("the other end hung up")
    return int(said)
