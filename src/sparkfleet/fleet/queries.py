"""Read-only queries of a fleet: status and preflight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.config.resolved import Host
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.probe import observe, preflight
from sparkfleet.fleet.run import fleet_plan, fleet_run, spark_plan
from sparkfleet.plan.compute import probe_request
from sparkfleet.plan.preflight import checks
from sparkfleet.plan.preflight.model import Check, Checked, Verdict
from sparkfleet.plan.status import SparkStatus, join_members, spark_status
from sparkfleet.probe.observed import Observed
from sparkfleet.probe.preflight import PreflightSeen

T = TypeVar("T")
RUN_S = 120
"""Seconds for a container that only looks for the GPU."""


def fleet_status(inventory: Path, limit: Sequence[str] = ()) -> list[SparkStatus]:
    """Return what every Spark serves."""

    def one(host: PyinfraHost) -> SparkStatus:
        return spark_status(
            host.name, observe(host, replace(probe_request(spark_plan.declared(host)), items=None))
        )

    found = _of_each(inventory, limit, one, lambda name, diagnostic: SparkStatus(name, unknown=diagnostic))
    return join_members(found)


def fleet_preflight(inventory: Path, limit: Sequence[str] = (), *, run: bool = False) -> list[Checked]:
    """Return the preflight of every Spark; ``run``: start a container that looks for the GPU as well."""

    def one(host: PyinfraHost) -> Checked:
        spec = spark_plan.declared(host)
        flown = preflight(host, checks.request(spec))
        found = checks.checked(spec, flown.seen, flown.skew_s, flown.unsure_s)
        if not run or isinstance(flown.seen, Diagnostic):
            return found
        return Checked(found.host, (*found.checks, _gpu_in_container(host, spec, flown.seen)))

    def unreached(name: str, diagnostic: Diagnostic) -> Checked:
        return Checked(name, (Check("connection", Verdict.FAIL, diagnostic.message, "", diagnostic.hint),))

    return _of_each(inventory, limit, one, unreached)


def _of_each(
    inventory: Path,
    limit: Sequence[str],
    one: Callable[[PyinfraHost], T],
    unreached: Callable[[str, Diagnostic], T],
) -> list[T]:
    """Return an answer of every Spark, in the inventory's order; those that cannot be reached as well."""
    answers: dict[str, T] = {}

    def work(host: PyinfraHost) -> None:
        answers[host.name] = one(host)

    state, hosts = fleet_plan.on_each(inventory, limit, work)
    reasons = fleet_run.of(state).unreachable
    nothing = Diagnostic("", "it could not be reached", hint="see above", code="ssh-unreachable")
    return [
        answers[host.name] if host.name in answers else unreached(host.name, reasons.get(host.name, nothing))
        for host in hosts
    ]


def _gpu_in_container(host: PyinfraHost, spec: Host, seen: PreflightSeen) -> Check:
    name = "GPU in a container"
    images = seen.observed.images if isinstance(seen.observed, Observed) else {}
    here = [image.id for service in spec.services if (image := images.get(service.image.pull_ref))]
    if not here:
        remedy = "pyinfra INVENTORY deploys/stage.py fetches them"
        return Check(name, Verdict.UNKNOWN, "none of the declared images is on the Spark", remedy=remedy)
    argv = ("docker", "run", "--rm", "--gpus", "all", "--network", "none", "--entrypoint", "sh", here[0])
    inside = "if command -v nvidia-smi >/dev/null; then nvidia-smi -L; else echo no nvidia-smi inside; fi"
    try:
        answer = remote.run_once(host, (*argv, "-c", inside), timeout=RUN_S)
    except (remote.ConnectionLostError, SparkfleetError) as error:
        return Check(name, Verdict.UNKNOWN, str(error))
    lines = (answer.out if answer.ok else f"{answer.err}\n{answer.out}").splitlines()
    output = next((line for line in lines if line.strip()), "nothing")
    if answer.ok:
        return Check(name, Verdict.OK, output)
    remedy = "sudo nvidia-ctk runtime configure --runtime=docker; then restart docker when nothing serves"
    return Check(name, Verdict.FAIL, output, "a container that starts with --gpus all", remedy)
