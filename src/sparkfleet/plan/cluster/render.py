"""A cluster's service as one of its ranks runs it.

A rank is planned like any other service: its flags, variables and settings are compared with the container
field by field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, replace

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation, Rank
from sparkfleet.desired_state import Fabric, Host, Member, Service
from sparkfleet.engines import base
from sparkfleet.plan import render_service
from sparkfleet.plan.fabric import addresses
from sparkfleet.plan.fabric.environment import DEVICE, MEMLOCK, environment, has_rdma
from sparkfleet.probe.links import ObservedFabric
from sparkfleet.probe.observation import User
from sparkfleet.runtimes import Container


def member_of(host: Host, service: Service) -> Member | None:
    """Return the host's place in the cluster that serves this; None: a service of this host alone."""
    member = host.member
    return member if member is not None and member.service == service.name else None


def ranked(member: Member, service: Service, fabric: ObservedFabric | None) -> Service:
    """Return the service as this rank runs it. ``seen`` None: unknown links, whose settings are left out."""
    cluster = _engine(service)
    known = dict(environment(member, fabric, cluster.address_env)) if fabric else {}
    rank = _rank(member, has_links=bool(known))
    box = _container(member, service.container, fabric)
    entrypoint = cluster.entrypoint(rank, service.image) if service.image else ""
    if entrypoint:
        box = replace(box, entrypoint=entrypoint)
    return replace(
        service,
        flags=(*service.flags, *cluster.flags(rank).items()),
        env=tuple({**known, **cluster.environment(rank), **dict(service.env)}.items()),
        container=box,
    )


def _engine(service: Service) -> base.ClusterEngine:
    cluster = engines.get(service.engine).cluster
    assert cluster is not None  # noqa: S101  (the loader refuses clusters of engines without it)
    return cluster


def _rank(member: Member, *, has_links: bool = True) -> base.Rank:
    return base.Rank(
        number=member.rank,
        executor=member.executor,
        hosts=member.hosts,
        addresses=tuple(_address(member, rank) for rank in range(len(member.hosts))),
        has_links=has_links,
    )


def generation(
    host: Host, service: Service, user: User, entrypoint: Sequence[str], fabric: ObservedFabric | None
) -> tuple[Service, Generation]:
    """Return service and generation for this Spark; of a cluster's service, its rank.

    ``seen`` None: unknown links, whose settings are left out.
    """
    member = member_of(host, service)
    if member is None:
        return service, render_service.generation(host, service, user, entrypoint)
    own = ranked(member, service, fabric)

    def wrap(argv: tuple[str, ...]) -> tuple[str, ...]:
        return command(member, own, argv)

    rank = rank_of(host, member, service, user)
    return own, render_service.generation(host, own, user, entrypoint, rank=rank, wrap=wrap)


def rank_of(host: Host, member: Member, service: Service, user: User) -> Rank:
    """Return the rank; ``service`` is the one that all ranks share."""
    count = range(len(member.hosts))
    bare = replace(service, origin=())
    container_text, *later_settings = container_texts(service.container)
    shared = (
        service.image_ref,
        engines.get(service.engine).args(bare),
        sorted(render_service.environment(bare).items()),
        container_text,
        member.hosts,
        member.executor,
        _fabric_text(member.fabric),
        *later_settings,
    )
    cache_folder = user.expand(render_service.cache_directory(host, service))
    return Rank(
        cluster=member.cluster,
        rank=member.rank,
        hosts=member.hosts,
        addresses=tuple(_address(member, rank) for rank in count),
        executor=member.executor,
        fingerprint=hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:12],
        clear=tuple(f"{cache_folder}/{name}" for name in _engine(service).shared_caches),
    )


def _fabric_text(fabric: Fabric) -> str:
    """Return the links' settings in a form that must never change: fingerprints on hosts contain it.

    It is the ``repr`` of an older dataclass.
    """
    return (
        f"Fabric(network={fabric.network!r}, mtu={fabric.mtu!r}, bootstrap={fabric.rendezvous!r}, "
        f"tcp={fabric.tcp!r}, ring={fabric.ring!r})"
    )


_FIRST_SETTINGS = (
    "network",
    "ipc",
    "shm_size",
    "gpus",
    "user",
    "memory",
    "ulimits",
    "devices",
    "cap_add",
    "mounts",
    "entrypoint",
)


def container_texts(box: Container) -> tuple[str, ...]:
    """Return the container's settings in a form that must never change, for the same reason.

    The first text is the ``repr`` of an older dataclass; settings that it did not have follow, if declared.
    """
    values = {one.name: getattr(box, one.name) for one in fields(box)}
    values["ulimits"] = tuple(box.ulimits.items())
    first = ", ".join(f"{name}={values.pop(name)!r}" for name in _FIRST_SETTINGS)
    unset = Container()
    later = [(name, value) for name, value in sorted(values.items()) if value != getattr(unset, name)]
    plain = tuple((name, list(value) if isinstance(value, tuple) else value) for name, value in later)
    return (f"Container({first})", *((repr(plain),) if plain else ()))


def command(member: Member, service: Service, serve: tuple[str, ...]) -> tuple[str, ...]:
    """Return the container's command; ``serve`` is the command of a single host."""
    return _engine(service).command(_rank(member), service.container.entrypoint, serve)


def obstacles(host: Host, member: Member, fabric: ObservedFabric | None) -> Diagnostic | None:
    """Return why this rank cannot start: no cabled link."""
    if fabric is not None and addresses.rails(member, fabric):
        return None
    return Diagnostic(
        f"{host.name}: cluster {member.cluster}",
        "no cabled link to the other Sparks was found",
        f"a QSFP cable in {'each' if member.fabric.ring else 'one'} of the two cages",
        "plug it in, then run the plan again",
        code="fabric-no-carrier",
    )


def _address(member: Member, rank: int) -> str:
    return addresses.node_address(member, rank)


def _container(member: Member, box: Container, fabric: ObservedFabric | None) -> Container:
    if fabric is None or not has_rdma(member, fabric):
        return box
    return replace(
        box,
        devices=tuple(dict.fromkeys((*box.devices, DEVICE))),
        ulimits={MEMLOCK[0]: MEMLOCK[1], **box.ulimits},
    )
