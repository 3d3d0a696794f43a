"""The receiver of a copy: several files in parallel from one sender, over all links to it."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sparkfleet.contract.state import VerifiedFile
from sparkfleet.contract.transfer import FileToReceive
from sparkfleet.onhost.artifacts import pace
from sparkfleet.onhost.artifacts.copy import direct, wire
from sparkfleet.onhost.artifacts.copy.file import BUFFER, IncomingFile, find_complete
from sparkfleet.onhost.artifacts.errors import StageError

CONNECT_S = 5.0
SILENT_S = 20
"""Seconds without a byte after which a connection counts as broken."""
TRIES = 6
"""Consecutive times that a connection may break without a byte received."""
PAUSE_S = 1.0
MOST_STREAMS = 16
FEW_STREAMS = 4


@dataclass(frozen=True, order=True)
class Listener:
    """An address of the sender. Streams use all listeners of the smallest distance that answer."""

    distance: int
    """0: the fabric, 1: the LAN."""
    address: str
    port: int


def streams(count: int, cores: int | None = None) -> int:
    """Return how many files are received in parallel: enough to hash on every core during writes."""
    return max(1, min(count, MOST_STREAMS, max(FEW_STREAMS, cores or os.cpu_count() or FEW_STREAMS)))


class _CancelledError(Exception):
    """Another file failed."""


@dataclass
class Receiver:
    """One copy from one sender. Its threads take files from one queue; one lock protects what they share."""

    sender: str
    """Name, for people."""
    listeners: Sequence[Listener]
    transfer_key: str = field(repr=False)
    files: Sequence[FileToReceive]
    pause_s: float = PAUSE_S
    have: int = 0
    """Bytes on this host, those of earlier attempts included."""
    fetched: int = 0
    """Bytes that were transferred now."""
    received: dict[str, VerifiedFile] = field(default_factory=dict)
    """Path of each complete file with the right hash."""
    _queue: deque[FileToReceive] = field(default_factory=deque)
    _diagnostic: StageError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _failed: set[Listener] = field(default_factory=set)
    _waiting: int = 0
    """Threads that wait for the sender: the others hash what is here already."""

    def run(self, on_progress: Callable[[], None], every_s: float = 1.0) -> None:
        """Receive every file, calling ``on_progress`` every ``every_s``. Raise StageError if one fails."""
        self._queue = deque(sorted(self.files, key=lambda file: -file.size))
        count = streams(len(self.files))
        threads = [threading.Thread(target=self._work, args=(at,), daemon=True) for at in range(count)]
        for thread in threads:
            thread.start()
        judged = pace.Pace(self.sender, f"{len(self.files)} files")
        for thread in threads:
            while thread.is_alive():
                thread.join(every_s)
                on_progress()
                self._judge(judged, sum(one.is_alive() for one in threads))
        if self._diagnostic is not None:
            raise self._diagnostic
        self._release_sender()

    def _judge(self, judged: pace.Pace, threads: int) -> None:
        """End the copy when the sender is too slow; while a thread hashes, it is not to blame."""
        with self._lock:
            if self._waiting < threads:
                judged.restart(self.fetched)
            try:
                judged.check(self.fetched)
            except pace.TooSlowError as error:
                found = pace.too_slow(self.sender, error, self.sender, source_failed=True)
                self._diagnostic = self._diagnostic or found
                self._ended.set()

    def _work(self, at: int) -> None:
        """Receive files from the queue over one connection, which is reopened when it breaks."""
        link = _Link(self, at)
        try:
            while not self._ended.is_set():
                with self._lock:
                    if not self._queue:
                        return
                    file = self._queue.popleft()
                self._receive(file, link)
        except _CancelledError:
            return
        except Exception as error:
            diagnostic = (
                error if isinstance(error, StageError) else StageError(self.sender, repr(error), "report it")
            )
            with self._lock:
                self._diagnostic = self._diagnostic or diagnostic
            self._ended.set()
        finally:
            link.close()

    def _receive(self, file: FileToReceive, link: _Link) -> None:
        found = find_complete(file)
        if found is not None:  # a blob whose link in the snapshot was lost
            self._count(file.size)
        else:
            incoming = IncomingFile(file)
            self._count(incoming.offset)
            try:
                found = self._complete(incoming, link)
            finally:
                incoming.close()
        with self._lock:
            self.received[file.target] = found

    def _complete(self, incoming: IncomingFile, link: _Link) -> VerifiedFile:
        file = incoming.file
        self._fetch(incoming, link)
        result = incoming.finish()
        if result is None:
            self._count(-file.size)
            self._fetch(incoming, link)  # a disk or a link may fail once
            result = incoming.finish()
        if result is None:
            raise StageError(
                file.name,
                f"the copy of {self.sender} does not match the lock file; it was discarded",
                f"verify {self.sender} (deploys/verify.py), then run again",
                source_failed=True,
            )
        return result

    def _fetch(self, incoming: IncomingFile, link: _Link) -> None:
        """Fetch the rest of a file. A connection may break any number of times, as long as bytes arrive."""
        broken = 0
        self._wait_for_sender(1)
        try:
            while True:
                before = incoming.offset
                try:
                    self._fetch_once(incoming, link.connected())
                except OSError as error:
                    link.close()
                    broken = 0 if incoming.offset > before else broken + 1
                    if broken >= TRIES:
                        raise self._broken(error) from error
                    if self._ended.wait(self.pause_s):
                        raise _CancelledError from None
                else:
                    return
        finally:
            self._wait_for_sender(-1)

    def _wait_for_sender(self, count: int) -> None:
        with self._lock:
            self._waiting += count

    def _fetch_once(self, incoming: IncomingFile, connection: socket.socket) -> None:
        file = incoming.file
        count = wire.request(connection, file.number, incoming.offset)
        if count != file.size - incoming.offset:
            raise StageError(
                file.name,
                f"{self.sender} no longer has it as locked",
                "run again; the new plan chooses another source",
                source_failed=True,
            )
        buffer = direct.buffer(BUFFER)
        while incoming.offset < file.size:
            room = BUFFER - incoming.offset % direct.BLOCK  # after an interruption: align to a block again
            got = connection.recv_into(buffer, min(room, file.size - incoming.offset), socket.MSG_WAITALL)
            if not got:
                raise wire.DisconnectedError("the sender closed the connection")
            if self._ended.is_set():
                raise _CancelledError
            incoming.append(buffer[:got])
            self._count(got, got)

    def _count(self, have: int, fetched: int = 0) -> None:
        with self._lock:
            self.have += have
            self.fetched += fetched

    def order(self, at: int) -> list[Listener]:
        """Return the listeners to try, in order: near ones without failure first, rotated by the stream."""
        with self._lock:
            good = [one for one in self.listeners if one not in self._failed]
            bad = [one for one in self.listeners if one in self._failed]
        near = [one for one in good if one.distance == min(good).distance]
        turn = at % len(near) if near else 0
        return [*near[turn:], *near[:turn], *sorted(set(good) - set(near)), *bad]

    def avoid(self, listener: Listener) -> None:
        """Connect there only when no other listener answers."""
        with self._lock:
            self._failed.add(listener)

    def _release_sender(self) -> None:
        """Notify the sender that it may exit; if that fails, it exits after a timeout."""
        link = _Link(self, 0)
        try:
            link.connected().sendall(wire.REQUEST.pack(wire.OVER, 0))
        except OSError:
            return
        finally:
            link.close()

    def _broken(self, error: BaseException) -> StageError:
        places = ", ".join(f"{one.address}:{one.port}" for one in self.listeners)
        return StageError(
            self.sender,
            f"the connection broke ({places}): {error or type(error).__name__}",
            f"check the link and the firewall of {self.sender}, then run again; received data is kept",
            source_failed=True,
        )


class _Link:
    """A stream's connection to the sender, opened on demand."""

    def __init__(self, receiver: Receiver, at: int) -> None:
        self._receiver, self._at = receiver, at
        self._connection: socket.socket | None = None

    def connected(self) -> socket.socket:
        """Return the connection, reopened after a break. Raise OSError when no listener answers."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> socket.socket:
        last = OSError("the sender has no address")
        for listener in self._receiver.order(self._at):
            try:
                connection = socket.create_connection((listener.address, listener.port), CONNECT_S)
            except OSError as error:
                self._receiver.avoid(listener)
                last = error
                continue
            try:
                wire.set_receive_timeout(connection, SILENT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire.send_proof(connection, self._receiver.transfer_key)
            except OSError:
                connection.close()
                raise
            return connection
        raise last

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
