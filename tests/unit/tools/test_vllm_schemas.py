"""The tool that extends the bundle, run as its user runs it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.engines.vllm import schema_archive
from sparkfleet.engines.vllm.schema import load, versions

TOOL = Path(__file__).parents[3] / "tools" / "add_vllm_schema.py"
PORT = {"dest": "port", "kind": "store", "type": "int", "aliases": [], "group": "Frontend", "hint": "PORT"}
DUMP: dict[str, Any] = {
    "vllm_version": "99.0",
    "flags": {
        "--port": PORT,
        "--brand-new": {
            "kind": "store",
            "aliases": ["-bn"],
            "hint": ["a", "b"],
            "default": [],
            "const": None,
        },
    },
    "json_classes": {},
    "registries": {"envs": {"VLLM_X": "int"}, "tool_parsers": None, "load_format": ["hf"]},
    "requires": ["Torch==2.14", "mistral_common>=1.11", "x; platform_machine == 'x86_64'", "not valid ;;"],
    "packages": {},
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(schema_archive.FILE, tmp_path / "releases.json.gz"))


def run(*args: str | Path) -> str:
    done = subprocess.run([sys.executable, TOOL, *args], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_release_is_added_by_one_command(copy: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps(DUMP))
    assert f"{len(versions()) + 1} releases" in run("--archive", copy, dump)
    data = schema_archive.read(copy)
    assert data["versions"][-1] == "99.0"
    added = schema_archive.release(data, "99.0")
    assert added["flags"] == {
        "--brand-new": {"kind": "store", "aliases": ["-bn"], "hint": ["a", "b"], "default": []},
        "--port": {"kind": "store", "type": "int"},
    }
    assert added["registries"]["envs"] == {"VLLM_X": 0}
    assert added["packages"] == {"torch": "==2.14", "mistral-common": ">=1.11"}
    assert schema_archive.release(data, "0.33.0") == schema_archive.release(schema_archive.read(), "0.33.0")


def test_a_release_is_taken_out_again(copy: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps(DUMP))
    run("--archive", copy, dump)
    run("--archive", copy, "--remove", "99.0")
    assert copy.read_bytes() == schema_archive.FILE.read_bytes()


def test_an_archive_is_created_where_there_is_none(tmp_path: Path) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps(DUMP))
    run("--archive", tmp_path / "new.json.gz", dump)
    assert run("--archive", tmp_path / "new.json.gz", "--list").split() == ["99.0"]


def test_the_bundled_releases_are_listed() -> None:
    assert load("0.33.0").version in run("--list").split()
