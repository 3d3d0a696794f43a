"""Read-only queries of a fleet: status, preflight, and one Spark alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet import interrupts, runtimes
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import Host
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.probe import observe, preflight
from sparkfleet.fleet.run import fleet_plan, fleet_run, spark_plan
from sparkfleet.inventory import Pins
from sparkfleet.plan.compute import probe_request
from sparkfleet.plan.preflight import checks, containers, parity
from sparkfleet.plan.preflight.model import Check, HostPreflight, incomplete, located, of
from sparkfleet.plan.preflight.parity import FleetPreflight
from sparkfleet.plan.status import SparkStatus, join_members, spark_status
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.preflight import ObservedPreflight

T = TypeVar("T")
RUN_S = 120
"""Seconds for a container that only looks for the GPU."""


def fleet_status(inventory: Path, limit: Sequence[str] = ()) -> list[SparkStatus]:
    """Return what every Spark serves."""

    def one(host: PyinfraHost) -> SparkStatus:
        return spark_status(
            host.name, observe(host, replace(probe_request(spark_plan.declared(host)), resources=None))
        )

    found = of_each(inventory, limit, one, lambda name, diagnostic: SparkStatus(name, unknown=diagnostic))
    return join_members(found)


def fleet_preflight(inventory: Path, limit: Sequence[str] = (), *, run: bool = False) -> FleetPreflight:
    """Return the preflight of every Spark; ``run``: start a container with the GPU as well."""
    hosts: dict[str, Host] = {}
    seen: dict[str, ObservedPreflight] = {}

    def one(host: PyinfraHost) -> HostPreflight:
        spec = spark_plan.declared(host)
        flown = preflight(host, checks.request(spec))
        if isinstance(flown.seen, ObservedPreflight):
            hosts[spec.name], seen[spec.name] = spec, flown.seen
        found = checks.preflight(spec, flown.seen, flown.skew_s, flown.unsure_s)
        if not run or isinstance(flown.seen, Diagnostic):
            return found
        run_check = located(host.name, _gpu_in_container(host, spec, flown.seen))
        return replace(found, checks=(*found.checks, run_check))

    def unreached(name: str, diagnostic: Diagnostic) -> HostPreflight:
        return HostPreflight(name, (of("connection", diagnostic),))

    return parity.fleet_preflight(of_each(inventory, limit, one, unreached), hosts, seen)


def on_one(inventory: Path, name: str, work: Callable[[PyinfraHost], T]) -> T:
    """Return what ``work`` returns for one Spark.

    Raise SparkfleetError when there is none of that name, it cannot be reached, or ``work`` raises one.
    """
    results: list[T] = []
    try:
        state, hosts = fleet_plan.on_each(
            inventory, (name,), lambda host: results.append(work(host)), Pins.OPTIONAL
        )
    except SparkfleetError as error:
        found = (replace(one, location=one.location.removeprefix("--limit ")) for one in error.diagnostics)
        raise SparkfleetError(*found) from None
    if not results:
        raise SparkfleetError(fleet_run.run_of(state).no_connection(hosts[0].name))
    return results[0]


def of_each(
    inventory: Path,
    limit: Sequence[str],
    one: Callable[[PyinfraHost], T],
    unreached: Callable[[str, Diagnostic], T],
) -> list[T]:
    """Return an answer of every Spark, in the inventory's order; those that cannot be reached as well."""
    results: dict[str, T] = {}

    def work(host: PyinfraHost) -> None:
        results[host.name] = one(host)

    state, hosts = fleet_plan.on_each(inventory, limit, work, Pins.OPTIONAL)
    run = fleet_run.run_of(state)
    return [
        results[host.name] if host.name in results else unreached(host.name, run.no_connection(host.name))
        for host in hosts
    ]


def _gpu_in_container(host: PyinfraHost, spec: Host, seen: ObservedPreflight) -> Check:
    images = seen.state.images if isinstance(seen.state, Observed) else {}
    present = [
        runtimes.get(service.runtime).gpu_command(image.id)
        for service in spec.services
        if service.image and (image := images.get(service.image.pull_ref))
    ]
    if not present:
        hint = "pyinfra INVENTORY deploys/stage.py fetches them"
        return incomplete(containers.RUN, "none of the declared images is on the Spark", hint)
    try:
        with interrupts.changing(host.name, "a container with the GPU"):
            output = remote.run_once(host, present[0], timeout=RUN_S)
    except (remote.ConnectionLostError, SparkfleetError) as error:
        return incomplete(containers.RUN, str(error))
    return containers.run_result(output.out if output.ok else f"{output.err}\n{output.out}", ok=output.ok)
