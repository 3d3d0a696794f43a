"""A cluster's service as one of its ranks runs it: the same for all, but for what makes it this rank.

A rank is a service like any other to all that comes after: its flags, variables and settings are compared
with the container field by field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources

from sparkfleet.config.models import FlagValue
from sparkfleet.config.resolved import Container, Host, Member, Service
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation, Rank
from sparkfleet.engines.vllm import images
from sparkfleet.onhost.cluster import ranks
from sparkfleet.plan import desired
from sparkfleet.plan.fabric import addresses
from sparkfleet.plan.fabric.environment import DEVICE, MEMLOCK, environment, has_rdma
from sparkfleet.probe.links import FabricSeen
from sparkfleet.probe.observed import User

SPREAD = '{"placement_group_options":{"strategy":"SPREAD"}}'
"""One bundle a Spark: Ray's own way (PACK) looks for all GPUs where the engine runs."""
AUTOTUNE = "vllm/flashinfer_autotune_cache"
"""In the compile cache: it must be the same on all ranks, or they wait for each other for ever."""


def member_of(host: Host, service: Service) -> Member | None:
    """Return the place of the host in the cluster that serves this; None: the host serves it by itself."""
    member = host.member
    return member if member is not None and member.service == service.name else None


def ranked(member: Member, service: Service, seen: FabricSeen | None) -> Service:
    """Return the service as this rank runs it. ``seen`` None: the links are not known, nor what they need."""
    known = dict(environment(member, seen)) if seen else {}
    flags: dict[str, FlagValue] = {"distributed-executor-backend": member.executor}
    if member.executor == "ray":
        # Ray knows a node by one address: that at which the ranks' containers join it.
        address = {"VLLM_HOST_IP": _address(member, member.rank)} if known else {}
        own = {"RAY_memory_monitor_refresh_ms": "0", "VLLM_DISTRIBUTED_EXECUTOR_CONFIG": SPREAD}
        known = {**known, **address, **own}
    else:
        flags |= {
            "nnodes": len(member.hosts),
            "node-rank": member.rank,
            "master-addr": _address(member, 0),
            "master-port": ranks.MASTER_PORT,
        }
        flags |= {"headless": True} if member.rank else {}
    box = _container(member, service.container, seen)
    if member.executor == "ray" and _needs_entrypoint(service):
        box = replace(box, entrypoint="python3")
    return replace(
        service,
        flags=(*service.flags, *flags.items()),
        env=tuple({**known, **dict(service.env)}.items()),
        container=box,
    )


def generation(
    host: Host, service: Service, user: User, entrypoint: Sequence[str], seen: FabricSeen | None
) -> tuple[Service, Generation]:
    """Return service and generation as this Spark runs them: of a cluster's service, its rank.

    ``seen`` None: what the links need is left out.
    """
    member = member_of(host, service)
    if member is None:
        return service, desired.generation(host, service, user, entrypoint)
    own = ranked(member, service, seen)

    def wrap(words: tuple[str, ...]) -> tuple[str, ...]:
        return command(member, own, words)

    rank = rank_of(host, member, service, user)
    return own, desired.generation(host, own, user, entrypoint, rank=rank, wrap=wrap)


def rank_of(host: Host, member: Member, service: Service, user: User) -> Rank:
    """Return the rank; ``service`` is the cluster's, as all ranks share it."""
    count = range(len(member.hosts))
    bare = replace(service, origin=())
    shared = (
        service.image.full_ref,
        desired.engine_words(bare),
        sorted(desired.environment(bare).items()),
        repr(service.container),
        member.hosts,
        member.executor,
        repr(member.fabric),
        *(service.container.other and (repr(service.container.other),)),  # nothing: existing ids stay
    )
    cache_folder = user.expand(desired.cache_directory(host, service))
    return Rank(
        cluster=member.cluster,
        rank=member.rank,
        hosts=member.hosts,
        addresses=tuple(_address(member, rank) for rank in count),
        executor=member.executor,
        make=hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:12],
        clear=(f"{cache_folder}/{AUTOTUNE}",),
    )


def command(member: Member, service: Service, serve: tuple[str, ...]) -> tuple[str, ...]:
    """Return the container's command; ``serve`` is what a Spark by itself would run."""
    if member.executor != "ray":
        return serve
    every = ",".join(_address(member, rank) for rank in range(len(member.hosts)))
    python = () if service.container.entrypoint else ("python3",)
    return (*python, "-c", _ray_program(), every, ",".join(member.hosts), str(member.rank), *serve)


def obstacles(host: Host, member: Member, seen: FabricSeen | None) -> Diagnostic | None:
    """Return why this rank cannot be started: there is no link."""
    if seen is not None and addresses.rails(member, seen):
        return None
    return Diagnostic(
        f"{host.name}: cluster {member.cluster}",
        "no cabled link to the other Sparks is there",
        f"a QSFP cable in {'each' if member.fabric.ring else 'one'} of the two cages",
        "plug it in, then plan again",
    )


def _address(member: Member, rank: int) -> str:
    return addresses.node_address(member, rank)


def _container(member: Member, box: Container, seen: FabricSeen | None) -> Container:
    if seen is None or not has_rdma(member, seen):
        return box
    return replace(
        box,
        devices=tuple(dict.fromkeys((*box.devices, DEVICE))),
        ulimits=tuple({MEMLOCK[0]: MEMLOCK[1], **dict(box.ulimits)}.items()),
    )


def _needs_entrypoint(service: Service) -> bool:
    """Tell whether the image's own entrypoint runs ``vllm`` and nothing else."""
    return images.serve_prefix(service.image.entrypoint) != images.SERVE


@cache
def _ray_program() -> str:
    return resources.files("sparkfleet.engines.vllm").joinpath("data/ray_rank.py").read_text(encoding="utf-8")
