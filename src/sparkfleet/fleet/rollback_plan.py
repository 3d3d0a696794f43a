"""The plan of a rollback: of each host from the generations that it keeps and a probe of what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract.diagnostic import Severity
from sparkfleet.contract.generation import PromotedGeneration
from sparkfleet.fleet import kept_files
from sparkfleet.fleet.run import fleet_plan as fleet_plans
from sparkfleet.fleet.run import fleet_run, host_errors, spark_plan
from sparkfleet.inventory import Pins
from sparkfleet.plan import rollback
from sparkfleet.plan.model import HostPlan, Plan, Step
from sparkfleet.plan.rollback import Selection

STEPS = (Step.HOST, Step.SERVICE)


def fleet_plan(inventory: Path, limit: Sequence[str], selection: Selection) -> Plan:
    """Return the plan of a rollback. Raise SparkfleetError for a limit that matches nothing."""

    def plan(host: PyinfraHost) -> None:
        fleet_run.run_of(host.state).plans[host.name] = host_plan(host, selection)

    state, _ = fleet_plans.on_each(inventory, limit, plan, Pins.OPTIONAL)
    fleet_run.complete_plans(state)
    return fleet_run.whole_plan(state)


def host_plan(host: PyinfraHost, selection: Selection, only: str = "") -> HostPlan:
    """Return the plan of one host; after any error it is unknown.

    ``only``: the host that is meant, with the members of its cluster; "": every host.
    """
    try:
        meant = rollback.is_meant(spark_plan.declared(host), only)
        return _host_plan(host, selection) if meant else HostPlan(host.name)
    except Exception as error:  # noqa: BLE001  (a failure of one host must not stop another)
        return HostPlan(host.name, unknown=host_errors.host_diagnostic(host.name, error))


def _host_plan(host: PyinfraHost, selection: Selection) -> HostPlan:
    spec = spark_plan.declared(host)
    stored = kept_files.read(host, *kept_files.GENERATIONS)
    targets = rollback.selected(spec.name, stored.services, selection)
    generations = [one for one in targets.values() if isinstance(one, PromotedGeneration)]
    observed = spark_plan.probed(host, rollback.request(spec, generations))
    plan = rollback.rollback_plan(spec, stored.services, targets, observed, named=bool(selection.service))
    unreadable = (replace(one, severity=Severity.WARNING) for one in stored.unreadable)
    return replace(plan, warnings=(*plan.warnings, *unreadable))
