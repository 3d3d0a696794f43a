"""The commands about links as the operator's machine calls them: words and stdin in, lines and a code out."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.fabric import STREAM, BenchRequest, FabricRequest, Lane, StreamResult
from sparkfleet.contract.rollout import JobStarted
from sparkfleet.onhost import main
from sparkfleet.onhost.fabric import bench_stream, check, fabric
from sparkfleet.onhost.machine import host
from tests.unit.onhost.fabric_world import Netdev, Network

REQUEST = replace(FabricRequest.removal("fabric-1"), cluster="pair")
MEASURED = BenchRequest("pair", "spark-02", STREAM, 1, (Lane("fab0", "", "127.0.0.1", "127.0.0.2"),))


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(tmp_path)
    monkeypatch.setattr(host, "Spark", lambda: made)
    return made


def call(monkeypatch: pytest.MonkeyPatch, *argv: str, data: dict[str, Any] | None = None) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(data)))
    return main.main(argv)


def test_a_change_is_begun_confirmed_carried_out_and_followed(
    net: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "fabric", data=REQUEST.to_json()) == 0
    assert json.loads(capsys.readouterr().out) == JobStarted("fabric-1").to_json()
    assert call(monkeypatch, "fabric-confirm", "fabric-1") == 0
    assert call(monkeypatch, "fabric-run", "fabric-1") == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == fabric.REMOVED
    assert call(monkeypatch, "fabric-follow", "fabric-1", "--since", "0", "--wait", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["result"]["outcome"] == fabric.REMOVED


def test_a_change_that_is_given_up_ends_with_another_code(
    net: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "fabric", data=REQUEST.to_json())
    assert call(monkeypatch, "fabric-give-up", "fabric-1", "the other one failed") == 0
    assert call(monkeypatch, "fabric-run", "fabric-1") == 1
    assert "the other one failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "data", "message"),
    [
        (("fabric",), {**FabricRequest.removal().to_json(), "id": "x"}, "bad id"),
        (("fabric",), None, "expected an object (fabric request)"),
        (("fabric-confirm", "fabric-2"), None, "unknown job fabric-2"),
        (("fabric-run", "../../etc"), None, "bad job id"),
        (("bench-begin",), {}, "cluster: is missing"),
    ],
)
@pytest.mark.usefixtures("net")
def test_an_invalid_request_is_refused_with_a_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    data: dict[str, Any] | None,
    message: str,
) -> None:
    assert call(monkeypatch, *argv, data=data) == 1
    assert message in capsys.readouterr().err


def test_a_bench_listens_measures_and_listens_no_more(
    net: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "bench-tools") == 0
    assert STREAM in json.loads(capsys.readouterr().out)["tools"]
    assert call(monkeypatch, "bench-begin", data=MEASURED.to_json()) == 0
    assert sum(argv[0] == "systemd-run" for argv in net.ran) == 2
    assert call(monkeypatch, "bench-end", data=MEASURED.to_json()) == 0
    assert net.ran[-1][:2] == ("systemctl", "stop")


def test_a_stream_is_sent_and_its_figure_printed(
    net: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    streams: list[object] = []

    def source(*argv: object) -> float:
        streams.append(argv)
        return 12.5

    monkeypatch.setattr(bench_stream, "source", source)
    monkeypatch.setattr(bench_stream, "sink", lambda *argv: streams.append(argv))
    assert call(monkeypatch, "bench-sink", "10.0.0.2", "10.0.0.1", "5000") == 0
    assert call(monkeypatch, "bench-source", "10.0.0.1", "10.0.0.2", "5000", "1") == 0
    assert json.loads(capsys.readouterr().out) == StreamResult(12.5).to_json()
    assert streams == [("10.0.0.2", "10.0.0.1", 5000, 4), ("10.0.0.1", "10.0.0.2", 5000, 4, 1.0)]


@pytest.mark.parametrize(
    ("netdev", "message"),
    [
        (None, "fab9 does not exist"),
        (Netdev(mtu=9000), "fab9 has no 192.168.176.1/24"),
        (Netdev(["192.168.176.1/24"]), "fab9 has MTU 1500, not 9000"),
    ],
)
def test_what_a_link_lacks_is_named(net: Network, netdev: Netdev | None, message: str) -> None:
    if netdev:
        net.netdevs["fab9"] = netdev
    addresses = (("fab9", "192.168.176.1/24"),)
    request = replace(FabricRequest.removal(), addresses=addresses, mtu=9000)
    assert check.mismatches(net, request) == [message]  # type: ignore[arg-type]
