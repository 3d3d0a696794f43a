"""Sparks whose programs answer from a table: for operations that ask them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract.codec import Document
from sparkfleet.contract.stage import StageResult
from sparkfleet.desired_state import Host
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.fleet.run.fleet_run import FleetRun
from sparkfleet.fleet.run.progress import ProgressTable
from sparkfleet.plan.model import HostPlan
from sparkfleet.probe.observation import User

Reply = Callable[[str, tuple[str, ...], Any], remote.CommandOutput]


def output(data: Any) -> remote.CommandOutput:
    """Return the answer of a program that ended well."""
    return remote.CommandOutput(True, json.dumps(data) + "\n", "")


def refused(text: str) -> remote.CommandOutput:
    """Return the answer of a program that ended badly."""
    return remote.CommandOutput(False, "", text)


@dataclass
class Sparks:
    """Every call of a program is kept, in order: Spark, program and its args."""

    declared: dict[str, Host]
    replies: dict[str, Any] = field(default_factory=dict)
    """By program: its answer, or what is raised, or a function of Spark, args and data."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """Ends of the jobs, in order; ``staged`` when there are none left."""
    calls: list[tuple[str, ...]] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)
    """What the calls gave to the programs."""
    log: list[str] = field(default_factory=list)
    state: Any = None

    def __post_init__(self) -> None:
        self.hosts: dict[str, Any] = {name: SimpleNamespace(name=name) for name in self.declared}
        self.state = SimpleNamespace(inventory=SimpleNamespace(get_host=lambda name: self.hosts[name]))
        self.run = FleetRun(
            plans={name: HostPlan(name) for name in self.hosts}, board=ProgressTable(False, self.log.append)
        )
        self.state.sparkfleet_run = self.run

    def act(self, name: str) -> executor.RunContext:
        return executor.RunContext(self.state, self.hosts[name])

    def program(
        self, host: Any, name: str, *args: str, data: Any = None, timeout: int = 0
    ) -> remote.CommandOutput:
        del timeout
        self.calls.append((host.name, name, *args))
        data = data.to_json() if isinstance(data, Document) else data
        self.sent.append(data)
        reply = self.replies.get(name, output({"job": "a-job"}))
        if isinstance(reply, Exception):
            raise reply
        found = reply(host.name, args, data) if callable(reply) else reply
        assert isinstance(found, remote.CommandOutput)
        return found

    def requests(self, program: str) -> list[Any]:
        """Return what the calls of a program gave to it."""
        return [data for call, data in zip(self.calls, self.sent, strict=True) if call[1] == program]

    def watch(self, act: executor.RunContext, job: str, subject: str) -> StageResult:
        assert subject == "fetch"
        assert any(call[:2] == (act.host.name, "stage") for call in self.calls), f"{job} was not begun"
        return StageResult.from_json(self.results.pop(0) if self.results else {"outcome": "staged"})


def patched(monkeypatch: pytest.MonkeyPatch, sparks: Sparks) -> Sparks:
    """Let the operations talk to these Sparks."""
    monkeypatch.setattr(remote, "program", sparks.program)
    monkeypatch.setattr(spark_plan, "declared", lambda host: sparks.declared[host.name])

    def watch(act: executor.RunContext, job: str, subject: str, _: type[StageResult]) -> StageResult:
        return sparks.watch(act, job, subject)

    monkeypatch.setattr(executor.RunContext, "watch", watch)
    user = User("nvidia", "/home/nvidia", 1000, 1000, "nvidia")
    monkeypatch.setattr(spark_plan, "login_user", lambda _: user)
    return sparks
