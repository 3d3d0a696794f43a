"""``sparkfleet fabric bench``: the table, and the error for an unknown cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from sparkfleet.cli import cli, fabric
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.fabric import BenchResult, LinkRate
from tests.unit.config.fleet_files import FleetFiles

RESULT = BenchResult(
    "pair",
    "spark-02",
    "ib_write_bw",
    7,
    alone=(LinkRate("enp1s0f1np1", 109.17), LinkRate("enP2p1s0f1np1", 108.9)),
    at_once=(LinkRate("enp1s0f1np1", 92.56), LinkRate("enP2p1s0f1np1", 92.56)),
)


@pytest.fixture
def pair(fleet: Callable[[dict[str, str]], FleetFiles]) -> Path:
    sparks = {f"{name}.yaml": "serve: null\n" for name in ("spark-01", "spark-02")}
    made = fleet({**sparks, "clusters/pair.yaml": "hosts: [spark-02, spark-01]\nexecutor: mp\n"})
    (made.root / "inventories/lab.py").touch()
    made.pin()
    return made.inventory


def bench(monkeypatch: pytest.MonkeyPatch, result: BenchResult, *args: str) -> tuple[int, str]:
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches.before_connections", lambda: None)
    monkeypatch.setattr("sparkfleet.fleet.connection.pyinfra_patches.postpone", lambda _: None)
    asking = SimpleNamespace(fabric_bench=lambda *_: [("spark-01", result)])
    monkeypatch.setitem(sys.modules, "sparkfleet.fleet.fabric_bench", asking)
    seen = CliRunner().invoke(cli, ["fabric", "bench", *args])
    return seen.exit_code, seen.stdout


def test_each_link_is_a_row_and_all_at_once_is_their_sum(monkeypatch: pytest.MonkeyPatch, pair: Path) -> None:
    code, out = bench(monkeypatch, RESULT, str(pair), "pair")
    assert code == 0
    assert [line.split("\t") for line in out.splitlines()] == [
        ["From", "To", "By", "Link", "Gb/s"],
        ["spark-01", "spark-02", "ib_write_bw", "enp1s0f1np1", "109.2"],
        ["spark-01", "spark-02", "ib_write_bw", "enP2p1s0f1np1", "108.9"],
        ["spark-01", "spark-02", "ib_write_bw", "all at once", "185.1"],
    ]


def test_a_failed_link_is_reported_and_exits_with_1(monkeypatch: pytest.MonkeyPatch, pair: Path) -> None:
    failed = LinkRate("enP2p1s0f1np1", diagnostic=Diagnostic("x", "Failed status 12", code="test"))
    result = replace(RESULT, at_once=(RESULT.at_once[0], failed))
    code, out = bench(monkeypatch, result, str(pair), "pair")
    assert code == 1
    assert out.splitlines()[-1].endswith("all at once\tfailed: Failed status 12")


def test_programs_get_all_of_it(monkeypatch: pytest.MonkeyPatch, pair: Path) -> None:
    code, out = bench(monkeypatch, RESULT, str(pair), "pair", "--json")
    measured = json.loads(json.dumps({"from": "spark-01", **asdict(RESULT)}))
    assert (code, json.loads(out)) == (0, {"schema": 1, "measured": [measured]})


def test_members_are_asked_in_the_order_of_their_ranks(pair: Path) -> None:
    assert [host.name for host in fabric._members(pair, "pair")] == ["spark-02", "spark-01"]


@pytest.mark.provokes("cluster-unknown")
def test_an_unknown_cluster_is_reported_with_the_known_ones(pair: Path) -> None:
    with pytest.raises(SparkfleetError, match="unknown cluster 'pear'") as error:
        fabric._members(pair, "pear")
    assert "one of: pair" in str(error.value)


def test_a_missing_lock_file_does_not_hide_that_the_cluster_is_unknown(pair: Path) -> None:
    (pair.parent / "lab" / "fleet.lock").unlink()
    (pair.parent / "lab" / "spark-02.yaml").write_text("serve: gpt-oss-20b\n")
    with pytest.raises(SparkfleetError) as error:
        fabric._members(pair, "pear")
    assert [one.code for one in error.value.diagnostics] == ["lock-missing", "cluster-unknown"]
    assert error.value.diagnostics[-1].hint == "did you mean 'pair'?"
