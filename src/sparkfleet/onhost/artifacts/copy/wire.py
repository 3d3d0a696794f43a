"""What two Sparks say to each other during a copy: a proof of the key, then byte ranges of numbered files.

    sender    32 bytes, drawn anew for each connection
    receiver  HMAC-SHA256 of those under the copy's key: the key itself never crosses the wire
    receiver  number of a file and offset, two unsigned 64-bit integers, as often as it likes
    sender    count of the bytes from there to the file's end, and these bytes

Nothing else can be asked. What arrives is believed by its hash alone, so that the sender proves nothing.
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
"""As a file's number: everything is there, the sender may end. As a count: there is no such file."""


class CutError(OSError):
    """The other side hung up in the middle."""


def proof(key: str, nonce: bytes) -> bytes:
    """Return what shows that one knows the key."""
    return hmac.new(key.encode(), nonce, hashlib.sha256).digest()


def let_in(connection: socket.socket, key: str) -> bool:
    """Ask a caller for the proof; tell whether it was right."""
    nonce = os.urandom(NONCE)
    connection.sendall(nonce)
    return hmac.compare_digest(read_exactly(connection, NONCE), proof(key, nonce))


def introduce(connection: socket.socket, key: str) -> None:
    """Give the proof that a sender asks for."""
    connection.sendall(proof(key, read_exactly(connection, NONCE)))


def ask(connection: socket.socket, number: int, offset: int) -> int:
    """Ask for a file from ``offset`` on; return how many bytes follow, -1 when there is no such file."""
    connection.sendall(REQUEST.pack(number, offset))
    (count,) = LENGTH.unpack(read_exactly(connection, LENGTH.size))
    return -1 if count == OVER else int(count)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Return the next ``count`` bytes, or raise CutError."""
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise CutError("the other side hung up")
        parts += part
    return bytes(parts)


def wait_at_most(connection: socket.socket, seconds: int) -> None:
    """Have a blocking ``recv`` give up (OSError) after so long without a byte.

    Not ``settimeout``: that makes the socket non-blocking inside, and MSG_WAITALL without meaning.
    """
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, 0))
