"""The sender of a copy: serves the declared files to the declared peers until the copy has ended.

It listens on an ephemeral port of the addresses that the peers use. Connections from other addresses, or
without the copy's key, are closed. It exits when the receiver has everything, or after some time without
connections.
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

from sparkfleet.contract.transfer import SentFile
from sparkfleet.onhost.artifacts.copy import wire

IDLE_S = 60.0
"""Seconds without any connection after which a sender exits: its receiver is gone."""
SILENT_S = 60.0
"""Seconds without a byte accepted after which a peer's connection is closed."""
MOST_CONNECTIONS = 64


@dataclass
class Sender:
    """One copy's server. ``listen`` first, then ``serve``."""

    files: tuple[SentFile, ...]
    """A file whose size has changed is not served."""
    peers: frozenset[str]
    transfer_key: str = field(repr=False)
    idle_s: float = IDLE_S
    now: Callable[[], float] = time.monotonic
    _listening: list[socket.socket] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connections: int = 0
    _last: float = 0.0

    def listen(self, addresses: Sequence[str]) -> list[tuple[str, int]]:
        """Listen on the addresses that this machine has; return these with their ports."""
        for address in addresses:
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                listening.bind((address, 0))
            except OSError:
                listening.close()  # a link that is down has no address; the peers use another one
                continue
            listening.listen(MOST_CONNECTIONS)
            self._listening.append(listening)
        return [listening.getsockname()[:2] for listening in self._listening]

    def serve(self) -> None:
        """Serve until the copy has ended or no peer has connected for ``idle_s``."""
        self._last = self.now()
        with selectors.DefaultSelector() as ready:
            for listening in self._listening:
                listening.setblocking(False)
                ready.register(listening, selectors.EVENT_READ)
            while not self._over.is_set() and not self._idle():
                for key, _ in ready.select(timeout=0.2):
                    self._accept(key.fileobj)  # type: ignore[arg-type]
        for listening in self._listening:
            listening.close()

    def _idle(self) -> bool:
        with self._lock:
            return not self._connections and self.now() - self._last > self.idle_s

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, caller = listening.accept()
        except OSError:
            return
        with self._lock:
            allowed = caller[0] in self.peers and self._connections < MOST_CONNECTIONS
            self._connections += allowed
        if not allowed:
            connection.close()
            return
        threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(SILENT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if wire.authenticate(connection, self.transfer_key):
                    self._serve_requests(connection)
        except OSError:
            return  # the receiver may reconnect
        finally:
            with self._lock:
                self._connections -= 1
                self._last = self.now()

    def _serve_requests(self, connection: socket.socket) -> None:
        while True:
            number, offset = wire.REQUEST.unpack(wire.read_exactly(connection, wire.REQUEST.size))
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
        expected = self.files[number]
        try:
            file = open(expected.path, "rb", buffering=0)  # noqa: SIM115  (the caller closes it)
        except OSError:
            return None
        info = os.fstat(file.fileno())
        if stat.S_ISREG(info.st_mode) and info.st_size == expected.size:
            return file
        file.close()
        return None

    def drop_cache(self) -> None:
        """Drop the files from the page cache, which shares memory with the GPU."""
        for number in range(len(self.files)):
            file = self._open(number)
            if file is not None:
                with file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
