"""``sparkfleet knowledge``, and that every command reads what it installed: each command is a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkfleet import data_files
from sparkfleet.cli import main
from sparkfleet.engines.vllm import schema_archive
from tests.unit.config.fleet_files import FleetFiles
from tests.unit.knowledge import updates
from tests.unit.knowledge.updates import IMAGES, PATTERNS, RECIPE, VERSION, Pinned

Run = Callable[..., tuple[int, str, str]]
BUNDLED = data_files.BUNDLED
MAIN = "import sys; from sparkfleet.cli import main; sys.argv[0] = 'sparkfleet'; main()"


@dataclass(frozen=True)
class Operator:
    """A person with a data directory of their own."""

    tmp_path: Path

    def __call__(self, *args: str, program: str = MAIN) -> tuple[int, str, str]:
        env = {**os.environ, "XDG_DATA_HOME": str(self.tmp_path / "data")}
        done = subprocess.run(
            [sys.executable, "-c", program, *args], capture_output=True, text=True, check=False, env=env
        )
        return done.returncode, done.stdout, done.stderr

    def refused(self, update: Pinned) -> str:
        """Return the code of the refusal; what was in use stays in use."""
        before = self("--version")
        code, out, err = self(*update.args)
        assert (code, out, self("--version")) == (1, "", before)
        return err.splitlines()[0].rpartition("[")[2].rstrip("]")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; return exit code, stdout and stderr."""

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sparkfleet", *args])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def schemas(version: str) -> bytes:
    """The bundled schemas, and a release that has one more flag."""
    data = schema_archive.read(schema_archive.FILE)
    known = [schema_archive.release(data, name) for name in data["versions"]]
    flags = {**known[-1]["flags"], "--brand-new": {"kind": "store", "type": "str"}}
    return schema_archive.pack([*known, {**known[-1], "vllm_version": version, "flags": flags}])


def test_an_update_is_used_shown_and_reset(operator: Operator, tmp_path: Path) -> None:
    update = updates.good(tmp_path)
    assert operator(*update.args) == (0, f"knowledge {VERSION}: in use (2 files)\n", "")
    assert operator(*update.args)[1] == f"knowledge {VERSION}: in use already\n"
    assert operator("--version")[1].endswith(f" (knowledge {VERSION})\n")
    rows = json.loads(operator("knowledge", "show", "--json")[1])
    assert [(row["version"], row["source"], row["in_use"], row["files"]) for row in rows] == [
        (BUNDLED, "bundled", False, None),
        (VERSION, "update", True, 2),
    ]
    assert f"{VERSION}\tupdate\tyes\t2" in operator("knowledge", "show")[1]
    assert operator("knowledge", "reset")[1] == f"knowledge {BUNDLED}: in use (bundled)\n"
    assert operator("--version")[1].endswith(f" (knowledge {BUNDLED}, bundled)\n")


@pytest.mark.provokes("knowledge-hash-required")
def test_an_update_without_a_hash_is_refused(run: Run, tmp_path: Path) -> None:
    source = updates.good(tmp_path).source
    code, _, err = run("knowledge", "update", source)
    assert code == 1
    assert f"{source}: the update is not pinned [knowledge-hash-required]" in err
    assert f"sparkfleet knowledge update {source} --sha256 HASH" in err


def test_a_hash_that_is_none_is_refused_before_the_update_is_read(run: Run) -> None:
    code, _, err = run("knowledge", "update", "nowhere.tar.gz", "--sha256", "abc")
    assert code == 1
    assert err.startswith("--sha256: 'abc' is not a SHA-256 [knowledge-hash-required]\n")
    code, _, err = run("knowledge", "update", "nowhere.tar.gz", "--sha256", "a" * 64)
    assert "do: check the path: ls -l nowhere.tar.gz" in err


def test_check_and_catalog_read_the_update(
    operator: Operator, fleet: Callable[..., FleetFiles], tmp_path: Path
) -> None:
    files = {
        IMAGES: updates.images(**{"99.01": "0.99.0"}),
        RECIPE: updates.NEW_RECIPE,
        "engines/vllm/data/releases.json.gz": schemas("0.99.0"),
    }
    image = "nvcr.io/nvidia/vllm:99.01-py3"
    flags = "{brand-new: 1, brand-old: 2}"
    fleet({"spark-01.yaml": f"serve: {{recipe: brand-new, image: '{image}', flags: {flags}}}\n"})
    _, out, err = operator("check", "inventories/lab.py")
    assert "brand-new" in err
    assert "knowledge" not in out
    assert operator(*updates.good(tmp_path, files).args)[0] == 0
    _, out, err = operator("check", "inventories/lab.py")
    assert "vLLM 0.99.0 has no flag --brand-old" in err
    assert "--brand-new " not in err
    assert f"knowledge {VERSION}, not the bundled one (sparkfleet knowledge show)\n" in out
    assert "A recipe of an update" in operator("catalog", "show", "brand-new")[1]


PYINFRA = """
import sys
from sparkfleet import data_files
from sparkfleet.cli import main
from sparkfleet.inventory import load
load("inventories/lab.py")
print(data_files.update_version())
"""


def test_a_run_of_pyinfra_reads_the_update(
    operator: Operator, fleet: Callable[..., FleetFiles], tmp_path: Path
) -> None:
    assert operator(*updates.good(tmp_path).args)[0] == 0
    fleet({"spark-01.yaml": "serve: nemotron-3-nano-30b-a3b-nvfp4\n"}).pin()
    assert operator(program=PYINFRA)[1] == f"{VERSION}\n"


PROGRAMS = """
import sys
from sparkfleet import data_files, zipapp
from sparkfleet.knowledge import store
store.activate()
open(sys.argv[1], "wb").write(zipapp.build())
"""
ON_A_SPARK = """
import sys
sys.path.insert(0, sys.argv[1])
from sparkfleet.onhost.gate import diagnosis
print(diagnosis.reader("vllm").diagnose("BrandNewError: kernel", 1).diagnostic.message)
"""


def test_patterns_of_an_update_reach_diagnose_and_the_spark(operator: Operator, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("INFO 11-20 10:00:00 [x.py:1] loads\nBrandNewError: kernel\n")
    assert operator(*updates.good(tmp_path, {PATTERNS: updates.patterns()}).args)[0] == 0
    out = operator("diagnose", str(log), "--engine", "vllm")[1]
    assert "brand-new-failure: a failure that only the update knows: kernel" in out
    program = tmp_path / "sparkfleet.pyz"
    assert operator(str(program), program=PROGRAMS) == (0, "", "")
    done = subprocess.run(
        [sys.executable, "-I", "-c", ON_A_SPARK, str(program)],
        capture_output=True,
        text=True,
        check=True,
        env={"XDG_DATA_HOME": "/nonexistent"},
    )
    assert done.stdout == "a failure that only the update knows: kernel\n"


@pytest.mark.provokes("knowledge-content-invalid")
def test_every_file_that_cannot_be_read_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    update = updates.good(tmp_path, {IMAGES: b"{}", PATTERNS: b'{"failures": 1}', RECIPE: b"recipe: other\n"})
    code, _, err = run(*update.args)
    assert code == 1
    for place in ("engines/vllm/data", PATTERNS, RECIPE):
        assert f"knowledge {VERSION}: {place}: " in err


def test_after_a_refusal_the_former_update_is_used(operator: Operator, tmp_path: Path) -> None:
    assert operator(*updates.good(tmp_path).args)[0] == 0
    older = updates.good(tmp_path, {RECIPE: updates.NEW_RECIPE}, "2027.1.1")
    assert operator.refused(older) == "knowledge-not-newer"
    newer = updates.good(tmp_path, {RECIPE: updates.NEW_RECIPE}, "2027.1.3")
    assert operator.refused(Pinned(newer.source, "0" * 64)) == "knowledge-hash-mismatch"
    assert operator("catalog", "show", "brand-new")[0] == 0


def test_a_damaged_store_stops_commands_until_it_is_reset(operator: Operator, tmp_path: Path) -> None:
    assert operator(*updates.good(tmp_path).args)[0] == 0
    next((tmp_path / "data").rglob("brand-new.yaml")).write_text("recipe: brand-new\nmodel: evil/model\n")
    code, _, err = operator("catalog", "show", "brand-new")
    assert (code, "[knowledge-damaged]" in err) == (1, True)
    assert operator("knowledge", "reset")[0] == 0
    assert operator("catalog", "list")[0] == 0
