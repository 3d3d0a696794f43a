"""What a run does depends on the operations alone: other words in the report change nothing of it."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract.history import RunContext
from sparkfleet.desired_state import Host, Prepare
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.operations import docker_install, fabric, host, service, verification
from sparkfleet.fleet.run import executor, fleet_run, run_context, spark_plan
from sparkfleet.fleet.run.fleet_run import FleetRun
from sparkfleet.fleet.run.progress import ProgressTable
from sparkfleet.fleet.staging import downloads
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import Command, FieldChange, HostPlan, Note, Plan, Step
from sparkfleet.plan.operations import OPERATIONS, UserDeploy
from sparkfleet.plan.report import plan_text
from sparkfleet.plan.service_commands import Request, command_plan
from sparkfleet.plan.verification import verify_plan
from sparkfleet.probe.observation import Observed, ObservedResources, User
from sparkfleet.resources.base import Resource
from tests.unit.plan import fake_spark, test_derived_images, test_docker_install, test_resource_changes
from tests.unit.plan import test_stops as to_stop
from tests.unit.plan import test_verification as to_verify
from tests.unit.plan.fabric import test_changes as links
from tests.unit.plan.fabric.fabric_fixtures import seen
from tests.unit.plan.nano import CONVERGED, HOST, with_service

USER = User("nvidia", "/home/nvidia", 1000, 1000, "nvidia")
EXECUTORS = {
    Step.DOCKER: docker_install.install,
    Step.HOST: host._prepare,
    Step.FABRIC: fabric._link,
    Step.IMAGE: downloads.fetch_all,
    Step.WEIGHTS: downloads.fetch_all,
    Step.SERVICE: service._execute_all,
    Step.VERIFY: verification._verify,
}
CACHES = Resource("compile_caches", "/cache", (("max_age_days", "40"),))
HTOP = Resource("package", "htop", (("version", "installed"),))


def drifted() -> Observed:
    """Return a host whose units were changed by hand."""
    name, recover = "sparkfleet-nano.service", "sparkfleet-recover.service"
    units = {
        name: replace(CONVERGED.units[name], enabled="disabled"),
        recover: replace(CONVERGED.units[recover], enabled="disabled", drop_ins={"/etc/x.conf": ""}),
    }
    return replace(CONVERGED, units=units)


def resources() -> tuple[Host, Observed]:
    """Return a host with one resource to apply, one to revert, and a compile cache to remove."""
    sysctl = test_resource_changes.SYSCTL
    live: dict[str, dict[str, Any]] = {
        sysctl.id: {"now": "60"},
        CACHES.id: {"caches": {"a" * 12: [5 << 30, 0, False]}, "now": 50 * 86400},
        HTOP.id: dict(HTOP.fields),
    }
    record = {HTOP.id: test_resource_changes.entry(HTOP, {"is": "absent"})}
    declared = Host("spark-01", prepare=Prepare(resources=(sysctl, CACHES)))
    bare = fake_spark.converged(declared)
    return declared, replace(bare, resources=ObservedResources(record, live), recorded=tuple(record))


def plans() -> Iterator[tuple[Host, HostPlan]]:
    """Yield plans that have operations of every type."""
    hosts: list[tuple[Host, Observed]] = [
        (HOST, fake_spark.fresh(HOST)),
        (with_service(port=8001), CONVERGED),
        (Host("spark-01"), CONVERGED),
        (HOST, drifted()),
        (test_derived_images.DERIVED, fake_spark.fresh(test_derived_images.DERIVED)),
        (links.host(), links.observed(seen())),
        resources(),
    ]
    for declared, observed in hosts:
        yield declared, host_plan(declared, observed)
    docker = test_docker_install.DECLARED
    yield docker, host_plan(docker, test_docker_install.without())
    down = to_stop.stopped(CONVERGED)
    for command, seen_there in (
        (Command.STOP, CONVERGED),
        (Command.RESTART, CONVERGED),
        (Command.START, down),
    ):
        yield HOST, command_plan(HOST, seen_there, HostPlan("spark-01"), Request(command))
    observed = to_verify.seen(to_verify.WHOLE, {})
    yield to_verify.HOST, verify_plan(to_verify.HOST, observed, HostPlan("spark-01"))


class _Run:
    """Executes plans, and records everything that the executors have a host do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[object] = []
        self.types: set[type] = set()
        self.monkeypatch = monkeypatch
        output = remote.CommandOutput(
            True, json.dumps({"done": [], "refused": [], "job": "a-job", "version": 1}) + "\n", ""
        )
        patch = monkeypatch.setattr
        patch(remote, "run", self._record("run", output))
        patch(remote, "program", self._record("program", output))
        patch(remote, "follow", lambda _host, _job, kind, *_, **__: kind.from_json({"outcome": "staged"}))
        patch(fleet_run, "plan_rest", lambda *_: None)
        patch(spark_plan, "login_user", lambda _: USER)
        patch(downloads, "_begun", self._fetch)
        patch(service, "new_id", lambda name: f"{name}-1")
        patch(run_context, "context", lambda *_: RunContext())  # the history has what the report shows
        patch(verification, "uuid4", lambda: SimpleNamespace(hex="0" * 32))
        patch(uuid, "uuid4", lambda: SimpleNamespace(hex="0" * 32))

    def _record(self, name: str, result: remote.CommandOutput) -> Any:
        def call(_: object, *args: object, **options: object) -> remote.CommandOutput:
            self.calls.append((name, args, options))
            return result

        return call

    def _fetch(self, _: object, __: object, key: str, step: Step) -> Any:
        self.calls.append(("fetch", key, step))
        return SimpleNamespace(over=SimpleNamespace(wait=lambda: None), error=None)

    def execute(self) -> str:
        """Execute all plans; return their reports."""
        report = ""
        for declared, plan in plans():
            connected = SimpleNamespace(name=declared.name, data={}, connector=None)
            self.monkeypatch.setattr(spark_plan, "declared", lambda _, own=declared: own)
            board = ProgressTable(terminal=False, echo=lambda _: None)
            state: Any = SimpleNamespace(sparkfleet_run=FleetRun(plans={declared.name: plan}, board=board))
            for step, execute in EXECUTORS.items():
                operations = plan.operations(step)
                self.types |= {type(one) for one in operations}
                if operations:
                    with contextlib.suppress(executor.FailedError):
                        execute(executor.RunContext(state, connected), operations)  # type: ignore[arg-type]
            report += plan_text(Plan((plan,)))
        return report


def test_a_run_does_the_same_whatever_the_report_calls_things(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _Run(monkeypatch)
    report = plain.execute()
    assert plain.types == set(OPERATIONS) - {UserDeploy}

    def scramble(described: type) -> None:
        original: Any = vars(described)["__init__"]

        def init(self: object, first: object, *texts: object, **named: object) -> None:
            changed = {name: f"?{one}?" if isinstance(one, str) else one for name, one in named.items()}
            original(self, first, *(f"?{text}?" for text in texts), **changed)

        monkeypatch.setattr(described, "__init__", init)

    scramble(FieldChange)
    scramble(Note)
    scrambled = _Run(monkeypatch)
    assert scrambled.execute() != report
    assert scrambled.calls == plain.calls
    assert len(plain.calls) > len(OPERATIONS)
