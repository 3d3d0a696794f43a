"""``sparkfleet upgrade``: newer templates reach a fleet directory, and no edit is lost unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sparkfleet import fleet_directory
from sparkfleet.cli import init
from sparkfleet.cli.upgrade import upgrade
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.exit_codes import Code
from sparkfleet.fleet_directory import RECORD

SERVE = "deploys/serve.py"
NEW = '"""The deploy of the next version."""\n'
Change = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A fleet directory as `init` of this version writes it."""
    CliRunner().invoke(init.init, ["--no-login", str(tmp_path), "--host", "spark-01=10.0.0.1"])
    return tmp_path


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Make the installed version one with these templates; None removes one."""
    original = fleet_directory.templates

    def change(version: str = "0.2.0", /, **texts: str | None) -> None:
        def templates(fleet: str, _: str, schemas: dict[str, str]) -> dict[str, str]:
            every = {**original(fleet, version, schemas), **texts}
            return {path: text for path, text in every.items() if text is not None}

        monkeypatch.setattr(fleet_directory, "templates", templates)
        monkeypatch.setattr("importlib.metadata.version", lambda _: version)

    return change


def run(directory: Path, *options: str, code: int = Code.OK, answers: str = "") -> str:
    done: Result = CliRunner().invoke(upgrade, [str(directory), *options], input=answers)
    if isinstance(done.exception, SparkfleetError):
        raise done.exception
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.output


def files(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()
    }


def test_the_directory_of_this_version_has_nothing_to_change(home: Path) -> None:
    before = files(home)
    assert run(home, "--dry") == ""
    assert "nothing to change" in run(home)
    assert files(home) == before


def test_a_changed_template_is_shown_and_replaces_a_file_without_edits(home: Path, release: Change) -> None:
    release(**{SERVE: NEW})
    shown = run(home, "--dry", code=Code.CHANGES)
    assert "-plan.show()\n" in shown
    assert f"+{NEW}" in shown
    assert '+      - run: pip install "sparkfleet==0.2.0"\n' in shown
    assert (home / SERVE).read_text() != NEW

    run(home, "-y")
    assert (home / SERVE).read_text() == NEW
    assert json.loads((home / RECORD).read_text())["version"] == "0.2.0"
    assert run(home, "--dry") == ""


@pytest.mark.provokes("template-edited")
def test_an_edited_file_stays_until_its_owner_decides(home: Path, release: Change) -> None:
    (home / SERVE).write_text("mine = True\n")
    assert run(home, "--dry") == ""  # its template has not changed

    release(**{SERVE: NEW})
    for _ in range(2):
        assert f"{SERVE}: you edited this file" in run(home, "-y", code=Code.ERROR)
        assert (home / SERVE).read_text() == "mine = True\n"
    assert "sparkfleet==0.2.0" in (home / ".github/workflows/fleet.yml").read_text()

    run(home, "--keep", SERVE)  # nothing is left to confirm, so no terminal is needed
    assert (home / SERVE).read_text() == "mine = True\n"
    assert run(home, "--dry") == ""


def test_an_edited_file_is_replaced_where_its_owner_says_so(home: Path, release: Change) -> None:
    (home / SERVE).write_text("mine = True\n")
    release(**{SERVE: NEW})
    run(home, "-y", "--replace", SERVE)
    assert (home / SERVE).read_text() == NEW


def test_an_option_for_a_file_without_a_decision_is_refused(home: Path, release: Change) -> None:
    release(**{SERVE: NEW})
    for option in ("--keep", "--replace"):
        assert "no file that you edited" in run(home, "-y", option, SERVE, code=2)  # click's own, here
    assert (home / SERVE).read_text() != NEW


def test_without_a_terminal_or_yes_nothing_is_changed(home: Path, release: Change) -> None:
    release(**{SERVE: NEW})
    before = files(home)
    with pytest.raises(SparkfleetError, match="-y or a terminal"):
        run(home)
    assert files(home) == before


def test_no_changes_nothing(home: Path, release: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    release(**{SERVE: NEW})
    before = files(home)
    monkeypatch.setattr("sparkfleet.cli.upgrade.click.confirm", lambda _: False)
    terminal(monkeypatch)
    assert "no file was changed" in run(home, code=Code.DECLINED)
    assert files(home) == before


@pytest.mark.parametrize("replace", [True, False])
def test_each_edited_file_is_asked_about(
    home: Path, release: Change, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    (home / SERVE).write_text("mine = True\n")
    release(**{SERVE: NEW})
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        return replace or "edits" not in question

    monkeypatch.setattr("sparkfleet.cli.upgrade.click.confirm", confirm)
    terminal(monkeypatch)
    run(home, code=Code.OK if replace else Code.ERROR)
    assert questions == ["Change 1 file?", f"{SERVE} has your edits. Replace it and lose them?"]
    assert (home / SERVE).read_text() == (NEW if replace else "mine = True\n")


def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command find a terminal on its standard input, which the runner replaces."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)


def test_new_files_arrive_and_removed_ones_go_unless_edited(home: Path, release: Change) -> None:
    release(**{"deploys/extra.py": NEW, "deploys/verify.py": None, "deploys/stage.py": None})
    (home / "deploys/stage.py").write_text("mine = True\n")
    run(home, "-y")
    assert (home / "deploys/extra.py").read_text() == NEW
    assert not (home / "deploys/verify.py").exists()
    assert (home / "deploys/stage.py").read_text() == "mine = True\n"


def test_a_file_that_its_owner_removed_stays_away(home: Path, release: Change) -> None:
    (home / "deploys/fabric.py").unlink()
    release(**{"deploys/fabric.py": NEW})
    run(home, "-y")
    assert not (home / "deploys/fabric.py").exists()


def test_a_link_is_left_alone(home: Path, release: Change, tmp_path_factory: pytest.TempPathFactory) -> None:
    checkout = tmp_path_factory.mktemp("checkout")
    (home / "deploys").rename(checkout / "deploys")
    (home / "deploys").symlink_to(checkout / "deploys")
    release(**{SERVE: NEW})
    run(home, "-y")
    assert (checkout / SERVE).read_text() != NEW


def test_host_files_and_what_is_not_a_template_are_never_touched(home: Path, release: Change) -> None:
    (home / "group_data" / "home.py").write_text("sparkfleet = {}\n")
    before = files(home)
    release(**{SERVE: NEW})
    run(home, "-y")
    after = files(home)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {SERVE, RECORD, ".github/workflows/fleet.yml"}


def test_a_directory_without_a_record_is_upgraded_and_its_edits_are_recognized(
    home: Path, release: Change
) -> None:
    (home / RECORD).unlink()
    (home / "config.py").write_text("mine = True\n")
    release(**{SERVE: NEW, "config.py": NEW, ".gitignore": "new\n"})
    assert "config.py: you edited this file" in run(home, "-y", code=Code.ERROR)
    assert (home / SERVE).read_text() == NEW
    assert (home / ".gitignore").read_text() == "new\n"
    assert (home / "config.py").read_text() == "mine = True\n"
    assert "sparkfleet==0.2.0" in (home / ".github/workflows/fleet.yml").read_text()
    assert json.loads((home / RECORD).read_text())["fleet"] == "home"


def test_a_record_is_written_where_nothing_else_is_missing(home: Path) -> None:
    text = (home / RECORD).read_text()
    (home / RECORD).unlink()
    run(home)
    assert (home / RECORD).read_text() == text


@pytest.mark.provokes("fleet-unknown")
@pytest.mark.parametrize("names", [[], ["home", "office"]])
def test_the_fleet_must_be_known(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "inventories").mkdir()
    for name in names:
        (tmp_path / "inventories" / f"{name}.py").write_text("")
    with pytest.raises(SparkfleetError, match="inventor"):
        run(tmp_path, "-y")
    assert not (tmp_path / RECORD).exists()


@pytest.mark.provokes("templates-newer")
def test_templates_of_a_newer_version_are_not_downgraded(home: Path, release: Change) -> None:
    release("0.2.0", **{SERVE: NEW})
    run(home, "-y")
    release("0.1.9", **{SERVE: "old\n"})
    with pytest.raises(SparkfleetError, match=r"those of sparkfleet 0\.2\.0"):
        run(home, "-y")
    assert (home / SERVE).read_text() == NEW


@pytest.mark.provokes("template-record-invalid")
@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1, "fleet": "x", "version": "?", "templates": {}}']
)
def test_a_record_that_cannot_be_read_is_named(home: Path, text: str) -> None:
    (home / RECORD).write_text(text)
    with pytest.raises(SparkfleetError, match=RECORD):
        run(home, "-y")


@pytest.mark.provokes("template-record-invalid")
@pytest.mark.parametrize("path", ["/etc/passwd", "schemas/../../host.py", ".."])
def test_a_record_with_a_path_outside_of_the_directory_removes_nothing(home: Path, path: str) -> None:
    outside = home.parent / "host.py"
    outside.write_text("mine = True\n")
    record = json.loads((home / RECORD).read_text())
    record["templates"][path] = "0" * 64
    (home / RECORD).write_text(json.dumps(record))
    with pytest.raises(SparkfleetError, match="paths within the directory"):
        run(home, "-y")
    assert outside.read_text() == "mine = True\n"


@pytest.mark.provokes("file-exists")
def test_a_directory_with_the_name_of_a_template_and_a_file_in_place_of_one_are_named(home: Path) -> None:
    (home / "config.py").unlink()
    (home / "config.py").mkdir()
    with pytest.raises(SparkfleetError, match=r"config\.py: a directory, expected a file"):
        run(home, "-y")
    (home / "config.py").rmdir()
    (home / "deploys").rename(home / "deploys.old")
    (home / "deploys").write_text("")
    with pytest.raises(SparkfleetError, match="deploys: a file, expected a directory"):
        run(home, "-y")
