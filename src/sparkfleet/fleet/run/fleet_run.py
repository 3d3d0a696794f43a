"""One pyinfra run over a fleet: the plan, shown once before any change; the results, shown last.

pyinfra prepares every host separately; this module has the state of the whole fleet.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import click
from gevent.event import Event
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.state import BaseStateCallback, State

from sparkfleet import data_files, gc_control, interrupts
from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import Member, host_from_json
from sparkfleet.fleet.connection.unreachable import connect_diagnostic
from sparkfleet.fleet.run import mirror_gaps, user_deploy
from sparkfleet.fleet.run.progress import ProgressTable, on_terminal
from sparkfleet.fleet.run.spark_plan import declared, fresh_plan, plan_after
from sparkfleet.fleet.run.summary import Outcome
from sparkfleet.plan import fleet_staging, parity, waiting
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.model import EVERY_STEP, STEP_TITLES, HostPlan, HostState, Plan, Step
from sparkfleet.plan.report import host_lines, plan_text
from sparkfleet.terminal import colour_setting, echo_diagnostic, echo_report, echo_rows

# paramiko logs a traceback when a server closes the connection; the report has the reason.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_ATTRIBUTE = "sparkfleet_run"
APPROVED = "SPARKFLEET_APPROVED_PLAN"
"""Environment variable of a run whose plan was shown and approved before: JSON, host -> fingerprint."""


@dataclass
class Fetch:
    """The transfer of one artifact to one host. ``over`` is set when it has ended, in success or failure."""

    over: Event = field(default_factory=Event)
    error: Exception | None = None


@dataclass
class ClusterRollout:
    """A rollout of a cluster: what the rollouts of its members share, and which members are ready."""

    rollout_id: str
    cluster_key: str = field(repr=False)
    ready: set[str] = field(default_factory=set)


@dataclass
class Turns:
    """Rollouts of a run with ``--serial``, by host or cluster (``turns.name_of``)."""

    ended: set[tuple[str, str]] = field(default_factory=set)
    """Host, and whose turn has ended there."""
    failed: list[str] = field(default_factory=list)


@dataclass
class ClusterStop:
    """The stop of a cluster: which members are ready for it, and which have ended it."""

    ready: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)


@dataclass
class FleetRun:
    """What is known of a run: mutable, since the greenlets of the hosts fill it in."""

    plans: dict[str, HostPlan] = field(default_factory=dict)
    probed: dict[str, HostPlan] = field(default_factory=dict)
    """Each host's plan as computed from its own probe, before the plans of a cluster's members are joined."""
    cluster_rollouts: dict[str, ClusterRollout] = field(default_factory=dict)
    """By cluster: its rollout in this run."""
    cluster_stops: dict[str, ClusterStop] = field(default_factory=dict)
    """By cluster: its stop in this run."""
    unreachable: dict[str, Diagnostic] = field(default_factory=dict)
    """Why a host has no answer: no connection, or an error in the middle of its work."""
    failures: dict[str, tuple[Diagnostic, ...]] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)
    blocked: dict[str, tuple[Diagnostic, ...]] = field(default_factory=dict)
    """Why a part of a host's plan is not executed, where the rest is."""
    done: dict[tuple[str, str], str] = field(default_factory=dict)
    """Host and subject (a service) -> result."""
    changed: set[str] = field(default_factory=set)
    """Hosts on which something was executed without an error."""
    started: float = field(default_factory=time.monotonic)
    refusals: dict[str, tuple[Diagnostic, ...]] = field(default_factory=dict)
    """Why hosts were not changed at all, as the plan shows."""
    own_operations: set[str] = field(default_factory=set)
    """pyinfra's hashes of the operations of sparkfleet."""
    user_operations: set[str] = field(default_factory=set)
    """The same of the fleet's own deploy file."""
    executes_own: bool = False
    """Whether the operation that pyinfra executes now is one of sparkfleet."""
    begun_steps: set[Step] = field(default_factory=set)
    shown: bool = False
    disconnected: set[str] = field(default_factory=set)
    board: ProgressTable = field(default_factory=lambda: ProgressTable(on_terminal()))
    warnings: tuple[Diagnostic, ...] = ()
    """What several hosts have in common or not, and should not or should."""
    steps: tuple[Step, ...] = EVERY_STEP
    """The steps of this run; no other is shown or executed."""
    sources: fleet_staging.Sources = field(default_factory=dict)
    """By host and artifact: the source, as shown."""
    fetches: dict[tuple[str, str], Fetch] = field(default_factory=dict)
    """Transfers that have begun, by host and artifact."""
    substitutes: dict[str, list[str]] = field(default_factory=dict)
    """Key -> Sparks that download it because its sender failed."""
    exports: dict[tuple[str, str], int] = field(default_factory=dict)
    """Host and image -> number of Sparks that receive the image from a file there now."""
    done_steps: set[tuple[str, Step]] = field(default_factory=set)
    """Host and step, for steps that were executed or had nothing to do."""
    closing: bool = True
    """Whether failures are printed at the end: not for a plan, whose report has them."""

    def begin(self, step: Step) -> None:
        """Print the number of a step, when the first host begins it; nothing in a run of one step."""
        plans = [plan for plan in self.plans.values() if not plan.unknown]
        planned = [one for one in Step if any(plan.operations(one) for plan in plans)]
        if step in self.begun_steps or step not in planned:
            return
        self.begun_steps.add(step)
        if len(planned) > 1:
            number = planned.index(step) + 1
            self.board.title(f"step {number} of {len(planned)}: {STEP_TITLES[step]}")

    def reports(self, state: State) -> bool:
        """Return whether the plan has every operation of the run: none is of another deploy."""
        return self.shown and set(state.get_op_order()) <= self.own_operations | self.user_operations

    def no_connection(self, name: str) -> Diagnostic:
        """Return why a host was not reached."""
        unnamed = Diagnostic(name, "it could not be reached", hint="see above", code="ssh-unreachable")
        return self.unreachable.get(name, unnamed)


def known_run(state: State) -> FleetRun | None:
    """Return the run that belongs to a pyinfra state, if there is one yet."""
    run: FleetRun | None = getattr(state, _ATTRIBUTE, None)
    return run


def run_of(state: State) -> FleetRun:
    """Return the run that belongs to a pyinfra state, made on first use."""
    run = known_run(state)
    if run is None:
        run = FleetRun()
        setattr(state, _ATTRIBUTE, run)
        state.add_callback_handler(_Results())
    return run


def show_plan(state: State, host: PyinfraHost) -> None:
    """Plan one host; after the last one, print the report and fail the hosts that cannot be changed.

    Raises PyinfraError when no host is left.
    """
    run = run_of(state)
    if host.name in run.plans:
        return
    plan = fresh_plan(host, run.steps)
    if plan.rollout_in_progress and "--dry" not in sys.argv:
        plan = plan_after(host, plan.rollout_in_progress, run.steps)
    before = len(host.op_hash_order)
    run.plans[host.name] = user_deploy.add_user_deploy(plan, state, host, declared(host).file, run.steps)
    run.user_operations.update(host.op_hash_order[before:])
    expected = {active.name for active in state.inventory.get_active_hosts()}
    if run.shown or not expected <= run.plans.keys():
        return
    run.shown = True
    complete_plans(state)
    whole = whole_plan(state)
    changed = _changed_since_approval(whole)
    if changed or APPROVED not in os.environ:
        echo_report(plan_text(whole), err="--json" in sys.argv)
    reasons = {name: reasons_of(own) for name, own in run.plans.items() if own.state in _STOPPED}
    run.blocked = {name: found for name, found in reasons.items() if run.plans[name].proceeds}
    # They stay in the run, and pyinfra ends with 1 for them.
    state.failed_hosts.update(host for host in state.inventory if host.name in run.blocked)
    run.refusals = {name: found for name, found in reasons.items() if name not in run.blocked}
    fail_hosts(state, run.refusals | {name: (stale_diagnostic(name),) for name in changed})


def _changed_since_approval(plan: Plan) -> set[str]:
    """Return the hosts on which a run would change something else than what was approved."""
    if APPROVED not in os.environ:
        return set()
    try:
        approved = codec.parse(dict[str, str], os.environ[APPROVED], APPROVED)
    except codec.ContractError as error:
        echo_diagnostic(error.diagnostic)
        approved = {}
    changing = [host for host in plan.hosts if host.proceeds]
    return {host.host for host in changing if approved.get(host.host) != host.fingerprint}


def stale_diagnostic(host: str) -> Diagnostic:
    """Return the refusal of a plan that is not current any more."""
    return Diagnostic(
        host,
        "the host changed since the plan was shown",
        "what the plan was computed from",
        "run again: the new plan shows what differs now",
        code="host-changed-since-plan",
    )


def plan_rest(host: PyinfraHost, state: State) -> None:
    """Plan a host again during a run, after its Docker installation, and show that plan.

    Raise SparkfleetError when the host must not be changed further.
    """
    run = run_of(state)
    plan = run.plans[host.name] = fresh_plan(host, run.steps)
    lines = (f"{host.name}   remaining plan:", *host_lines(plan))
    echo_report("\n".join(lines), err="--json" in sys.argv)
    if plan.state in _STOPPED:
        raise SparkfleetError(*reasons_of(plan))


def reasons_of(plan: HostPlan) -> tuple[Diagnostic, ...]:
    """Return why a host must not be changed, each reason once."""
    if plan.unknown:
        return (plan.unknown,)
    return tuple(dict.fromkeys(one for own in plan.change_sets if own.blocked for one in own.blocked.each))


_STOPPED = {HostState.UNKNOWN, HostState.BLOCKED}


def complete_plans(state: State) -> None:
    """Join the plans of each cluster's members, and add the source of each artifact, once all are known."""
    run = run_of(state)
    run.probed = dict(run.plans)
    declarations = (host.data.get("sparkfleet") or {} for host in state.inventory)
    members = {
        one["name"]: codec.read(Member, one["member"], "host data")
        for one in declarations
        if one.get("member")
    }
    _block_dependents(state, members)
    run.warnings = parity.warnings(whole_plan(state).hosts, members)
    if not any(True for plan in run.plans.values() for _ in fleet_staging.fetches(plan)):
        return
    active = [host for host in state.inventory if host.name in run.plans]
    hosts = {host.name: declared(host) for host in active}
    run.sources = fleet_staging.choose_sources(hosts, [run.plans[host.name] for host in active])
    lacks = mirror_gaps.gaps(hosts, run.sources)
    run.plans = {
        name: fleet_staging.apply_sources(plan, run.sources, lacks) for name, plan in run.plans.items()
    }
    _block_dependents(state, members)


def _block_dependents(state: State, members: Mapping[str, Member]) -> None:
    """Block what depends on a blocked change: on its host, and on the other members of its cluster."""
    run = run_of(state)
    alone = [waiting.block_dependents(plan) for plan in whole_plan(state).hosts]
    joined = join_members(alone, members)
    run.plans = {name: waiting.block_dependents(joined[plan.host]) for name, plan in run.plans.items()}


def whole_plan(state: State) -> Plan:
    """Return the plan of every host of the run in the inventory's order; unreachable ones are unknown."""
    run = run_of(state)
    plans = []
    for host in state.inventory:
        if not state.is_host_in_limit(host):
            continue
        plans.append(run.plans.get(host.name) or HostPlan(host.name, unknown=run.no_connection(host.name)))
    return Plan(tuple(plans), data_files.update_version(), run.warnings)


def fail_hosts(state: State, reasons: Mapping[str, tuple[Diagnostic, ...]]) -> None:
    """Remove hosts from the run. The others continue; without any left, pyinfra ends the run."""
    hosts = {host for host in state.inventory.get_active_hosts() if host.name in reasons}
    run_of(state).failures.update(reasons)
    state.fail_hosts(hosts)


class _Results(BaseStateCallback):
    """Prints the results when the last host is disconnected: what failed, and what to do."""

    @staticmethod
    def host_connect_error(state: State, host: PyinfraHost, error: Exception) -> None:
        """Record why a host could not be reached."""
        run_of(state).unreachable[host.name] = connect_diagnostic(host.name, host.data.dict(), error)

    @staticmethod
    def operation_start(state: State, op_hash: str) -> None:
        """Resume garbage collection: from here on, downloads and engines take the time."""
        gc_control.resume()
        run = run_of(state)
        run.executes_own = op_hash in run.own_operations
        if not run.executes_own:
            run.begin(Step.USER_DEPLOY)

    @staticmethod
    def operation_host_start(state: State, host: PyinfraHost, op_hash: str) -> None:
        """Name an operation of the fleet's own file at Ctrl-C; those of sparkfleet name themselves."""
        if name := _user_operation(state, host, op_hash):
            interrupts.begin(host.name, name)

    @staticmethod
    def operation_host_success(state: State, host: PyinfraHost, op_hash: str, *_: int) -> None:
        """End what ``operation_host_start`` began."""
        if _user_operation(state, host, op_hash):
            interrupts.end(host.name)

    @staticmethod
    def operation_host_error(state: State, host: PyinfraHost, op_hash: str, *_: int) -> None:
        """Record an operation of the fleet's own file that failed; those of sparkfleet record their own."""
        if _user_operation(state, host, op_hash):
            interrupts.end(host.name)
        run = run_of(state)
        ignored = state.get_op_data_for_host(host, op_hash).global_arguments["_ignore_errors"]
        if host.name not in run.failures and not ignored:
            name = ", ".join(sorted(state.get_op_meta(op_hash).names))
            diagnostic = Diagnostic(
                host.name,
                f"{name}: failed",
                hint="see its output above; then run again",
                code="operation-failed",
            )
            run.failures[host.name] = (diagnostic,)

    @staticmethod
    def host_disconnect(state: State, host: PyinfraHost) -> None:
        """Print the results after the last host."""
        run = run_of(state)
        run.disconnected.add(host.name)
        if run.closing and {active.name for active in state.activated_hosts} <= run.disconnected:
            print_summary(state)


def _user_operation(state: State, host: PyinfraHost, op_hash: str) -> str:
    """Return the name of an operation of the fleet's own file that a host executes, else ""."""
    names = ", ".join(sorted(state.get_op_meta(op_hash).names))
    return names if names.startswith(user_deploy.NAME) and op_hash in state.ops[host] else ""


def print_summary(state: State) -> None:
    """Print once what became of each host; after a dry run nothing, since the plan has everything."""
    run = run_of(state)
    run.closing = False
    if run.shown and "--dry" in sys.argv:
        return
    hosts = [host for host in state.inventory if state.is_host_in_limit(host)]
    failures = {name: (diagnostic,) for name, diagnostic in run.unreachable.items()} | run.failures
    for name, diagnostics in run.blocked.items():
        failures[name] = tuple(dict.fromkeys((*failures.get(name, ()), *diagnostics)))
    by_pyinfra = {name for name, plan in run.plans.items() if plan.operations(Step.USER_DEPLOY)}
    services = {}
    if run.shown and Step.SERVICE in run.steps:  # not by ``declared``, whose keys need pyinfra's current host
        services = {host.name: host_from_json(host.data.get("sparkfleet")) for host in hosts}
    outcome = Outcome(
        tuple(host.name for host in hosts),
        time.monotonic() - run.started,
        services,
        run.done,
        frozenset(run.changed | by_pyinfra) - failures.keys(),
        failures,
        frozenset((name, one.service) for name, plan in run.plans.items() for one in plan.stops),
    )
    echo_rows(outcome.rows)
    for name, diagnostics in sorted(outcome.failures.items()):
        if not run.changed and on_terminal() and run.refusals.get(name) == diagnostics:
            continue  # the plan with these reasons is still on the screen
        click.echo(click.style(f"{name}   FAILED", bold=True), err=True, color=colour_setting())
        for diagnostic in diagnostics:
            echo_diagnostic(diagnostic)
    if run.shown:
        click.echo(outcome.counts, err=True)


def watch_connections(state: State) -> None:
    """Record connection errors, in pyinfra's command line too.

    ``State.init`` drops callback handlers, and it runs between the inventory and the first connection; so the
    run is created right after it.
    """
    original = state.init

    def init(*args: object, **kwargs: object) -> None:
        original(*args, **kwargs)  # type: ignore[arg-type]
        run_of(state)
        # Set here, after pyinfra's own: a failure of one host never stops the others, and there is no prompt.
        state.should_raise_failed_hosts = lambda _state: False

    state.init = init  # type: ignore[method-assign]
