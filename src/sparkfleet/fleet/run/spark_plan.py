"""Plan of one host from a fresh probe, and its login user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from weakref import WeakKeyDictionary

import click
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.state import State

from sparkfleet import interrupts
from sparkfleet.contract.codec import NEWER
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.contract.rollout import UNREADABLE, RolloutResult
from sparkfleet.desired_state import Host, host_from_json
from sparkfleet.fleet.connection import remote, secrets
from sparkfleet.fleet.connection.probe import observe
from sparkfleet.fleet.run import host_errors
from sparkfleet.plan import resource_changes
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import EVERY_STEP, HostPlan, Step
from sparkfleet.plan.verification import AGAIN, verify_plan
from sparkfleet.probe.observation import Observed, User

REPROBE_FOR_S = 20
"""Seconds of attempts to reconnect after a probe whose connection broke."""


_DECLARED: WeakKeyDictionary[PyinfraHost, Host] = WeakKeyDictionary()
"""Inventories do not change during a run."""


Planner = Callable[[PyinfraHost], HostPlan]
_PLANNERS: WeakKeyDictionary[State, Planner] = WeakKeyDictionary()


def use_planner(state: State, planner: Planner) -> None:
    """Have every plan of a run made by this function instead of from the declaration."""
    _PLANNERS[state] = planner


def declared(host: PyinfraHost) -> Host:
    """Return what the inventory declares for a host."""
    if host not in _DECLARED:
        _DECLARED[host] = host_from_json(host.data.get("sparkfleet"))
    return _DECLARED[host]


def login_user(host: PyinfraHost) -> User:
    """Return the login user of a Spark with home and ids."""
    output = remote.run(host, ("/bin/sh", "-c", 'u=${SUDO_USER:-root}; getent passwd "$u"; id -gn "$u"'))
    if not output.ok:
        message = f"the login user is unknown: {output.err.strip()}"
        raise SparkfleetError(Diagnostic(host.name, message, hint="run again", code="login-shell-silent"))
    entry, group = output.out.splitlines()
    name, _, uid, gid, _, home, _ = entry.split(":")
    return User(name, home, int(uid), int(gid), group)


def fresh_plan(host: PyinfraHost, steps: tuple[Step, ...] = EVERY_STEP) -> HostPlan:
    """Probe the Spark and return the plan of these steps; after any error it is unknown."""
    planner = _PLANNERS.get(host.state)
    if planner is not None:
        return planner(host)
    try:
        return _probed_plan(host, steps)
    except Exception as error:  # noqa: BLE001  (a failure of one host must not stop another)
        return HostPlan(host.name, unknown=host_errors.host_diagnostic(host.name, error))


def _probed_plan(host: PyinfraHost, steps: tuple[Step, ...]) -> HostPlan:
    spec = declared(host)
    request = probe_request(spec)
    observed = probed(host, request)
    if isinstance(observed, Observed) and (kinds := resource_changes.undeclared_kinds(request, observed)):
        # Resources of these kinds are recorded on the Spark, but no longer declared.
        request = replace(request, resources=request.resources or (), recorded_kinds=kinds)
        observed = probed(host, request)
    if isinstance(observed, Observed) and request.resources:
        observed = secrets.compare(spec, observed)
    whole = host_plan(spec, observed)
    if Step.VERIFY in steps and isinstance(observed, Observed):
        return verify_plan(spec, observed, whole, again=bool(host.data.get(AGAIN)))
    return whole.within(steps)


def probed(host: PyinfraHost, request: ProbeRequest) -> Observed | Diagnostic:
    """Probe; if the connection breaks, reconnect and probe once more."""
    observed = observe(host, request)
    if isinstance(observed, Diagnostic) and remote.connection_was_lost(host):
        remote.reconnect(host, REPROBE_FOR_S)
        observed = observe(host, request)
    return observed


def plan_after(host: PyinfraHost, rollout: str, steps: tuple[Step, ...]) -> HostPlan:
    """Follow the rollout of an earlier run to its end, then plan the rest."""

    def report(text: str) -> None:
        click.echo(f"{host.name}   following {rollout}: {text}", err=True)

    def follow() -> RolloutResult:
        return remote.follow(
            host, rollout, RolloutResult, report, lambda event: report(event.text or event.phase)
        )

    try:
        with interrupts.changing(host.name, f"rollout {rollout}"):
            result = follow()
            if _is_newer(result):
                report(
                    "a newer sparkfleet began it; updating the programs on the host, which cannot continue it"
                )
                remote.update_programs(host)
                result = follow()
        if _is_newer(result) and result.diagnostic:
            where = f"{host.name}: {result.diagnostic.location}"
            return HostPlan(host.name, unknown=replace(result.diagnostic, location=where))
        report(result.text or result.cause)
        if result.outcome == UNREADABLE and result.diagnostic:
            report(f"do: {result.diagnostic.hint}")
    except Exception as error:  # noqa: BLE001  (a failure of one host must not stop another)
        return HostPlan(host.name, unknown=host_errors.host_diagnostic(host.name, error))
    return fresh_plan(host, steps)


def _is_newer(result: RolloutResult) -> bool:
    """Return whether the programs on the host are too old for a rollout."""
    return result.diagnostic is not None and result.diagnostic.code == NEWER
