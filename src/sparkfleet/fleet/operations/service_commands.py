"""The first call of ``deploys/stop.py`` and its like: plan a command on services, and show it."""

from __future__ import annotations

from pyinfra.api.host import Host as PyinfraHost
from pyinfra.context import host, state

from sparkfleet.fleet import service_commands
from sparkfleet.fleet.run import fleet_run, spark_plan
from sparkfleet.plan.model import COMMAND_STEPS, Command, HostPlan
from sparkfleet.plan.service_commands import REASON, TARGET, Request, Target, unknown_host


def show(command: Command) -> None:
    """Plan what a command does on this host, and show the report when every host has been planned."""

    def plan(one: PyinfraHost) -> HostPlan:
        text, reason = (str(one.data.get(name) or "") for name in (TARGET, REASON))
        target = Target.of(text)
        if wrong := unknown_host(target, [each.name for each in state.inventory]):
            return HostPlan(one.name, unknown=wrong)
        return service_commands.plan_of(one, Request(command, target, reason))

    fleet_run.run_of(state).steps = COMMAND_STEPS
    spark_plan.use_planner(state, plan)
    fleet_run.show_plan(state, host)
