"""The sending side of a copy: serves the named files to the named peers, and ends with the copy.

It listens on an ephemeral port of the addresses that the peers use, for the time of one copy. Whoever calls
from another address, or does not know the copy's key, is hung up on. It ends when the receiver says that
it has everything, and when nobody was connected for a while.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from sparkfleet.onhost.artifacts.copy import wire

ALONE_S = 60.0
"""Seconds without any connection after which a sender ends: its receiver is gone."""
SILENT_S = 60.0
"""Seconds that a peer may take no byte before its connection is closed."""
MOST_CONNECTIONS = 64


@dataclass(frozen=True)
class Shown:
    """A file that may be asked for by its number."""

    path: str
    size: int
    """Bytes that it must have: a file of another size is not served."""


@dataclass
class Sender:
    """One copy's server. ``listen`` first, then ``serve``."""

    files: tuple[Shown, ...]
    peers: frozenset[str]
    transfer_key: str = field(repr=False)
    alone_s: float = ALONE_S
    now: Callable[[], float] = time.monotonic
    _listening: list[socket.socket] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connections: int = 0
    _last: float = 0.0

    def listen(self, addresses: Sequence[str]) -> list[tuple[str, int]]:
        """Listen on those of the addresses that this machine has; return them with their ports."""
        for address in addresses:
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                listening.bind((address, 0))
            except OSError:
                listening.close()  # a link that is down has no address; the peers have the others
                continue
            listening.listen(MOST_CONNECTIONS)
            self._listening.append(listening)
        return [listening.getsockname()[:2] for listening in self._listening]

    def serve(self) -> None:
        """Serve until the copy is over or nobody comes any more; nothing listens then."""
        self._last = self.now()
        with selectors.DefaultSelector() as ready:
            for listening in self._listening:
                listening.setblocking(False)
                ready.register(listening, selectors.EVENT_READ)
            while not self._over.is_set() and not self._forgotten():
                for key, _ in ready.select(timeout=0.2):
                    self._accept(key.fileobj)  # type: ignore[arg-type]
        for listening in self._listening:
            listening.close()

    def _forgotten(self) -> bool:
        with self._lock:
            return not self._connections and self.now() - self._last > self.alone_s

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, caller = listening.accept()
        except OSError:
            return
        with self._lock:
            welcome = caller[0] in self.peers and self._connections < MOST_CONNECTIONS
            self._connections += welcome
        if not welcome:
            connection.close()
            return
        threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(SILENT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if wire.let_in(connection, self.transfer_key):
                    self._answer(connection)
        except OSError:
            return  # the receiver calls again, or does not
        finally:
            with self._lock:
                self._connections -= 1
                self._last = self.now()

    def _answer(self, connection: socket.socket) -> None:
        while True:
            asked = wire.read_exactly(connection, wire.REQUEST.size)
            number, offset = wire.REQUEST.unpack(asked)
            if number == wire.OVER:
                self._over.set()
                return
            file = self._open(number)
            if file is None:
                connection.sendall(wire.LENGTH.pack(wire.OVER))
                continue
            with file:
                count = max(0, self.files[number].size - offset)
                connection.sendall(wire.LENGTH.pack(count))
                if count:
                    connection.sendfile(file, offset, count)

    def _open(self, number: int) -> BinaryIO | None:
        if number >= len(self.files):
            return None
        shown = self.files[number]
        try:
            file = open(shown.path, "rb", buffering=0)  # noqa: SIM115  (the caller closes it)
        except OSError:
            return None
        seen = os.fstat(file.fileno())
        if stat.S_ISREG(seen.st_mode) and seen.st_size == shown.size:
            return file
        file.close()
        return None

    def give_back_cache(self) -> None:
        """Drop what was read from the page cache: on a Spark it is the GPU's memory, too."""
        for number in range(len(self.files)):
            file = self._open(number)
            if file is not None:
                with file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
