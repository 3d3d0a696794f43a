"""Shell completion: commands, inventories, hosts, clusters, recipes and terms."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from sparkfleet.cli import COMMANDS, cli
from sparkfleet.cli.completion import VARIABLE


@pytest.fixture(autouse=True)
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "inventories" / "home"
    (directory / "clusters").mkdir(parents=True)
    (directory / "recipes").mkdir()
    directory.with_name("home.py").write_text("")
    for name in ("spark-01.yaml", "spark-02.yaml", "clusters/pair.yaml"):
        (directory / name).write_text("serve: null\n")
    text = "recipe: our-own\nextends: gpt-oss-120b\n"
    (directory / "recipes" / "our-own.yaml").write_text(text)
    return directory


def complete(*args: str) -> list[str]:
    *before, incomplete = args
    found = ShellComplete(cli, {}, "sparkfleet", VARIABLE).get_completions(before, incomplete)
    return [item.value for item in found]


def test_commands_are_completed() -> None:
    assert complete("p") == ["plan", "prune"]
    assert set(complete("")) >= set(COMMANDS)


@pytest.mark.parametrize("command", ["plan", "check", "lock", "apply", "status", "render"])
def test_inventories_are_completed(command: str) -> None:
    assert complete(command, "") == [os.path.join("inventories", "home.py")]  # noqa: PTH118  (as it is typed)


def test_hosts_of_the_inventory_are_completed() -> None:
    assert complete("plan", "inventories/home.py", "--limit", "spark-0") == ["spark-01", "spark-02"]
    assert complete("render", "inventories/home.py", "") == ["spark-01", "spark-02"]


def test_clusters_of_the_inventory_are_completed() -> None:
    assert complete("fabric", "bench", "inventories/home.py", "") == ["pair"]


def test_recipes_of_catalog_and_fleet_are_completed() -> None:
    assert "gpt-oss-120b" in complete("catalog", "show", "gpt")
    assert complete("catalog", "show", "--fleet", "inventories/home.py", "our") == ["our-own"]


def test_terms_are_completed() -> None:
    assert complete("explain", "generat") == ["generation"]


def test_an_inventory_that_does_not_exist_completes_nothing() -> None:
    assert complete("render", "inventories/none.py", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert VARIABLE in result.output


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    script = CliRunner().invoke(cli, ["completion", "bash"]).output
    (tmp_path / "script").write_text(script)
    (tmp_path / "sparkfleet").write_text(f"#!{sys.executable}\nfrom sparkfleet.cli import main\nmain()\n")
    (tmp_path / "sparkfleet").chmod(0o755)
    line = (
        "source ./script; COMP_WORDS=(sparkfleet plan inventories/home.py --limit sp); COMP_CWORD=4; "
        "_sparkfleet_completion sparkfleet; echo ${COMPREPLY[*]}"
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["spark-01", "spark-02"]
