"""Diagnostics of a run that have no other test, each with its code."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sparkfleet import cli
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.fleet.connection import probe, remote, sudo
from sparkfleet.fleet.operations import host
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan.model import HostPlan
from sparkfleet.probe.command import NO_PYTHON

HOST = cast("Any", SimpleNamespace(name="spark-01"))


def ask_probe(monkeypatch: pytest.MonkeyPatch, response: Any) -> Diagnostic:
    def ask(*_args: Any, **_kwargs: Any) -> Any:
        if isinstance(response, Exception):
            raise response
        return True, SimpleNamespace(stdout_lines=[response], stderr_lines=[])

    monkeypatch.setattr(sudo, "password", lambda _: "")
    monkeypatch.setattr(probe, "probe_command", lambda *_: "probe")
    monkeypatch.setattr(probe, "run_shell", ask)
    found = probe._ask(HOST, cast("Any", None))
    assert isinstance(found, Diagnostic)
    return found


@pytest.mark.provokes("login-shell-silent")
def test_a_login_that_does_not_run_the_probe_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "This account is not available" in ask_probe(monkeypatch, "This account is not available").message


@pytest.mark.provokes("python-missing")
def test_a_spark_without_python_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ask_probe(monkeypatch, f"Welcome\n{NO_PYTHON}").hint == "sudo apt-get install python3"


@pytest.mark.provokes("host-change-failed")
def test_a_script_that_fails_on_a_host_shows_its_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = remote.CommandOutput(False, "", "mktemp: ok\nmv: Read-only file system\n")
    monkeypatch.setattr(remote, "run", lambda *_, **__: failed)
    with pytest.raises(executor.FailedError, match="preparing the host failed: mv: Read-only file system"):
        host.run_script(HOST, ["true"])


@pytest.mark.provokes("connection-lost")
def test_a_connection_that_ends_during_the_probe_is_named_with_the_next_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ask_probe(monkeypatch, EOFError("gone")).hint == "ssh spark-01 true; then run again"


@pytest.mark.provokes("host-changed-since-plan")
def test_a_host_that_changed_since_the_plan_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = HostPlan("spark-01", unknown=Diagnostic("spark-01", "down", code="ssh-unreachable"))
    run = SimpleNamespace(probed={"spark-01": shown}, steps=())
    monkeypatch.setattr(spark_plan, "fresh_plan", lambda *_: HostPlan("spark-01"))
    acting = cast("Any", SimpleNamespace(run=run, host=SimpleNamespace(name="spark-01")))
    with pytest.raises(executor.FailedError, match="changed since the plan"):
        executor.refuse_stale(acting)


@pytest.mark.provokes("command-not-installed")
def test_a_command_of_another_distribution_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "PLUGINS", {"other": ("sparkfleet-other", "")})
    with pytest.raises(SparkfleetError, match="pip install"):
        cli.plugin("other")


@pytest.mark.provokes("operation-failed")
def test_an_unexpected_error_fails_the_operations_of_one_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_acting: Any) -> None:
        raise ValueError("out of ideas")

    board = SimpleNamespace(host=lambda _: nullcontext())
    run = SimpleNamespace(board=board, failures={}, begin=lambda _: None)
    monkeypatch.setattr(executor, "RunContext", lambda *_: SimpleNamespace(run=run, log=lambda _: None))
    monkeypatch.setattr(executor, "refuse_stale", fail)
    nothing = cast("Any", None)
    assert not executor._execute_safely(nothing, HOST, nothing, nothing, ())
    assert [one.message for one in run.failures["spark-01"]] == ["ValueError: out of ideas"]
