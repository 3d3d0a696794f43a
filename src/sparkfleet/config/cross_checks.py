"""Checks across services of a Spark, and across the Sparks of a fleet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sparkfleet import engines
from sparkfleet.config.host_file import HostSource
from sparkfleet.config.merge import Layer
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import AUTO, NONE, Host, Service
from sparkfleet.suggest import did_you_mean

MAX_SHARE = 0.92
"""Share of a Spark's memory for all engines; the rest is for Linux and the page cache."""


def ports(services: Sequence[Service], first: int, reserved: Collection[int] = ()) -> tuple[Service, ...]:
    """Give each service without a port the next free one; declared ports stay.

    ``others`` are taken as well.
    """
    taken = {service.port for service in services} | set(reserved)
    free = (port for port in range(first, 65536) if port not in taken)
    return tuple(service if service.port else replace(service, port=next(free)) for service in services)


def host_diagnostics(
    placed: Sequence[tuple[Service, Layer]], source: HostSource, ignore_rules: dict[str, str]
) -> list[Diagnostic]:
    """Return the conflicts between the services of one Spark, including its cluster's."""
    diagnostics = []
    names: dict[str, str] = {}
    held: dict[int, str] = {}
    services = [service for service, _ in placed]
    for service, layer in placed:
        place = layer.where(())
        if service.name in names:
            message = f"duplicate service name '{service.name}', first used at {names[service.name]}"
            diagnostics.append(
                Diagnostic(
                    place,
                    message,
                    "a unique name for each service",
                    "set 'name:' on one of them",
                    code="service-name-taken",
                )
            )
        names.setdefault(service.name, place)
        if service.port in held:
            message = f"port {service.port} is already used by the service '{held[service.port]}'"
            expected, remedy = "a unique port for each service", "change or remove 'port:'"
            diagnostics.append(
                Diagnostic(layer.where(("port",)), message, expected, remedy, code="port-conflict")
            )
        held.setdefault(service.port, service.name)
    shares = [engines.get(one.engine).memory_share(dict(one.flags)) or 0.0 for one in services]
    if len(services) > 1 and sum(shares) > MAX_SHARE + 1e-9 and "MEM-08" not in ignore_rules:
        parts = " + ".join(
            f"{_percent(share)} ({service.name})" for share, service in zip(shares, services, strict=True)
        )
        diagnostics.append(
            Diagnostic(
                source.document.where(("serve",)),
                f"the services request {_percent(sum(shares))} of the Spark's memory: {parts}",
                f"a total gpu-memory-utilization of at most {MAX_SHARE:g}",
                "lower 'gpu-memory-utilization' in the flags of the services, or remove a service; "
                "`ignore_rules: {MEM-08: why}` allows it",
                code="memory-overcommitted",
            )
        )
    return diagnostics


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def port_warnings(placed: Sequence[tuple[Service, Layer]], source: HostSource) -> list[str]:
    """Return warnings about ports that a Spark's SSH server has."""
    of_ssh = {22, source.settings.ssh.port}
    return [
        f"{layer.where(('port',))}: port {service.port} is usually that of the SSH server. "
        "Use another one, for example 8000"
        for service, layer in placed
        if service.port in of_ssh
    ]


def single_diagnostics(service: Service, layer: Layer) -> list[Diagnostic]:
    """Return why a service of a host file cannot be served by that Spark alone."""
    if service.requires_sparks == 1:
        return []
    message = f"the recipe '{service.recipe}' needs {service.requires_sparks} Sparks"
    remedy = "serve it in a cluster file: clusters/NAME.yaml"
    return [
        Diagnostic(layer.where(("recipe",)), message, "a cluster of Sparks", remedy, code="cluster-too-small")
    ]


def fleet_diagnostics(hosts: Sequence[Host]) -> list[Diagnostic]:
    """Return the conflicts between Sparks: two names for one machine."""
    diagnostics = []
    hosts_by_address: dict[tuple[str, int], Host] = {}
    for host in hosts:
        ssh = dict(host.ssh)
        address = (str(ssh.get("ssh_hostname", host.name)), int(ssh.get("ssh_port", 22)))
        if address in hosts_by_address:
            other = hosts_by_address[address].name
            message = f"{host.name} has the same address as {other}: {address[0]}, port {address[1]}"
            diagnostics.append(
                Diagnostic(
                    host.file,
                    message,
                    "one host file per Spark",
                    "correct 'ssh:' in one of the files",
                    code="host-address-duplicate",
                )
            )
        hosts_by_address.setdefault(address, host)
    return diagnostics


def image_diagnostics(layers: Sequence[Layer]) -> list[Diagnostic]:
    """Return the images of group_data that are for an engine which does not exist."""
    return [
        Diagnostic(
            layer.where(("image", name)),
            f"unknown engine '{name}' in 'image'",
            f"one of: {', '.join(engines.names())}",
            did_you_mean(name, engines.names(), "name an engine, and after it the image"),
            code="yaml-invalid-value",
        )
        for layer in layers
        for name in layer.values.get("image") or {}
        if name not in engines.names()
    ]


def image_warnings(layers: Sequence[Layer], used: Collection[tuple[str, str]]) -> list[str]:
    """Return warnings about images of group_data that no service uses."""
    named = {
        engine: (layer, declared)
        for layer in layers
        for engine, declared in (layer.values.get("image") or {}).items()
        if engine in engines.names()
    }
    return [
        f"{layer.where(('image', engine))}: the image {image} has no effect: no service of "
        f"{engines.get(engine).title} lacks an image or has a recipe with one from that repository"
        for engine, (layer, declared) in named.items()
        for image in ((declared,) if isinstance(declared, str) else declared)
        if (engine, image) not in used
    ]


def seed_diagnostics(seed: str, layers: Sequence[Layer], names: Collection[str]) -> list[Diagnostic]:
    """Return that group_data names a seed which is no Spark of the fleet."""
    if seed in {AUTO, NONE, *names}:
        return []
    declaring = [layer for layer in layers if "seed" in (layer.values.get("stage") or {})]
    return [
        Diagnostic(
            declaring[-1].where(("stage", "seed")) if declaring else "group_data",
            f"'stage.seed' is '{seed}', which is not a host of the fleet",
            f"{AUTO}, {NONE}, or one of: {', '.join(sorted(names))}",
            did_you_mean(seed, [*names, AUTO, NONE], "set it to a host of the fleet"),
            code="host-unknown",
        )
    ]
