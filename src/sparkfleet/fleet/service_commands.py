"""The plans of commands on services as they are on the hosts: each host from a fresh probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.fleet.run import fleet_plan as fleet_plans
from sparkfleet.fleet.run import fleet_run, host_errors, spark_plan
from sparkfleet.inventory import Pins
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import COMMAND_STEPS, HostPlan, Plan
from sparkfleet.plan.service_commands import Request, command_plan
from sparkfleet.probe.observation import Observed


def fleet_plan(inventory: Path, limit: Sequence[str], request: Request) -> Plan:
    """Return the plan of a command. Raise SparkfleetError for a limit that matches nothing."""

    def plan(host: PyinfraHost) -> None:
        run = fleet_run.run_of(host.state)
        run.steps, run.plans[host.name] = COMMAND_STEPS, plan_of(host, request)

    state, _ = fleet_plans.on_each(inventory, limit, plan, Pins.REQUIRED)
    fleet_run.complete_plans(state)
    return fleet_run.whole_plan(state)


def plan_of(host: PyinfraHost, request: Request) -> HostPlan:
    """Return the plan of one host; after any error it is unknown."""
    try:
        spec = spark_plan.declared(host)
        observed = spark_plan.probed(host, probe_request(spec))
        whole = host_plan(spec, observed)
        return command_plan(spec, observed, whole, request) if isinstance(observed, Observed) else whole
    except Exception as error:  # noqa: BLE001  (a failure of one host must not stop another)
        return HostPlan(host.name, unknown=host_errors.host_diagnostic(host.name, error))
