"""Measurement of links: arguments and output of each program, and our own stream over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.fabric import IPERF, RDMA, STREAM, TOOLS, BenchRequest, Lane, LinkRate
from sparkfleet.onhost.fabric import bench, bench_stream
from sparkfleet.onhost.machine.system import CommandResult, Paths

LANES = (
    Lane("enp1s0f1np1", "rocep1s0f1", "192.168.176.1", "192.168.176.2"),
    Lane("enP2p1s0f1np1", "roceP2p1s0f1", "192.168.177.1", "192.168.177.2"),
)
REQUEST = BenchRequest("pair", "spark-02", RDMA, 5, LANES)

IB_WRITE_BW_OUTPUT = """\
 Mtu             : 4096[B]
 Link type       : Ethernet
 GID index       : 3
---------------------------------------------------------------------------------------
 #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
 65536      1249395          0.00               109.17             0.208233
---------------------------------------------------------------------------------------
"""
IPERF3_OUTPUT = json.dumps(
    {"end": {"sum_sent": {"bits_per_second": 9.9e10}, "sum_received": {"bits_per_second": 9.62e10}}}
)


@dataclass
class Spark:
    """Stands for ``System``: what is asked of systemd and of the programs."""

    root: Path
    results: list[CommandResult] = field(default_factory=list)
    """Of the programs that send, one after the other; then each says 109.17."""
    ran: list[tuple[str, ...]] = field(default_factory=list)
    refuses: str = ""
    slept: float = 0.0

    def __post_init__(self) -> None:
        self.paths = Paths(state=self.root)

    def now(self) -> float:
        return 1000.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        self.ran.append(tuple(argv))
        if argv[0] == "systemd-run":
            return CommandResult(1, err=self.refuses) if self.refuses else CommandResult(0)
        if argv[0] == "systemctl":
            return CommandResult(0)
        return self.results.pop(0) if self.results else CommandResult(0, IB_WRITE_BW_OUTPUT)


@pytest.fixture
def spark(tmp_path: Path) -> Any:
    return Spark(tmp_path)


@pytest.mark.parametrize(
    ("tool", "ran", "gbits"),
    [
        (RDMA, CommandResult(0, IB_WRITE_BW_OUTPUT), 109.17),
        (RDMA, CommandResult(1, IB_WRITE_BW_OUTPUT), None),
        (RDMA, CommandResult(0, "Couldn't connect to 192.168.176.2:18515\n"), None),
        (IPERF, CommandResult(0, IPERF3_OUTPUT), 96.2),
        (IPERF, CommandResult(0, '{"error": "unable to connect"}'), None),
        (STREAM, CommandResult(0, '{"gbits": 12.5}\n'), 12.5),
        (STREAM, CommandResult(0, "no JSON"), None),
    ],
)
def test_the_figure_is_what_arrived_and_nothing_else(
    tool: str, ran: CommandResult, gbits: float | None
) -> None:
    assert bench.gbits(tool, ran) == pytest.approx(gbits)


@pytest.mark.parametrize("tool", TOOLS)
def test_both_ends_are_bound_to_the_link_that_is_measured(tool: str) -> None:
    listens = bench.listener(tool, LANES[0], 18515, 5)
    sends = bench.sender(tool, LANES[0], 18515, 5)
    bound = "rocep1s0f1" if tool == RDMA else "192.168.176.1"
    assert bound in listens
    assert bound in sends
    assert "192.168.176.2" in sends
    assert "18515" in listens
    assert "18515" in sends


def test_each_link_is_measured_by_itself_and_then_all_at_once(spark: Spark) -> None:
    result = bench.measure(spark, REQUEST)  # type: ignore[arg-type]
    assert [(one.link, one.gbits) for one in result.alone] == [
        ("enp1s0f1np1", 109.17), ("enP2p1s0f1np1", 109.17),
    ]  # fmt: skip
    assert [one.link for one in result.at_once] == ["enp1s0f1np1", "enP2p1s0f1np1"]
    ports = [argv[argv.index("-p") + 1] for argv in spark.ran]
    assert ports[:2] == ["18515", "18516"]
    assert sorted(ports[2:]) == ["18517", "18518"]


def test_figures_are_kept_as_evidence(spark: Spark) -> None:
    result = bench.measure(spark, REQUEST)  # type: ignore[arg-type]
    evidence = json.loads((spark.root / "evidence/bench-pair-spark-02.json").read_text())
    assert evidence == result.to_json()
    assert (evidence["tool"], evidence["to"], evidence["at"]) == (RDMA, "spark-02", 1000)


def test_a_listener_that_is_not_there_yet_is_tried_again(spark: Spark) -> None:
    spark.results = [CommandResult(1, err="Couldn't connect"), CommandResult(1, err="Couldn't connect")]
    result = bench.measure(spark, REQUEST)  # type: ignore[arg-type]
    assert result.alone[0] == LinkRate("enp1s0f1np1", 109.17)
    assert spark.slept == 2


@pytest.mark.provokes("fabric-link-not-measured")
def test_a_link_that_cannot_be_measured_says_why(spark: Spark) -> None:
    spark.results = [CommandResult(1, err="x\nFailed status 12: wr_id 7 syndrom 0x81")] * bench.TRIES
    result = bench.measure(spark, REQUEST)  # type: ignore[arg-type]
    wrong = result.alone[0].diagnostic
    assert wrong
    assert (wrong.location, wrong.code) == ("enp1s0f1np1", "fabric-link-not-measured")
    assert wrong.message == "ib_write_bw: Failed status 12: wr_id 7 syndrom 0x81"
    assert result.alone[1].gbits == 109.17
    spark.results = [CommandResult(3)] * bench.TRIES
    wrong = bench.measure(spark, REQUEST).alone[0].diagnostic  # type: ignore[arg-type]
    assert wrong
    assert wrong.message == "ib_write_bw: exit code 3"


def test_listeners_run_detached_and_end_by_themselves(spark: Spark) -> None:
    bench.begin(spark, REQUEST)  # type: ignore[arg-type]
    started = [argv for argv in spark.ran if argv[0] == "systemd-run"]
    assert len(started) == 4
    assert all(any("RuntimeMaxSec=75" in word for word in argv) for argv in started)
    bench.end(spark, REQUEST)  # type: ignore[arg-type]
    assert spark.ran[-1] == ("systemctl", "stop", "sparkfleet-bench-pair-3.service")


def test_a_listener_that_cannot_be_started_is_reported(spark: Spark) -> None:
    spark.refuses = "no bus"
    with pytest.raises(SparkfleetError, match="ib_write_bw: no bus") as failed:
        bench.begin(spark, REQUEST)  # type: ignore[arg-type]
    assert failed.value.diagnostic.code == "unit-failed"


def test_a_request_survives_json_and_anything_else_is_refused() -> None:
    data = json.loads(json.dumps(REQUEST.to_json()))
    assert BenchRequest.from_json(data) == REQUEST
    for bad in ({}, {**data, "tool": "rm"}, {**data, "cluster": "../x"}, {**data, "lanes": [{}]}):
        with pytest.raises(ContractError, match="bench request"):
            BenchRequest.from_json(bad)


def test_our_own_stream_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name == "iperf3" or None)
    assert bench.tools() == [IPERF, STREAM]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def connected(port: int, seconds: float) -> float:
    while True:
        try:
            return bench_stream.source("127.0.0.1", "127.0.0.1", port, 2, seconds)
        except ConnectionRefusedError:
            continue


def test_a_stream_tells_what_arrived() -> None:
    port = free_port()
    listens = threading.Thread(target=bench_stream.sink, args=("127.0.0.1", "127.0.0.1", port, 2))
    listens.start()
    assert connected(port, 0.2) > 0
    listens.join(10)
    assert not listens.is_alive()


def test_only_the_peer_is_accepted() -> None:
    port = free_port()
    listens = threading.Thread(target=bench_stream.sink, args=("127.0.0.1", "127.0.0.2", port, 1))
    listens.start()
    while True:
        try:
            stranger = socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.3", 0))
            break
        except ConnectionRefusedError:
            continue
    with stranger:
        assert stranger.recv(1) == b""
    assert bench_stream.source("127.0.0.2", "127.0.0.1", port, 1, 0.1) > 0
    listens.join(10)
    assert not listens.is_alive()


def test_a_stream_that_breaks_off_is_no_figure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(10)
            connection.close()

        listens = threading.Thread(target=hang_up)
        listens.start()
        with pytest.raises(ConnectionError):
            bench_stream.source("127.0.0.1", "127.0.0.1", port, 1, 0.5)
        listens.join(10)
