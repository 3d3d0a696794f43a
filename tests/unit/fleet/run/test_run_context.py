"""From what a run began: the deploy, the commit, uncommitted changes, and the fields that change."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sparkfleet.fleet.run import run_context
from sparkfleet.plan.model import Action, FieldChange


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "inventories" / "home").mkdir(parents=True)
    (tmp_path / "inventories" / "home" / "spark-01.yaml").write_text("serve: []\n")
    for args in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run(("git", *args), cwd=tmp_path, check=True)
    return tmp_path


def test_the_commit_of_the_fleet_directory_and_whether_it_is_dirty(repository: Path) -> None:
    directory = repository / "inventories" / "home"
    head = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert run_context.fleet_commit.__wrapped__(str(directory)) == (head, False)
    (directory / "spark-01.yaml").write_text("serve: gpt-oss-20b\n")
    assert run_context.fleet_commit.__wrapped__(str(directory)) == (head, True)


def test_a_directory_outside_of_git_has_no_commit(tmp_path: Path) -> None:
    assert run_context.fleet_commit.__wrapped__(str(tmp_path / "none")) == ("", False)


def test_changes_are_texts_and_bounded() -> None:
    changes = tuple(
        FieldChange(Action.CHANGE, "flag", f"--f{number}", "1", "x" * 1000) for number in range(100)
    )
    context = run_context.context("", changes)
    assert len(context.changes) == run_context.MAX_CHANGES + 1
    assert context.changes[-1] == "and 60 more"
    assert context.changes[0].startswith("~ flag --f0 1 → x")
    assert max(map(len, context.changes)) <= run_context.LONGEST


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["pyinfra", "inventories/home.py", "deploys/serve.py", "-y"], "serve"),
        (
            [
                "pyinfra",
                "--config",
                "config.py",
                "inventories/home.py",
                "deploys/rollback.py",
                "--data",
                "to=x",
            ],
            "rollback",
        ),
        (["sparkfleet"], ""),
    ],
)
def test_a_run_is_named_by_its_deploy(argv: list[str], name: str) -> None:
    assert run_context.command_name(argv) == name
