"""The one file on a Spark, and the units that run it."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

import sparkfleet.onhost
from sparkfleet import zipapp
from sparkfleet.onhost.state import units

PACKAGE = Path(sparkfleet.onhost.__file__).parents[1]
SOURCES = sorted(
    [
        *(PACKAGE / "onhost").rglob("*.py"),
        *(PACKAGE / "runtimes" / f"{name}.py" for name in ("__init__", "base", "errors", "onhost")),
        *(PACKAGE / "runtimes" / "docker" / "onhost").glob("*.py"),
    ]
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "sparkfleet.pyz"
    path.write_bytes(zipapp.build())
    return path


def run(program: Path, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-B", str(program), *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)


def test_the_same_sources_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = zipapp.build()
    monkeypatch.setattr("time.localtime", lambda *_: pytest.fail("the time is in the bytes"))
    zipapp.build.cache_clear()
    assert zipapp.build() == first


def test_it_runs_alone_and_lists_its_commands(program: Path) -> None:
    result = run(program, "--help")
    assert result.returncode == 0
    for command in (
        "rollout",
        "rollout-run",
        "recover",
        "follow",
        "status",
        "supervise",
        "valve",
        "repair",
        "rollback",
    ):
        assert f"\n    {command} " in result.stdout


@pytest.mark.parametrize("stdin", ["", "nonsense", "[]"])
def test_bad_input_is_reported_without_a_traceback(program: Path, stdin: str) -> None:
    result = run(program, "rollout", stdin=stdin)
    assert result.returncode == 1
    assert result.stderr.startswith("sparkfleet: stdin")
    assert "Traceback" not in result.stderr


def test_the_patterns_travel_with_it(program: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(program)!r}); from sparkfleet.onhost.gate import diagnosis;"
        "print(diagnosis.reader('vllm').diagnose('x: error: unrecognized arguments: --y', 2).diagnostic.code)"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip()


FETCH_DURING_AN_UPDATE = """
import sys, types
sys.path.insert(0, sys.argv[1])
from sparkfleet.onhost import main
from sparkfleet.runtimes import onhost

def run(*_):
    with open(sys.argv[1], "r+b") as program:
        program.write(bytes(1 << 20))
    onhost.images()
    return 0

main.stage.run = run
sys.exit(main._stage_run(types.SimpleNamespace(paths=None), types.SimpleNamespace(id="stage-1")))
"""


def test_a_fetch_continues_after_the_programs_were_replaced(program: Path) -> None:
    argv = (sys.executable, "-I", "-B", "-c", FETCH_DURING_AN_UPDATE, str(program))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_spark_needs_python_3_10_and_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            top = node.module or ""
            names = [f"{top}.{one.name}" for one in node.names] if top == "sparkfleet" else [top]
        for name in names:
            top = name.partition(".")[0]
            assert top in sys.stdlib_module_names or name.startswith(
                (
                    "sparkfleet.contract",
                    "sparkfleet.data_files",
                    "sparkfleet.engines",
                    "sparkfleet.onhost",
                    "sparkfleet.resources",
                    "sparkfleet.runtimes",
                )
            ), f"{path.name}: {name}"


def test_no_service_is_restarted_without_bounds() -> None:
    text = units.service_unit("nano", "nano", 2048, 60)
    assert "StartLimitIntervalSec=3600\nStartLimitBurst=3\n" in text
    assert "Restart=on-failure" in text
    assert "Requires=" not in text


def test_a_unit_has_room_for_the_engines_own_stop() -> None:
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(units.service_unit("nano", "nano", 2048, 300))
    assert int(parser["Service"]["TimeoutStopSec"]) > 300
    assert "--floor-mib 2048 --stop-timeout 300" in parser["Service"]["ExecStart"]


def test_a_description_can_neither_expand_nor_add_lines() -> None:
    text = units.service_unit("nano", "100% of\n[Service]\nUser=evil", 1, 1)
    assert "Description=100%% of [Service] User=evil\n" in text


@pytest.mark.parametrize("name", ["recover", "a b", "x\n[Service]"])
def test_a_bad_name_never_becomes_a_unit(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a service's name"):
        units.service_unit(name, "x", 1, 1)


@pytest.mark.parametrize(
    "text", [units.service_unit("nano", "x", 1, 1), units.recover_unit(), units.valve_script()]
)
def test_every_file_of_ours_carries_the_mark(text: str) -> None:
    assert units.MARK in text
