"""Clusters of a fleet: the place of each Spark, and the service of each cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from itertools import combinations

from sparkfleet import engines
from sparkfleet.config import resolve
from sparkfleet.config.cluster_file import ClusterSource
from sparkfleet.config.merge import Layer, flag_name
from sparkfleet.config.models import ServiceSpec
from sparkfleet.config.origin import relocate_to_user
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import AUTO, NONE, FlagValue, Member, Service
from sparkfleet.engines.base import Engine
from sparkfleet.suggest import did_you_mean

LEAST = 2
OF_EACH_SPARK = frozenset(
    {
        "GLOO_SOCKET_IFNAME",
        "MASTER_ADDR",
        "MASTER_PORT",
        "MN_IF_NAME",
        "NCCL_IB_ADDR_RANGE",
        "NCCL_IB_DISABLE",
        "NCCL_IB_GID_INDEX",
        "NCCL_IB_HCA",
        "NCCL_NET",
        "NCCL_SOCKET_IFNAME",
        "OMPI_MCA_btl_tcp_if_include",
        "TP_SOCKET_IFNAME",
        "UCX_NET_DEVICES",
    }
)
"""Variables with values of one Spark, or that select the network: the fabric sets them."""


@dataclass(frozen=True)
class ClusterShare:
    """What a cluster adds to one of its Sparks."""

    member: Member
    service: Service | None
    layer: Layer | None
    reserve_gib: float | None
    """From the cluster's service."""


def shares_of_hosts(
    sources: Sequence[ClusterSource],
    hosts: Collection[str],
    context: resolve.Context,
    ports: Callable[[Sequence[str]], set[int]],
) -> dict[str, ClusterShare]:
    """Return what each Spark gets from its cluster; errors are added to the context.

    ``ports`` returns the ports of the Sparks' own services.
    """
    shares: dict[str, ClusterShare] = {}
    for source in sources:
        context.diagnostics += _host_diagnostics(source, hosts, shares)
        service = _service(source, context, ports)
        layer = source.service.layer if source.service else None
        reserve = source.service.spec.reserve_gib if source.service else None
        for rank, name in enumerate(source.settings.hosts):
            member = Member(
                cluster=source.name,
                rank=rank,
                hosts=source.settings.hosts,
                executor=source.settings.executor,
                fabric=source.fabric,
                service=service.name if service else "",
            )
            shares.setdefault(name, ClusterShare(member, service, layer, reserve))
    context.warnings += _shared_networks(sources)
    return shares


def _shared_networks(sources: Sequence[ClusterSource]) -> list[str]:
    """Return warnings about clusters with overlapping networks, if one of them certainly uses a switch.

    Two Sparks on a cable and the Sparks of a ring cannot conflict with other clusters.
    """
    return [
        f"{second.where('fabric', 'network')}: the clusters '{first.name}' and '{second.name}' have "
        f"overlapping networks ({second.fabric.network}), which conflict on a shared switch; "
        f"unless they are on separate switches, set another 'fabric.network' for one of them"
        for first, second in combinations(sources, 2)
        if IPv4Network(first.fabric.network).overlaps(IPv4Network(second.fabric.network))
        and any(len(one.settings.hosts) > LEAST and not one.fabric.ring for one in (first, second))
    ]


def _host_diagnostics(
    source: ClusterSource, hosts: Collection[str], shares: Mapping[str, ClusterShare]
) -> list[Diagnostic]:
    members = source.settings.hosts
    diagnostics = []
    for number, name in enumerate(members):
        place = source.where("hosts", number)
        if name not in hosts:
            remedy = did_you_mean(name, hosts, f"write the host file {name}.yaml")
            expected = f"one of: {', '.join(sorted(hosts))}"
            diagnostics.append(
                Diagnostic(place, f"unknown host '{name}'", expected, remedy, code="host-unknown")
            )
        elif name in members[:number]:
            diagnostics.append(
                Diagnostic(
                    place,
                    f"duplicate host '{name}'",
                    "each host once",
                    "remove one",
                    code="cluster-hosts-invalid",
                )
            )
        elif name in shares:
            other = f"'{name}' is already in the cluster '{shares[name].member.cluster}'"
            diagnostics.append(
                Diagnostic(
                    place,
                    other,
                    "each host in at most one cluster",
                    "remove it from one of the clusters",
                    code="cluster-hosts-invalid",
                )
            )
    if len(members) < LEAST:
        number_ = "no hosts" if not members else "only one host"
        expected, remedy = "two or more", "to serve on a single Spark, use its host file"
        diagnostics.append(
            Diagnostic(
                source.where("hosts"),
                f"the cluster has {number_}",
                expected,
                remedy,
                code="cluster-hosts-invalid",
            )
        )
    return diagnostics


def _service(
    source: ClusterSource, context: resolve.Context, ports: Callable[[Sequence[str]], set[int]]
) -> Service | None:
    if source.service is None:
        return None
    spec, layer = source.service.spec, source.service.layer
    executor = source.settings.executor
    service = resolve.service(
        spec, layer, context, lambda engine: engine.cluster.packages(executor) if engine.cluster else {}
    )
    if service is None:
        return None
    engine = engines.get(service.engine)
    cluster = engine.cluster
    if cluster is None:
        message = f"{engine.title} does not support clusters, and '{source.name}' is a cluster"
        able = [engines.get(name) for name in engines.names()]
        expected = f"an engine that supports clusters: {', '.join(one.name for one in able if one.cluster)}"
        hint = "move the service to a host file, or choose another engine"
        context.diagnostics.append(
            Diagnostic(layer.where(()), message, expected, hint, code="cluster-hosts-invalid")
        )
        return None
    sparks = len(source.settings.hosts)
    context.diagnostics += _flag_diagnostics(spec, layer, engine)
    if sparks < service.requires_sparks:
        context.diagnostics.append(
            Diagnostic(
                source.where("hosts"),
                f"{sparks} Sparks for the recipe '{service.recipe}'",
                f"at least {service.requires_sparks}",
                "add Sparks to 'hosts:', or choose another recipe",
                code="cluster-too-small",
            )
        )
    if service.image and service.image.derived_packages and context.defaults.stage.seed == NONE:
        context.diagnostics.append(_own_builds(service, layer))
    context.diagnostics += _address_diagnostics(service, engine)
    context.warnings += _variable_warnings(service)
    service = _split(service, spec, source, engine)
    context.diagnostics += [
        relocate_to_user(one, layer.where(())) for one in cluster.diagnostics(service, sparks)
    ]
    if not service.port:
        taken = ports(source.settings.hosts)
        free = (port for port in range(context.defaults.first_port, 65536) if port not in taken)
        service = replace(service, port=next(free))
    return service


def _own_builds(service: Service, layer: Layer) -> Diagnostic:
    """Return the error that each member would build its own image: all ranks must run the same one."""
    message = (
        f"the image of '{service.name}' is derived ({service.engine_source}), and 'stage.seed' is '{NONE}'"
    )
    expected = "one Spark that builds the image, so that all ranks run the same one"
    return Diagnostic(
        layer.where(()),
        message,
        expected,
        f"set 'stage': {{'seed': '{AUTO}'}} in group_data",
        code="stage-seed-required",
    )


def _address_diagnostics(service: Service, engine: Engine) -> list[Diagnostic]:
    name = engine.cluster.address_env if engine.cluster else ""
    if not name or name not in dict(service.env):
        return []
    return [
        Diagnostic(
            dict(service.origin)[f"env.{name}"],
            f"variable '{name}' has one address for all Sparks of the cluster",
            "each Spark's own address, which sparkfleet sets",
            "remove it",
            code="variable-reserved",
        )
    ]


def _variable_warnings(service: Service) -> list[str]:
    """Return warnings about variables that replace those of the fabric on every Spark alike."""
    origin = dict(service.origin)
    return [
        f"{origin[f'env.{name}']}: {name}={value} replaces what sparkfleet sets for each Spark: links "
        "and addresses differ between Sparks. Remove it, or set 'fabric: {rendezvous: management}' or "
        "'fabric: {tcp: true}' if that is the aim"
        for name, value in service.env
        if name in OF_EACH_SPARK
    ]


def _flag_diagnostics(spec: ServiceSpec, layer: Layer, engine: Engine) -> list[Diagnostic]:
    reserved = engine.cluster.reserved_flags if engine.cluster else {}
    return [
        Diagnostic(
            layer.where(("flags", written)),
            f"flag '{written}' is set by sparkfleet in a cluster",
            reserved[name],
            "remove it from flags",
            code="flag-reserved",
        )
        for written, name in _written(spec, engine).items()
        if name in reserved
    ]


def _written(spec: ServiceSpec, engine: Engine) -> dict[str, str]:
    """Return the flags of the cluster file: as written -> full name."""
    return {written: engine.full_flag(flag_name(written), value)[0] for written, value in spec.flags.items()}


def _split(service: Service, spec: ServiceSpec, source: ClusterSource, engine: Engine) -> Service:
    """Return the service without flags of a single Spark, split over all Sparks unless the file sets how."""
    cluster = engine.cluster
    if cluster is None:
        return service
    flags: dict[str, FlagValue] = {k: v for k, v in service.flags if k not in cluster.reserved_flags}
    written = frozenset(_written(spec, engine).values())
    origin = dict(service.origin)
    for name, value in cluster.split(flags, written, len(source.settings.hosts)).items():
        flags[name] = value
        origin[f"flags.{name}"] = source.where("hosts")
    return replace(service, flags=tuple(flags.items()), origin=tuple(sorted(origin.items())))
