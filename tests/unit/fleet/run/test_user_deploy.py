"""The fleet's own deploy file: rows for what would change, and a reason where that cannot be known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api.config import Config
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_state

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.fleet.run import user_deploy
from sparkfleet.plan.blockers import MOUNT_MISSING
from sparkfleet.plan.model import ChangeSet, HostPlan, Step

FILE = """\
from pyinfra import host
from pyinfra.operations import files, server

files.directory(name="There", path={there!r})
files.directory(name="Not there", path={missing!r})
server.shell(commands=["echo password-in-a-command"])
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[PyinfraHost]:
    """This machine, by pyinfra's local connector, beside one that nobody asks."""
    state = State(Inventory((["@local", "other.example"], {})), Config(), check_for_changes=False)
    state.cwd = str(tmp_path)
    with ctx_state.use(state):
        one, other = state.inventory
        one.connect()
        for each in (one, other):
            state.activate_host(each)
        yield one


def planned(host: PyinfraHost, path: Path, text: str) -> ChangeSet | Diagnostic | None:
    path.write_text(text)
    return user_deploy.prepare(host.state, host, path)


def test_each_operation_that_would_change_something_is_a_row_by_its_name(
    host: PyinfraHost, tmp_path: Path
) -> None:
    text = FILE.format(there=str(tmp_path), missing=str(tmp_path / "new"))
    found = planned(host, tmp_path / "user_deploy.py", text)
    assert isinstance(found, ChangeSet)
    assert [row.key for row in found.fields()] == ["Not there", "server.shell"]
    assert "password" not in repr(found)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["server.shell(commands=['mount /data'])", "pass"])
def test_operations_may_create_what_a_container_mounts(host: PyinfraHost, tmp_path: Path, text: str) -> None:
    (tmp_path / "user_deploy.py").write_text(f"from pyinfra.operations import server\n{text}\n")
    missing = Diagnostic("spark-01: /data", "it does not exist", code=MOUNT_MISSING)
    taken = Diagnostic("spark-01: port 8000", "held by another", code="port-in-use")
    shown = HostPlan(
        "@local", (ChangeSet("a", blocked=missing), ChangeSet("b", blocked=combine(missing, taken)))
    )
    plan = user_deploy.add_user_deploy(
        shown, host.state, host, str(tmp_path / "spark-01.yaml"), (Step.USER_DEPLOY,)
    )
    if text == "pass":
        assert plan == shown
    else:
        assert [one.blocked for one in plan.change_sets] == [None, None, taken]


def test_operations_that_change_nothing_are_no_entry(host: PyinfraHost, tmp_path: Path) -> None:
    text = FILE.format(there=str(tmp_path), missing=str(tmp_path)).replace("server.shell", "# ")
    assert planned(host, tmp_path / "user_deploy.py", text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("from pyinfra.operations import files\nfiles.directory(path=1, wrong=2)\n", "TypeError"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_a_file_that_breaks_is_a_reason_and_no_end_of_the_run(
    host: PyinfraHost, tmp_path: Path, text: str, message: str
) -> None:
    found = planned(host, tmp_path / "user_deploy.py", text)
    assert isinstance(found, Diagnostic)
    assert message in found.message
    assert "user_deploy.py" in found.location


@pytest.mark.provokes("user-deploy-failed")
def test_a_fact_that_fails_leaves_the_host_unknown(host: PyinfraHost, tmp_path: Path) -> None:
    lines = ("from pyinfra import host", "from pyinfra.facts.server import Command")
    text = "\n".join((*lines, "host.get_fact(Command, 'exit 3')"))
    found = planned(host, tmp_path / "user_deploy.py", text)
    assert isinstance(found, Diagnostic)
    assert found.message == "a fact that it uses could not be read"


def test_the_file_is_looked_for_beside_the_host_file(tmp_path: Path) -> None:
    assert user_deploy.file_of(str(tmp_path / "spark-01.yaml")) is None
    (tmp_path / "user_deploy.py").write_text("")
    assert user_deploy.file_of(str(tmp_path / "spark-01.yaml")) == tmp_path / "user_deploy.py"
