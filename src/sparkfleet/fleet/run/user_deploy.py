"""``inventories/<fleet>/user_deploy.py``: a fleet's own deploy file with pyinfra's operations.

Its operations are prepared with the plan, so that the report names those that would change something; pyinfra
executes them before those of sparkfleet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.state import State
from pyinfra.context import ctx_host

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.plan.blockers import MOUNT_MISSING
from sparkfleet.plan.model import ChangeSet, HostPlan, Scope, Step
from sparkfleet.plan.operations import UserDeploy

NAME = "user_deploy.py"


def file_of(host_file: str) -> Path | None:
    """Return the deploy file beside a host file; None where the fleet has none."""
    path = Path(host_file).parent / NAME
    return path if path.is_file() else None


def add_user_deploy(
    plan: HostPlan, state: State, host: PyinfraHost, host_file: str, steps: tuple[Step, ...]
) -> HostPlan:
    """Return the plan with the changes of the fleet's deploy file, and prepare its operations for the run."""
    path = file_of(host_file)
    if path is None or plan.unknown or Step.USER_DEPLOY not in steps:
        return plan
    found = prepare(state, host, path)
    if isinstance(found, Diagnostic):
        return HostPlan(host.name, unknown=found)
    return replace(plan, change_sets=(found, *map(_unblocked, plan.change_sets))) if found else plan


def _unblocked(change_set: ChangeSet) -> ChangeSet:
    """Return changes that wait for no mount: the operations before them may create it, or mount its disk."""
    blocked = change_set.blocked.each if change_set.blocked else ()
    return replace(change_set, blocked=combine(*(one for one in blocked if one.code != MOUNT_MISSING)))


def prepare(state: State, host: PyinfraHost, path: Path) -> ChangeSet | Diagnostic | None:
    """Prepare the file's operations for a host; return those that would change something, or what failed."""
    host = state.inventory.get_host(host.name)  # instead of pyinfra's proxy for the current host
    before = len(host.op_hash_order)
    try:
        with ctx_host.use(host), host.deploy(NAME, None, None, in_deploy=False):
            _run(state, path)
            changed = [name for key in host.op_hash_order[before:] if (name := _changed(state, host, key))]
    except Exception as error:  # noqa: BLE001  (an error in a user's file must not stop the other hosts)
        return Diagnostic(
            f"{host.name}: {path}",
            f"{type(error).__name__}: {error}",
            hint="fix the file",
            code="user-deploy-failed",
        )
    if host in state.failed_hosts:
        return Diagnostic(
            f"{host.name}: {path}",
            "a fact that it uses could not be read",
            hint="see above",
            code="user-deploy-failed",
        )
    operations = tuple(UserDeploy(name) for name in changed)
    return ChangeSet(NAME, operations, scope=Scope.HOST) if changed else None


def _run(state: State, path: Path) -> None:
    """Run the file as pyinfra runs a deploy file: file names that begin with ./ are relative to it."""
    before, state.current_exec_filename = state.current_exec_filename, str(path)
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__file__": str(path)})  # noqa: S102
    finally:
        state.current_exec_filename = before


def _changed(state: State, host: PyinfraHost, key: str) -> str:
    """Return the name of an operation that would change something, else ""."""
    if not state.get_op_data_for_host(host, key).operation_meta.will_change:
        return ""
    return ", ".join(sorted(state.get_op_meta(key).names)).removeprefix(f"{NAME} | ")
