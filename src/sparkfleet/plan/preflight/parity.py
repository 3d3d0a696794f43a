"""The comparison of a preflight's hosts: its rows, and checks on each host of what should not be so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sparkfleet.desired_state import Host
from sparkfleet.plan import parity
from sparkfleet.plan.parity import Row, Unknown, Value, Values
from sparkfleet.plan.preflight.model import Check, HostPreflight, of
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.preflight import Engine, Footprints, Gpu, ObservedPreflight, System, Unread
from sparkfleet.units import MIB_IN_GIB


@dataclass(frozen=True)
class FleetPreflight:
    """The checks of all hosts, and their comparison."""

    hosts: tuple[HostPreflight, ...]
    parity: tuple[Row, ...] = ()
    """One row a property; those that are equal, too."""


def fleet_preflight(
    checked: Sequence[HostPreflight], hosts: Mapping[str, Host], observed: Mapping[str, ObservedPreflight]
) -> FleetPreflight:
    """Return the checks with those that need several hosts. The mappings: of the hosts that were read."""
    observed = {
        one.host: observed[one.host] for one in checked if one.host in observed
    }  # in the inventory's order
    values = _values(hosts, observed)
    rows = tuple(parity.row(name, own) for name, own in values.items()) if len(observed) > 1 else ()
    own_checks = [(one, check) for one, check in (*_identities(observed), *_clusters(hosts, values))]
    return FleetPreflight(
        tuple(
            replace(one, checks=(*one.checks, *(check for name, check in own_checks if name == one.host)))
            for one in checked
        ),
        rows,
    )


def _values(hosts: Mapping[str, Host], observed: Mapping[str, ObservedPreflight]) -> dict[str, Values]:
    """Return the values of every property by host."""
    machines = parity.machine_values({name: one.machine for name, one in observed.items()})
    images: dict[str, dict[str, Value]] = {}
    for name, one in observed.items():
        for image in (service.image for service in hosts[name].services if service.image):
            images.setdefault(f"image {image.display}", {})[name] = _image(image.pull_ref, one)
    return {
        "DGX OS": {name: _release(one.system) for name, one in observed.items()},
        **machines,
        "CUDA of the driver": {name: _cuda(one.gpu) for name, one in observed.items()},
        "memory": {name: _memory(one) for name, one in observed.items()},
        "Docker": {name: _engine(one.engine, "version") for name, one in observed.items()},
        "storage driver": {name: _engine(one.engine, "driver") for name, one in observed.items()},
        parity.CLOCKS_ROW: {name: _clocks(one.footprints) for name, one in observed.items()},
        **images,
    }


def _release(observed: System | Unread) -> Value:
    if isinstance(observed, Unread):
        return Unknown(observed.error)
    release = observed.dgx.get("DGX_OTA_VERSION") or observed.dgx.get("DGX_SWBUILD_VERSION", "")
    return (release,) if release else ()


def _cuda(observed: Gpu | Unread) -> Value:
    if isinstance(observed, Unread):
        return Unknown(observed.error)
    return (observed.cuda,) if observed.cuda else Unknown("nvidia-smi does not print it")


def _clocks(observed: Footprints | Unread) -> Value:
    if isinstance(observed, Unread):
        return Unknown(observed.error)
    return tuple(sorted({re.split("[= ]", option)[1] for own in observed.clocks.values() for option in own}))


def _memory(observed: ObservedPreflight) -> Value:
    if isinstance(observed.memory, Unread):
        return Unknown(observed.memory.error)
    return (f"{observed.memory.total_mib / MIB_IN_GIB:.0f} GiB",)


def _engine(observed: Engine | Unread | None, field: str) -> Value:
    if observed is None:
        return ()
    return Unknown(observed.error) if isinstance(observed, Unread) else (str(getattr(observed, field)),)


def _image(reference: str, observed: ObservedPreflight) -> Value:
    """Return the digests of an image; for a derived one, which has none, its id."""
    if not isinstance(observed.state, Observed):
        return Unknown(observed.state.message)
    image = observed.state.images.get(reference)
    if image is None:
        return ()
    digests = sorted({one.partition("@")[2] for one in image.digests})
    return tuple(one.removeprefix("sha256:")[:12] for one in digests or [image.id])


def _identities(observed: Mapping[str, ObservedPreflight]) -> Iterator[tuple[str, Check]]:
    for one in parity.shared_identities({name: own.machine for name, own in observed.items()}):
        for host in one.hosts:
            yield host, of(one.name, one.diagnostic)


def _clusters(hosts: Mapping[str, Host], values: Mapping[str, Values]) -> Iterator[tuple[str, Check]]:
    clusters = {host.member.cluster: host.member.hosts for host in hosts.values() if host.member}
    for cluster, members in clusters.items():
        own = {name: {host: one[host] for host in members if host in one} for name, one in values.items()}
        for diagnostic in parity.member_differences(cluster, own):
            for host in members:
                if host in hosts:
                    yield host, of(f"cluster {cluster}", diagnostic)
