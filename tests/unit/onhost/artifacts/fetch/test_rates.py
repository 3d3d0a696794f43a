"""How fast a Spark fetched last."""

from __future__ import annotations

from pathlib import Path

from sparkfleet.contract.state import Rates
from sparkfleet.onhost.artifacts.fetch import rates
from sparkfleet.onhost.machine import files

MIB = 1 << 20


def test_the_last_rate_of_each_kind_is_kept(tmp_path: Path) -> None:
    rates.note(tmp_path, rates.COPY, 1000 * MIB, 2)
    rates.note(tmp_path, rates.DOWNLOAD, 100 * MIB, 10)
    rates.note(tmp_path, rates.COPY, 900 * MIB, 1)
    assert files.read_document(Rates, tmp_path / "rates.json") == Rates(copy=900 * MIB, download=10 * MIB)


def test_a_few_bytes_give_no_rate(tmp_path: Path) -> None:
    rates.note(tmp_path, rates.PULL, rates.LEAST_BYTES - 1, 1)
    rates.note(tmp_path, rates.PULL, rates.LEAST_BYTES, 0)
    assert not (tmp_path / "rates.json").exists()
