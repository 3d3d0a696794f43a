"""A copy between two hosts over real sockets: only locked content is accepted, nothing is transferred twice,
only the receiver is served.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sparkfleet.contract.transfer import FileToReceive, SentFile
from sparkfleet.onhost.artifacts.copy import file, receive, wire
from sparkfleet.onhost.artifacts.copy.direct import BLOCK
from sparkfleet.onhost.artifacts.copy.file import BUFFER, PARTIAL_SUFFIX, IncomingFile
from sparkfleet.onhost.artifacts.copy.receive import Listener, Receiver, streams
from sparkfleet.onhost.artifacts.copy.send import Sender
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import hash_record
from tests.unit.onhost.artifacts.copy.direct_of_test import is_direct, skip_without_direct_writes

KEY = "t0ken"
LOOPBACK = "127.0.0.1"


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Two:
    """A sending and a receiving Spark in one directory each."""

    root: Path
    contents: list[bytes]
    sender: Sender = field(init=False)
    listeners: list[Listener] = field(default_factory=list)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        shown = []
        for number, data in enumerate(self.contents):
            path = self.root / "from" / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            shown.append(SentFile(str(path), len(data)))
        self.sender = Sender(tuple(shown), frozenset({LOOPBACK}), KEY, idle_s=20)
        self.listeners = [Listener(0, *found) for found in self.sender.listen([LOOPBACK])]
        self.thread = threading.Thread(target=self.sender.serve, daemon=True)
        self.thread.start()

    def target(self, number: int) -> Path:
        return self.root / "to" / "blobs" / f"blob-{number}"

    def file_to_receive(self, number: int) -> FileToReceive:
        data = self.contents[number]
        blob = hashlib.sha256(data).hexdigest() if len(data) > 10 else git_id(data)
        return FileToReceive(number, len(data), blob, str(self.target(number)), f"file {number}")

    def receiver(self, **more: object) -> Receiver:
        values = {"sender": "spark-01", "listeners": self.listeners, "transfer_key": KEY, "pause_s": 0.01,
                  "files": [self.file_to_receive(n) for n in range(len(self.contents))], **more}  # fmt: skip
        return Receiver(**values)  # type: ignore[arg-type]

    def copy(self, **more: object) -> Receiver:
        receiver = self.receiver(**more)
        receiver.run(lambda: None, every_s=0.01)
        return receiver

    def arrived(self) -> list[bytes]:
        return [self.target(n).read_bytes() for n in range(len(self.contents))]


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    contents = [os.urandom(3 * BUFFER + 17), b"{}\n", b"", os.urandom(BUFFER), os.urandom(11), b"x" * 9]
    made = Two(tmp_path, contents)
    yield made
    made.sender._over.set()
    made.thread.join()


def test_every_file_arrives_whole_and_the_sender_ends_with_the_copy(two: Two) -> None:
    receiver = two.copy()
    assert two.arrived() == two.contents
    assert receiver.have == receiver.fetched == sum(map(len, two.contents))
    two.thread.join(5)
    assert not two.thread.is_alive()
    for listener in two.listeners:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((listener.address, listener.port), 1)


def test_bytes_of_an_earlier_attempt_are_not_fetched_again(two: Two) -> None:
    beside = Path(two.file_to_receive(0).target + PARTIAL_SUFFIX)
    beside.parent.mkdir(parents=True)
    beside.write_bytes(two.contents[0][: 2 * BUFFER])
    receiver = two.copy()
    assert two.arrived() == two.contents
    assert receiver.fetched == sum(map(len, two.contents)) - 2 * BUFFER
    assert not beside.exists()


@pytest.mark.parametrize("left", [0, BUFFER + 1], ids=["from its beginning", "after a cut within a block"])
def test_a_copy_goes_past_the_page_cache(two: Two, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without_direct_writes(two.root)
    beside = Path(two.file_to_receive(0).target + PARTIAL_SUFFIX)
    beside.parent.mkdir(parents=True)
    beside.write_bytes(two.contents[0][:left])
    real, past = os.pwrite, []

    def pwrite(descriptor: int, part: memoryview, offset: int) -> int:
        done = real(descriptor, part, offset)  # raises where the memory or the offset do not fit
        if is_direct(descriptor):
            past.append(done)
        return done

    monkeypatch.setattr(os, "pwrite", pwrite)
    two.copy(files=[two.file_to_receive(0)])
    assert two.target(0).read_bytes() == two.contents[0]
    up_to_a_border = BUFFER if left % BLOCK else 0
    assert sum(past) >= len(two.contents[0]) - left - up_to_a_border - BLOCK


def test_a_file_that_was_cut_within_a_block_goes_on_from_there(two: Two) -> None:
    beside = Path(two.file_to_receive(0).target + PARTIAL_SUFFIX)
    beside.parent.mkdir(parents=True)
    beside.write_bytes(two.contents[0][: BUFFER + 1])
    receiver = two.copy()
    assert two.arrived() == two.contents
    assert receiver.fetched == sum(map(len, two.contents)) - BUFFER - 1


def test_a_whole_file_that_was_not_renamed_yet_costs_no_byte(two: Two) -> None:
    beside = Path(two.file_to_receive(0).target + PARTIAL_SUFFIX)
    beside.parent.mkdir(parents=True)
    beside.write_bytes(two.contents[0])
    assert two.copy().fetched == sum(map(len, two.contents[1:]))
    assert two.arrived() == two.contents


def test_a_blob_that_lost_its_name_in_the_snapshot_is_not_fetched_again(two: Two) -> None:
    two.target(0).parent.mkdir(parents=True)
    two.target(0).write_bytes(two.contents[0])
    receiver = two.copy()
    assert receiver.fetched == sum(map(len, two.contents[1:]))
    assert receiver.have == sum(map(len, two.contents))
    assert two.arrived() == two.contents


def test_a_blob_of_the_right_size_and_another_content_is_replaced(two: Two) -> None:
    two.target(0).parent.mkdir(parents=True)
    two.target(0).write_bytes(bytes(len(two.contents[0])))
    two.copy()
    assert two.arrived() == two.contents


def test_a_received_file_counts_as_verified_until_it_changes(two: Two, tmp_path: Path) -> None:
    receiver = two.copy()
    blobs = {str(two.target(n)): two.file_to_receive(n).blob for n in range(len(two.contents))}
    hash_record.remember(tmp_path, receiver.received)
    record = hash_record.read(tmp_path)
    to_verify = [hash_record.FileToVerify(Path(place), blob) for place, blob in blobs.items()]
    assert [hash_record.recorded_match(record, one) for one in to_verify] == [True] * len(to_verify)
    two.target(0).write_bytes(two.contents[0])
    assert (
        hash_record.recorded_match(
            record, hash_record.FileToVerify(two.target(0), two.file_to_receive(0).blob)
        )
        is None
    )


@pytest.mark.parametrize("left", [b"wrong" * 1000, os.urandom(9 * BUFFER)], ids=["shorter", "longer"])
def test_a_wrong_partial_file_is_discarded_and_fetched_again(two: Two, left: bytes) -> None:
    beside = Path(two.file_to_receive(0).target + PARTIAL_SUFFIX)
    beside.parent.mkdir(parents=True)
    beside.write_bytes(left)
    two.copy()
    assert two.arrived() == two.contents


def test_content_that_is_not_locked_is_never_accepted(two: Two) -> None:
    path = two.root / "from" / "3"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StageError, match="file 3: the copy of spark-01 does not match the lock file"):
        two.copy()
    assert not two.target(3).exists()


@pytest.mark.parametrize("damage", ["shorter", "gone", "a directory"])
def test_a_file_that_the_sender_lost_is_named_in_the_error(two: Two, damage: str) -> None:
    path = two.root / "from" / "3"
    path.unlink()
    if damage == "shorter":
        path.write_bytes(b"x")
    elif damage == "a directory":
        path.mkdir()
    with pytest.raises(StageError, match="file 3: spark-01 no longer has it as locked"):
        two.copy()


def test_only_the_declared_files_can_be_requested(two: Two) -> None:
    with socket.create_connection((LOOPBACK, two.listeners[0].port)) as connection:
        wire.send_proof(connection, KEY)
        assert wire.request(connection, len(two.contents), 0) == -1
        assert wire.request(connection, 1, 0) == 3


def test_without_the_key_not_a_byte_of_a_file_is_served(two: Two) -> None:
    with socket.create_connection((LOOPBACK, two.listeners[0].port)) as connection:
        wire.send_proof(connection, "another")
        with pytest.raises(OSError, match=r"closed the connection|reset"):
            wire.request(connection, 0, 0)
    with pytest.raises(StageError, match="spark-01: the connection broke"):
        two.copy(transfer_key="another")


def test_a_connection_from_another_address_is_closed_without_a_byte(tmp_path: Path) -> None:
    sender = Sender((), frozenset({"127.0.0.9"}), KEY, idle_s=0.3)
    ((address, port),) = sender.listen([LOOPBACK])
    thread = threading.Thread(target=sender.serve)
    thread.start()
    with socket.create_connection((address, port)) as connection:
        assert connection.recv(1) == b""
    thread.join()


def test_a_sender_without_connections_exits() -> None:
    sender = Sender((), frozenset({LOOPBACK}), KEY, idle_s=0.05)
    ((address, port),) = sender.listen([LOOPBACK])
    sender.serve()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, port))


def test_a_sender_listens_only_on_addresses_that_it_has() -> None:
    sender = Sender((), frozenset({LOOPBACK}), KEY, idle_s=0.0)
    assert [address for address, _ in sender.listen(["203.0.113.7", LOOPBACK])] == [LOOPBACK]
    sender.serve()


class Cutter:
    """A link between the two that is cut after a number of bytes of each connection."""

    def __init__(self, to: int, after: int) -> None:
        self.to, self.after, self.cuts = to, after, 0
        self.server = socket.create_server((LOOPBACK, 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        far = socket.create_connection((LOOPBACK, self.to))
        back = threading.Thread(target=self._back, args=(near, far), daemon=True)
        back.start()
        left = self.after
        while left > 0 and (data := far.recv(min(65536, left))):
            try:
                near.sendall(data)
            except OSError:
                break
            left -= len(data)
        self.cuts += left <= 0
        for one in (near, far):  # a close alone waits for the thread that reads from it
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        back.join()
        near.close()
        far.close()

    def _back(self, near: socket.socket, far: socket.socket) -> None:
        try:
            while data := near.recv(4096):
                far.sendall(data)
        except OSError:
            return


def test_a_link_that_is_cut_repeatedly_costs_no_byte_twice(two: Two) -> None:
    cutter = Cutter(two.listeners[0].port, 700_000)
    receiver = two.receiver(listeners=[Listener(0, LOOPBACK, cutter.port)])
    receiver.run(lambda: None, every_s=0.01)
    cutter.server.close()
    assert two.arrived() == two.contents
    assert cutter.cuts >= 5
    assert receiver.fetched == sum(map(len, two.contents))


def test_a_link_without_data_fails_with_its_address_and_a_remedy(two: Two) -> None:
    cutter = Cutter(two.listeners[0].port, wire.NONCE + 8)
    with pytest.raises(StageError) as raised:
        two.copy(listeners=[Listener(0, LOOPBACK, cutter.port)])
    cutter.server.close()
    assert f"broke ({LOOPBACK}:{cutter.port})" in raised.value.diagnostic.message
    assert "firewall" in raised.value.diagnostic.hint
    assert not two.target(0).exists()


def closed_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


def test_without_the_fabric_the_copy_goes_over_the_lan(two: Two) -> None:
    lan = Listener(1, LOOPBACK, two.listeners[0].port)
    two.copy(listeners=[Listener(0, LOOPBACK, closed_port()), lan])
    assert two.arrived() == two.contents


def test_streams_spread_over_the_near_links_and_call_far_ones_last() -> None:
    near = [Listener(0, "10.0.0.1", 1), Listener(0, "10.0.1.1", 1)]
    far = Listener(1, "192.168.1.1", 1)
    receiver = Receiver("spark-01", [*near, far], KEY, ())
    assert receiver.order(0) == [near[0], near[1], far]
    assert receiver.order(1) == [near[1], near[0], far]
    receiver.avoid(near[0])
    assert receiver.order(0) == [near[1], far, near[0]]
    receiver.avoid(near[1])
    assert receiver.order(2) == [far, *near]


def test_a_full_disk_is_named_in_the_error_and_received_data_is_kept(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        if offset >= BUFFER:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StageError, match="the disk is full"):
        two.copy()
    assert Path(two.file_to_receive(0).target + PARTIAL_SUFFIX).stat().st_size == BUFFER


def test_a_directory_that_may_not_be_written_is_named_with_its_file(two: Two) -> None:
    (two.root / "to").write_text("a file where a directory should be")
    with pytest.raises(StageError, match=r"file \d: cannot be written"):
        two.copy()


def test_a_link_in_the_place_of_the_unfinished_file_is_not_followed(two: Two, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    beside = Path(two.file_to_receive(0).target + PARTIAL_SUFFIX)
    beside.parent.mkdir(parents=True)
    beside.symlink_to(precious)
    with pytest.raises(StageError, match="cannot be written"):
        two.copy()
    assert precious.read_text() == "x"


def test_an_unexpected_error_fails_the_copy_instead_of_skipping_a_file(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: IncomingFile) -> bool:
        raise ValueError("unheard of")

    monkeypatch.setattr(IncomingFile, "finish", broken)
    with pytest.raises(StageError, match="unheard of"):
        two.copy()


def test_long_files_leave_the_page_cache_while_they_come(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    advices: list[int] = []
    monkeypatch.setattr(file, "FLUSH_EVERY", BUFFER)
    monkeypatch.setattr(os, "posix_fadvise", lambda *args: advices.append(args[3]))
    two.copy(files=[two.file_to_receive(0)])
    assert len(advices) >= 4
    two.sender.drop_cache()
    assert set(advices) == {os.POSIX_FADV_DONTNEED}


@pytest.mark.parametrize(
    "count, cores, expected", [(1, 20, 1), (3, 2, 3), (13, 2, 4), (13, 20, 13), (99, 64, 16), (0, 2, 1)]
)
def test_the_number_of_parallel_files_depends_on_files_and_cores(
    count: int, cores: int, expected: int
) -> None:
    assert streams(count, cores) == expected


def test_a_silent_sender_is_a_failure(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "SILENT_S", 1)
    monkeypatch.setattr(receive, "TRIES", 1)
    with socket.create_server((LOOPBACK, 0)) as silent:
        listener = Listener(0, LOOPBACK, silent.getsockname()[1])
        with pytest.raises(StageError, match="broke"):
            two.copy(listeners=[listener])
