"""The protocol of a copy: a proof of the key, then byte ranges of numbered files.

    sender    32 random bytes, new for each connection
    receiver  HMAC-SHA256 of these under the copy's key; the key itself is never transmitted
    receiver  number of a file and offset, two unsigned 64-bit integers; repeated for each range
    sender    count of the bytes from there to the file's end, and these bytes

There are no other requests. Received data is trusted by its hash alone, so the sender proves nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct

NONCE = 32
REQUEST = struct.Struct(">QQ")
LENGTH = struct.Struct(">Q")
OVER = (1 << 64) - 1
"""As a file's number: the receiver has everything, the sender may exit. As a count: there is no such file."""


class DisconnectedError(OSError):
    """The peer closed the connection within a message."""


def proof(key: str, nonce: bytes) -> bytes:
    """Return the proof that the peer knows the key."""
    return hmac.new(key.encode(), nonce, hashlib.sha256).digest()


def authenticate(connection: socket.socket, key: str) -> bool:
    """Request the proof from a peer; return whether it was right."""
    nonce = os.urandom(NONCE)
    connection.sendall(nonce)
    return hmac.compare_digest(read_exactly(connection, NONCE), proof(key, nonce))


def send_proof(connection: socket.socket, key: str) -> None:
    """Send the proof that the sender requests."""
    connection.sendall(proof(key, read_exactly(connection, NONCE)))


def request(connection: socket.socket, number: int, offset: int) -> int:
    """Request a file from ``offset`` on; return how many bytes follow, -1 if there is no such file."""
    connection.sendall(REQUEST.pack(number, offset))
    (count,) = LENGTH.unpack(read_exactly(connection, LENGTH.size))
    return -1 if count == OVER else int(count)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Return the next ``count`` bytes, or raise DisconnectedError."""
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise DisconnectedError("the peer closed the connection")
        parts += part
    return bytes(parts)


def set_receive_timeout(connection: socket.socket, seconds: int) -> None:
    """Make a blocking ``recv`` fail with OSError after ``seconds`` without a byte.

    ``settimeout`` would make the socket non-blocking internally, and MSG_WAITALL ineffective.
    """
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, 0))
