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
    checked: Sequence[HostPreflight], hosts: Mapping[str, Host], seen: Mapping[str, ObservedPreflight]
) -> FleetPreflight:
    """Return the checks with those that need several hosts. ``hosts``, ``seen``: of hosts that were read."""
    seen = {one.host: seen[one.host] for one in checked if one.host in seen}  # in the inventory's order
    values = _values(hosts, seen)
    rows = tuple(parity.row(name, own) for name, own in values.items()) if len(seen) > 1 else ()
    own_checks = [(one, check) for one, check in (*_identities(seen), *_clusters(hosts, values))]
    return FleetPreflight(
        tuple(
            replace(one, checks=(*one.checks, *(check for name, check in own_checks if name == one.host)))
            for one in checked
        ),
        rows,
    )


def _values(hosts: Mapping[str, Host], seen: Mapping[str, ObservedPreflight]) -> dict[str, Values]:
    """Return the values of every property by host."""
    machines = parity.machine_values({name: one.machine for name, one in seen.items()})
    images: dict[str, dict[str, Value]] = {}
    for name, one in seen.items():
        for image in (service.image for service in hosts[name].services if service.image):
            images.setdefault(f"image {image.display}", {})[name] = _image(image.pull_ref, one)
    return {
        "DGX OS": {name: _release(one.system) for name, one in seen.items()},
        **machines,
        "CUDA of the driver": {name: _cuda(one.gpu) for name, one in seen.items()},
        "memory": {name: _memory(one) for name, one in seen.items()},
        "Docker": {name: _engine(one.engine, "version") for name, one in seen.items()},
        "storage driver": {name: _engine(one.engine, "driver") for name, one in seen.items()},
        parity.CLOCKS_ROW: {name: _clocks(one.footprints) for name, one in seen.items()},
        **images,
    }


def _release(seen: System | Unread) -> Value:
    if isinstance(seen, Unread):
        return Unknown(seen.error)
    release = seen.dgx.get("DGX_OTA_VERSION") or seen.dgx.get("DGX_SWBUILD_VERSION", "")
    return (release,) if release else ()


def _cuda(seen: Gpu | Unread) -> Value:
    if isinstance(seen, Unread):
        return Unknown(seen.error)
    return (seen.cuda,) if seen.cuda else Unknown("nvidia-smi does not print it")


def _clocks(seen: Footprints | Unread) -> Value:
    if isinstance(seen, Unread):
        return Unknown(seen.error)
    return tuple(sorted({re.split("[= ]", option)[1] for own in seen.clocks.values() for option in own}))


def _memory(seen: ObservedPreflight) -> Value:
    if isinstance(seen.memory, Unread):
        return Unknown(seen.memory.error)
    return (f"{seen.memory.total_mib / MIB_IN_GIB:.0f} GiB",)


def _engine(seen: Engine | Unread | None, field: str) -> Value:
    if seen is None:
        return ()
    return Unknown(seen.error) if isinstance(seen, Unread) else (str(getattr(seen, field)),)


def _image(reference: str, seen: ObservedPreflight) -> Value:
    """Return the digests of an image; for a derived one, which has none, its id."""
    if not isinstance(seen.observed, Observed):
        return Unknown(seen.observed.message)
    image = seen.observed.images.get(reference)
    if image is None:
        return ()
    digests = sorted({one.partition("@")[2] for one in image.digests})
    return tuple(one.removeprefix("sha256:")[:12] for one in digests or [image.id])


def _identities(seen: Mapping[str, ObservedPreflight]) -> Iterator[tuple[str, Check]]:
    for one in parity.shared_identities({name: own.machine for name, own in seen.items()}):
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
