"""Models from an offline mirror: the sender's process, the way back over SSH, and what is missing."""

from __future__ import annotations

import hashlib
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import SSHException

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.transfer import FileToReceive, SentFile
from sparkfleet.desired_state import WeightFile, Weights
from sparkfleet.fleet.connection import tunnel
from sparkfleet.fleet.staging import from_mirror
from sparkfleet.offline import models
from sparkfleet.onhost.artifacts.copy.receive import Listener, Receiver
from sparkfleet.onhost.artifacts.errors import StageError

BODY = b"weights" * 1000
FILE = WeightFile("model.safetensors", len(BODY), blob=hashlib.sha256(BODY).hexdigest())
WEIGHTS = Weights("org/a", "1" * 40, (FILE,))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    place = models.snapshot(tmp_path, WEIGHTS) / FILE.path
    place.parent.mkdir(parents=True)
    place.write_bytes(BODY)
    return tmp_path


def shown(mirror: Path) -> list[SentFile]:
    return [SentFile(str(models.snapshot(mirror, WEIGHTS) / FILE.path), FILE.size)]


def file_to_receive(tmp_path: Path) -> FileToReceive:
    (tmp_path / "spark").mkdir(exist_ok=True)
    return FileToReceive(
        number=0, size=len(BODY), blob=FILE.blob, target=str(tmp_path / "spark" / "w"), name="w"
    )


def receive(tmp_path: Path, port: int, token: str) -> bytes:
    file = file_to_receive(tmp_path)
    Receiver("the offline mirror", [Listener(1, tunnel.LOOPBACK, port)], token, (file,), pause_s=0.01).run(
        lambda: None, 0.01
    )
    return Path(file.target).read_bytes()


def test_who_has_the_token_gets_the_files_of_the_mirror(mirror: Path, tmp_path: Path) -> None:
    with from_mirror._sender(shown(mirror), "secret") as port:
        assert receive(tmp_path, port, "secret") == BODY


def test_who_has_not_gets_nothing_and_nothing_listens_afterwards(mirror: Path, tmp_path: Path) -> None:
    with from_mirror._sender(shown(mirror), "secret") as port, pytest.raises(StageError):
        receive(tmp_path, port, "guessed")
    with pytest.raises(OSError):  # noqa: PT011  (refused, in the system's own words)
        socket.create_connection((tunnel.LOOPBACK, port), 5)


def test_a_mirror_that_lacks_a_file_is_reported_before_anything_is_sent(mirror: Path) -> None:
    assert models.lack("spark-01", mirror, WEIGHTS) is None
    (models.snapshot(mirror, WEIGHTS) / FILE.path).write_bytes(b"half")
    diagnostic = models.lack("spark-01", mirror, WEIGHTS)
    assert diagnostic is not None
    assert "lacks 1 of 1 files" in diagnostic.message
    assert "sparkfleet mirror INVENTORY" in diagnostic.hint


class Transport:
    """An SSH server that lets a port lead back, or not."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.handler: Any = None
        self.ended: list[int] = []

    def request_port_forward(self, address: str, port: int, handler: Any) -> int:
        if self.refuses:
            raise SSHException("TCP forwarding request denied")
        assert (address, port) == (tunnel.LOOPBACK, 0)  # never reachable from outside
        self.handler = handler
        return 4711

    def cancel_port_forward(self, address: str, port: int) -> None:
        assert address == tunnel.LOOPBACK
        self.ended.append(port)


def spark(transport: Transport | None) -> Any:
    client = SimpleNamespace(get_transport=lambda: transport) if transport else None
    return SimpleNamespace(name="spark-01", connector=SimpleNamespace(client=client))


def test_what_calls_the_sparks_port_is_passed_on_to_ours_both_ways() -> None:
    transport = Transport()
    with socket.create_server((tunnel.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with tunnel.forward_port(spark(transport), port) as forwarded:
            assert forwarded == 4711
            channel, far = socket.socketpair()
            transport.handler(channel, ("127.0.0.1", 1), ("127.0.0.1", forwarded))
            connection, _ = server.accept()
            far.sendall(b"ask")
            far.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read() == b"ask"
            connection.sendall(b"answer")
            connection.close()
            assert far.makefile("rb").read() == b"answer"
            far.close()
    assert transport.ended == [4711]


def test_a_call_without_an_answer_is_ended() -> None:
    with socket.create_server((tunnel.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
    channel, far = socket.socketpair()
    done = threading.Thread(target=tunnel._join, args=(channel, port))
    done.start()
    assert far.recv(1) == b""
    done.join()
    far.close()


def test_a_spark_that_is_this_machine_needs_no_way_back() -> None:
    with tunnel.forward_port(spark(None), 8) as forwarded:
        assert forwarded == 8


@pytest.mark.provokes("ssh-forwarding-denied")
def test_an_ssh_server_that_does_not_allow_it_is_reported_with_its_setting() -> None:
    refused = tunnel.forward_port(spark(Transport(refuses=True)), 8)
    with pytest.raises(SparkfleetError, match="AllowTcpForwarding"):
        refused.__enter__()
