"""The first call of ``deploys/rollback.py``: plan the way back to kept generations, and show it."""

from __future__ import annotations

from pyinfra.api.host import Host as PyinfraHost
from pyinfra.context import host, state

from sparkfleet.fleet import rollback_plan
from sparkfleet.fleet.run import fleet_run, spark_plan
from sparkfleet.plan.model import HostPlan
from sparkfleet.plan.rollback import GENERATION, Selection
from sparkfleet.plan.service_commands import TARGET, Target, unknown_host


def show() -> None:
    """Plan the rollback of this host, and show the report when every host has been planned.

    ``--data service_target=HOST/SERVICE`` and ``--data rollback_to=GENERATION`` select services and a
    generation.
    """
    fleet_run.run_of(state).steps = rollback_plan.STEPS
    spark_plan.use_planner(state, _plan)
    fleet_run.show_plan(state, host)


def _plan(one: PyinfraHost) -> HostPlan:
    text, to = (str(one.data.get(name) or "") for name in (TARGET, GENERATION))
    target = Target.of(text)
    if wrong := unknown_host(target, [each.name for each in state.inventory]):
        return HostPlan(one.name, unknown=wrong)
    return rollback_plan.host_plan(one, Selection(target.service, to), target.host)
