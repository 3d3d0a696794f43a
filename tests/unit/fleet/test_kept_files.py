"""Generations and history in a Spark's files: each that cannot be read is named, all others count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.generation import CurrentGeneration, PromotedGeneration, convert
from sparkfleet.contract.history import FILE, OLDER_FILE, HistoryEntry
from sparkfleet.fleet import kept_files
from sparkfleet.fleet.connection import remote
from tests.unit.onhost.world import generation


def promoted(number: int) -> str:
    made = generation(image=f"img:{number}")
    return codec.dumps(convert(PromotedGeneration, made, promoted_at=float(number)))


FILES = {
    "services/nano/current.json": codec.dumps(convert(CurrentGeneration, generation())),
    **{f"services/nano/generations/{number}-abc.json": promoted(number) for number in (9, 10)},
    FILE: codec.dumps(HistoryEntry(2.0, "nano", "promoted")) + "\n",
    OLDER_FILE: codec.dumps(HistoryEntry(1.0, "nano", "restored")) + "\n",
}


def test_generations_are_in_the_order_of_their_numbers_and_entries_oldest_first() -> None:
    stored = kept_files.parsed("spark-01", FILES)
    nano = stored.services["nano"]
    assert [one.promoted_at for one in nano.generations] == [9.0, 10.0]
    assert nano.current is not None
    assert [entry.at for entry in stored.entries] == [1.0, 2.0]
    assert stored.unreadable == ()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"version": 99}', '{"version": 1}'])
def test_a_file_that_cannot_be_read_is_named_and_the_others_count(name: str, text: str) -> None:
    stored = kept_files.parsed("spark-01", {**FILES, name: text})
    if text or not name.endswith(".jsonl"):  # an empty history has no entries
        (wrong,) = stored.unreadable
        assert wrong.location.startswith(f"spark-01: /var/lib/sparkfleet/{name}")
    found = sum(len(one.generations) + bool(one.current) for one in stored.services.values()) + len(
        stored.entries
    )
    assert found == len(FILES) - 1


def test_a_torn_line_of_the_history_loses_one_entry(tmp_path: Path) -> None:
    del tmp_path
    text = f"{FILES[FILE]}{FILES[FILE][:20]}\n{FILES[FILE]}"
    stored = kept_files.parsed("spark-01", {FILE: text})
    assert (len(stored.entries), len(stored.unreadable)) == (2, 1)


def test_the_program_reads_the_files_of_the_state_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "services" / "nano" / "ranks").mkdir()
    (tmp_path / "services" / "nano" / "ranks" / "key.json").write_text("secret")
    ran: list[tuple[str, ...]] = []

    def run(_: Any, argv: tuple[str, ...]) -> remote.CommandOutput:
        ran.append(argv)
        program = [arg.replace(repr("/var/lib/sparkfleet"), repr(str(tmp_path))) for arg in argv[1:]]
        done = subprocess.run([sys.executable, *program], capture_output=True, text=True, check=True)
        return remote.CommandOutput(True, done.stdout, "")

    monkeypatch.setattr(remote, "run", run)
    host: Any = SimpleNamespace(name="spark-01")
    stored = kept_files.read(host, *kept_files.GENERATIONS, *kept_files.HISTORY)
    assert stored == kept_files.parsed("spark-01", FILES)
    assert len(ran) == 1
    assert "secret" not in json.dumps(str(stored))


def test_a_host_that_does_not_answer_with_files_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    host: Any = SimpleNamespace(name="spark-01")
    for output in (remote.CommandOutput(False, "", "no python3"), remote.CommandOutput(True, "[]", "")):
        monkeypatch.setattr(remote, "run", lambda *_, output=output: output)
        with pytest.raises(SparkfleetError):
            kept_files.read(host, *kept_files.GENERATIONS)
