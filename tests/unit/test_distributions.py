"""Two distributions come from this repository: sparkfleet, and its lab as a plug-in."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import hatchling.build
import pytest

import sparkfleet.cli

ROOT = Path(__file__).parents[2]


def built(project: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> zipfile.ZipFile:
    monkeypatch.chdir(project)
    return zipfile.ZipFile(into / hatchling.build.build_wheel(str(into)))


def test_the_wheel_of_sparkfleet_has_no_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = built(ROOT, tmp_path, monkeypatch).namelist()
    assert "sparkfleet/cli/__init__.py" in names
    assert [name for name in names if "lab/" in name or "rootfs" in name or "standin" in name] == []


def test_the_wheel_of_the_lab_has_its_machines_and_stand_ins_but_not_sparkfleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = built(ROOT / "lab", tmp_path, monkeypatch).namelist()
    assert {"sparkfleet_lab/rootfs/usr/local/bin/nvidia-smi", "sparkfleet_lab/standins/hub/server.py"} <= set(
        names
    )
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sparkfleet_lab"}


def test_both_distributions_have_one_version_and_ask_for_each_other() -> None:
    product, lab = (
        tomllib.loads(path.read_text())["project"]
        for path in (ROOT / "pyproject.toml", ROOT / "lab" / "pyproject.toml")
    )
    assert lab["version"] == product["version"]
    assert lab["dependencies"] == [f"sparkfleet=={product['version']}"]
    assert product["optional-dependencies"]["lab"] == [f"sparkfleet-lab=={product['version']}"]


def test_the_installed_lab_is_a_command_of_sparkfleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(ROOT / "lab", tmp_path, monkeypatch).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", "from sparkfleet.cli import main; main()", "lab", "--help"],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Start machines, registry and hub." in done.stdout


def test_without_the_lab_its_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    monkeypatch.setattr(sys, "argv", ["sparkfleet", "lab", "up"])
    with pytest.raises(SystemExit) as exit_:
        sparkfleet.cli.main()
    assert exit_.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "sparkfleet lab: the command is not installed" in captured.err
    assert 'pip install "sparkfleet[lab]"' in captured.err


def test_the_lab_fleets_settings_are_empty_without_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sparkfleet_lab", None)
    monkeypatch.delitem(sys.modules, "sparkfleet_lab.settings", raising=False)
    settings = runpy.run_path(str(ROOT / "group_data" / "lab.py"))
    assert {name for name in settings if not name.startswith("_")} == set()
