"""What each host serves right now, from the same probe as a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult
from sparkfleet.contract.state import StopRecord
from sparkfleet.onhost.state.units import unit_name
from sparkfleet.probe.observation import Observed, WithoutRuntime
from sparkfleet.runtimes.observation import ObservedInstance
from sparkfleet.units import MIB_IN_GIB


@dataclass(frozen=True)
class ServiceStatus:
    """One service that is on a Spark, declared or not."""

    name: str
    model: str
    """Repository of the model that passed the gate last; "" without a record."""
    served_name: str
    port: int
    state: str
    """The runtime's state: running, exited ...; absent without an instance; stopped: on purpose."""
    since: str
    """When the container was started, as docker writes it."""
    generation: str
    unit: str
    """systemd's state: active running, failed ...; absent without a unit."""
    gate: GateResult | None
    """None if unknown."""
    cluster: str = ""
    """The cluster that serves it; "": this Spark alone."""
    members: tuple[str, ...] = ()
    """Names of the cluster's Sparks, by rank."""
    degraded: str = ""
    """Missing members with their state; "" when all serve."""
    stop: StopRecord | None = None
    """Who stopped it on purpose; None: it is not stopped, or failed."""


@dataclass(frozen=True)
class SparkStatus:
    """One Spark: its services and memory, or why they are unknown."""

    host: str
    services: tuple[ServiceStatus, ...] = ()
    available_gib: float = 0.0
    total_gib: float = 0.0
    rollout: str = ""
    """Id of a rollout in progress, or ""."""
    unknown: Diagnostic | None = None
    warnings: tuple[Diagnostic, ...] = ()
    """State files that cannot be read; a service's record among them."""


def spark_status(host: str, observed: Observed | Diagnostic) -> SparkStatus:
    """Return the status of one Spark."""
    if isinstance(observed, WithoutRuntime):
        return SparkStatus(host, unknown=observed.plain)
    if isinstance(observed, Diagnostic):
        return SparkStatus(host, unknown=observed)
    owned = observed.owned()
    names = dict.fromkeys((*owned, *observed.generations))
    return SparkStatus(
        host,
        tuple(_service(name, owned.get(name), observed) for name in sorted(names)),
        observed.memory_available_mib / MIB_IN_GIB,
        observed.memory_total_mib / MIB_IN_GIB,
        observed.rollout,
        warnings=tuple(observed.unreadable.values()),
    )


def join_members(found: Sequence[SparkStatus]) -> list[SparkStatus]:
    """Return the status of hosts probed together: each member names missing members of its cluster."""
    by_name = {spark.host: spark for spark in found}
    return [
        replace(
            spark,
            services=tuple(
                one if one.stop else replace(one, degraded=_lost(one, by_name)) for one in spark.services
            ),
        )
        for spark in found
    ]


def _lost(service: ServiceStatus, found: Mapping[str, SparkStatus]) -> str:
    """Return the members of a service's cluster that do not run it, among the hosts that were probed."""
    lost = []
    for name in service.members:
        spark = found.get(name)
        if spark is None:
            continue
        own = next((one for one in spark.services if one.name == service.name), None)
        if spark.unknown:
            lost.append(f"{name} is unknown")
        elif own is None or own.state != "running":
            lost.append(f"{name} {own.state if own else 'absent'}")
    return ", ".join(lost)


def _service(name: str, container: ObservedInstance | None, observed: Observed) -> ServiceStatus:
    record = observed.generations.get(name)
    unit = observed.units.get(unit_name(name))
    rank = record.rank if record else None
    stop = observed.stops[name] if observed.is_stopped(name) else None
    return ServiceStatus(
        name=name,
        model=record.model if record else "",
        served_name=record.served_name if record else "",
        port=record.port if record else 0,
        state="stopped" if stop else container.state if container else "absent",
        since=container.started_at if container and container.running else "",
        generation=container.generation if container else "",
        unit=" ".join(word for word in (unit.active, unit.sub) if word) if unit else "absent",
        gate=record.gate_result if record and record.gate_result.is_measured else None,
        cluster=rank.cluster if rank else "",
        members=rank.hosts if rank else (),
        stop=stop,
    )
