"""The tool that makes updates, without the wheel: a dump is there already."""

import datetime as dt
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tools import make_knowledge

from sparkfleet import data_files
from sparkfleet.engines.vllm import schema_archive
from sparkfleet.knowledge import archive
from tests.unit.tools.test_vllm_schemas import DUMP

SCHEMAS = "engines/vllm/data/releases.json.gz"
KNOWN = schema_archive.release(schema_archive.read(schema_archive.FILE), "0.33.0")


def test_an_update_has_the_data_files_and_the_release(tmp_path: Path) -> None:
    dump = {**DUMP, "vllm_version": "0.99.0", "flags": {**DUMP["flags"], **KNOWN["flags"]}}
    command = shlex.split(make_knowledge.make("2027.1.2", [dump], tmp_path))
    assert command[:3] == ["sparkfleet", "knowledge", "update"]
    found = archive.load(command[3], command[5])
    assert found.files.keys() == archive.bundled_files().keys()
    (tmp_path / "schemas.json.gz").write_bytes(found.files[SCHEMAS])
    data = schema_archive.read(tmp_path / "schemas.json.gz")
    assert data["versions"] == [*schema_archive.read(schema_archive.FILE)["versions"], "0.99.0"]
    assert "--brand-new" in schema_archive.release(data, "0.99.0")["flags"]
    assert schema_archive.release(data, "0.33.0") == KNOWN


def test_an_update_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no flag --max-model-len"):
        make_knowledge.make("2027.1.2", [DUMP], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_release_the_update_has_what_the_checkout_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_knowledge.main(["--out", str(tmp_path), "--version", "2027.1.2"]) == 0
    path = tmp_path / "sparkfleet-knowledge-2027.1.2.tar.gz"
    assert path.read_bytes() == archive.pack("2027.1.2", archive.bundled_files())
    assert f"update {path} --sha256 " in capsys.readouterr().out


def test_an_update_of_the_day_of_the_bundled_knowledge_is_newer() -> None:
    year, month, day = map(int, data_files.BUNDLED.split("."))
    assert make_knowledge.next_version(dt.date(year, month, day)) == f"{data_files.BUNDLED}.1"
    assert make_knowledge.next_version(dt.date(2099, 1, 2)) == "2099.1.2"


def test_it_is_a_script_of_any_directory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, make_knowledge.__file__, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "sparkfleet knowledge update" in done.stdout
