"""The receiving side of a copy: several files at once from one sender, over all links that lead there."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sparkfleet.onhost.artifacts.copy import direct, wire
from sparkfleet.onhost.artifacts.copy.file import BUFFER, Arriving, FileToReceive, Identity, here
from sparkfleet.onhost.artifacts.fetch.pull import StageError

CONNECT_S = 5.0
SILENT_S = 20
"""Seconds without a byte after which a connection is taken for broken."""
TRIES = 6
"""Times in a row that a connection may break before a single byte came."""
PAUSE_S = 1.0
MOST_STREAMS = 16
FEW_STREAMS = 4


@dataclass(frozen=True, order=True)
class Listener:
    """Where the sender can be reached. Streams spread over all of the least distance that answer."""

    distance: int
    """0: the fabric, 1: the LAN."""
    address: str
    port: int


def streams(count: int, cores: int | None = None) -> int:
    """Return how many files are brought at once: enough to hash on every core while others write."""
    return max(1, min(count, MOST_STREAMS, max(FEW_STREAMS, cores or os.cpu_count() or FEW_STREAMS)))


class _EndedError(Exception):
    """Another file failed: there is nothing more to do."""


@dataclass
class Receiver:
    """One copy from one sender. Its threads take files from one list; what they share is under one lock."""

    sender: str
    """Name, for people."""
    listeners: Sequence[Listener]
    transfer_key: str = field(repr=False)
    wanted: Sequence[FileToReceive]
    pause_s: float = PAUSE_S
    have: int = 0
    """Bytes that are here, those of earlier tries included."""
    fetched: int = 0
    """Bytes that came over the wire now."""
    arrived: dict[str, Identity] = field(default_factory=dict)
    """Place of each file that is whole and has the right hash -> what it was then."""
    _left: deque[FileToReceive] = field(default_factory=deque)
    _diagnostic: StageError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _failed: set[Listener] = field(default_factory=set)

    def run(self, tell: Callable[[], None], every_s: float = 1.0) -> None:
        """Bring every file, calling ``tell`` now and then. Raise StageError if one cannot be brought."""
        self._left = deque(sorted(self.wanted, key=lambda file: -file.size))
        count = streams(len(self.wanted))
        threads = [threading.Thread(target=self._work, args=(at,), daemon=True) for at in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(every_s)
                tell()
        if self._diagnostic is not None:
            raise self._diagnostic
        self._say_over()

    def _work(self, at: int) -> None:
        """Bring one file after the other over one connection, made anew when it breaks."""
        link = _Link(self, at)
        try:
            while not self._ended.is_set():
                with self._lock:
                    if not self._left:
                        return
                    file = self._left.popleft()
                self._bring(file, link)
        except _EndedError:
            return
        except Exception as error:
            diagnostic = error if isinstance(error, StageError) else StageError(repr(error), "report it")
            with self._lock:
                self._diagnostic = self._diagnostic or diagnostic
            self._ended.set()
        finally:
            link.close()

    def _bring(self, file: FileToReceive, link: _Link) -> None:
        found = here(file)
        if found is not None:  # a blob whose name in the snapshot was lost
            self._count(file.size)
        else:
            arriving = Arriving(file)
            self._count(arriving.offset)
            try:
                found = self._arrived(arriving, link)
            finally:
                arriving.close()
        with self._lock:
            self.arrived[file.target] = found

    def _arrived(self, arriving: Arriving, link: _Link) -> Identity:
        file = arriving.file
        self._fetch(arriving, link)
        found = arriving.finish()
        if found is None:
            self._count(-file.size)
            self._fetch(arriving, link)  # once more: a disk or a link may err once
            found = arriving.finish()
        if found is None:
            raise StageError(
                f"{self.sender} has another {file.name} than the lock file: it was not taken",
                f"have {self.sender} verified (deploys/verify.py), then run again",
                elsewhere=True,
            )
        return found

    def _fetch(self, arriving: Arriving, link: _Link) -> None:
        """Fetch the rest of a file, however often the connection breaks, as long as it moves."""
        broken = 0
        while True:
            before = arriving.offset
            try:
                self._fetch_once(arriving, link.connected())
            except OSError as error:
                link.close()
                broken = 0 if arriving.offset > before else broken + 1
                if broken >= TRIES:
                    raise self._cut(error) from error
                if self._ended.wait(self.pause_s):
                    raise _EndedError from None
            else:
                return

    def _fetch_once(self, arriving: Arriving, connection: socket.socket) -> None:
        file = arriving.file
        count = wire.ask(connection, file.number, arriving.offset)
        if count != file.size - arriving.offset:
            raise StageError(
                f"{self.sender} does not have {file.name} as locked any more",
                "run again: the new plan looks for another Spark that has it",
                elsewhere=True,
            )
        buffer = direct.buffer(BUFFER)
        while arriving.offset < file.size:
            room = BUFFER - arriving.offset % direct.BLOCK  # after a cut: back to a block's border
            got = connection.recv_into(buffer, min(room, file.size - arriving.offset), socket.MSG_WAITALL)
            if not got:
                raise wire.CutError("the sender hung up")
            if self._ended.is_set():
                raise _EndedError
            arriving.take(buffer[:got])
            self._count(got, got)

    def _count(self, here: int, fetched: int = 0) -> None:
        with self._lock:
            self.have += here
            self.fetched += fetched

    def order(self, at: int) -> list[Listener]:
        """Return where to call, in order: the near ones that never failed, turned by the stream's number."""
        with self._lock:
            good = [one for one in self.listeners if one not in self._failed]
            bad = [one for one in self.listeners if one in self._failed]
        near = [one for one in good if one.distance == min(good).distance]
        turn = at % len(near) if near else 0
        return [*near[turn:], *near[:turn], *sorted(set(good) - set(near)), *bad]

    def avoid(self, listener: Listener) -> None:
        """Call there only when nothing else answers."""
        with self._lock:
            self._failed.add(listener)

    def _say_over(self) -> None:
        """Tell the sender that it may end; if that fails it ends by itself a little later."""
        link = _Link(self, 0)
        try:
            link.connected().sendall(wire.REQUEST.pack(wire.OVER, 0))
        except OSError:
            return
        finally:
            link.close()

    def _cut(self, error: BaseException) -> StageError:
        places = ", ".join(f"{one.address}:{one.port}" for one in self.listeners)
        return StageError(
            f"the connection to {self.sender} broke ({places}): {error or type(error).__name__}",
            f"check the link and {self.sender}'s firewall, then run again: what is here is kept",
            elsewhere=True,
        )


class _Link:
    """A stream's connection to the sender, made when it is needed."""

    def __init__(self, receiver: Receiver, at: int) -> None:
        self._receiver, self._at = receiver, at
        self._connection: socket.socket | None = None

    def connected(self) -> socket.socket:
        """Return the connection, made anew after a break. Raise OSError when no listener answers."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> socket.socket:
        last = OSError("no address of the sender is known")
        for listener in self._receiver.order(self._at):
            try:
                connection = socket.create_connection((listener.address, listener.port), CONNECT_S)
            except OSError as error:
                self._receiver.avoid(listener)
                last = error
                continue
            try:
                wire.wait_at_most(connection, SILENT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                wire.introduce(connection, self._receiver.transfer_key)
            except OSError:
                connection.close()
                raise
            return connection
        raise last

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
