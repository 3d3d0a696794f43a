"""Conflicts of a service with unmanaged containers and processes: reported with a remedy, never removed."""

from __future__ import annotations

from collections.abc import Iterable

from sparkfleet import engines, runtimes
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Host, Service
from sparkfleet.onhost.state import units
from sparkfleet.probe.observation import Observed, ObservedPath, role_of
from sparkfleet.runtimes.base import Role, is_cdi_name
from sparkfleet.runtimes.observation import ObservedInstance
from sparkfleet.runtimes.operator import OperatorRuntime

MOUNT_MISSING = "mount-missing"
"""Code: what a container mounts is not there. The fleet's own deploy may create it."""


def no_toolkit(host: Host, service: Service, observed: Observed) -> Diagnostic | None:
    """Return a diagnostic if the service needs the GPU, but containers have no access to it."""
    missing = not observed.toolkit and needs_toolkit(service)
    return toolkit_missing(host.name) if missing else None


def needs_toolkit(service: Service) -> bool:
    """Return whether the service gets the GPU by the NVIDIA container toolkit."""
    return service.container.gpus == "all" and service.runtime in runtimes.of_containers()


def toolkit_missing(host: str) -> Diagnostic:
    """Return the diagnostic of a host without NVIDIA container toolkit."""
    return Diagnostic(
        f"{host}: GPU",
        "neither the NVIDIA container toolkit nor a CDI file was found",
        "NVIDIA container toolkit, for `docker run --gpus all`",
        f"on {host}: sudo apt-get install nvidia-container-toolkit, and restart docker when nothing "
        "serves; or declare `prepare: {docker: install}`",
        code="gpu-toolkit-missing",
    )


def read_only(host: Host, observed: Observed) -> Diagnostic | None:
    """Return the directories of sparkfleet whose file system is mounted read-only."""
    locked = dict.fromkeys(disk.path for disk in observed.disks.values() if disk.read_only)
    return combine(*(mounted_read_only(host.name, path) for path in locked))


def broken_links(host: Host, observed: Observed) -> Diagnostic | None:
    """Return directories of sparkfleet that are links to nothing: their disk is not mounted, or is gone."""
    paths = {path: observed.paths.get(path) for path in (host.paths.models, host.paths.cache)}
    return combine(
        *(
            Diagnostic(
                f"{host.name}: {path}",
                f"a link to {seen.target}, which does not exist",
                "a directory, or a link to one",
                f"on {host.name}: mount the disk (findmnt {seen.target}; lsblk), or correct the link",
                code=MOUNT_MISSING,
            )
            for path, seen in paths.items()
            if seen is not None and seen.kind == "broken link"
        )
    )


def mounted_read_only(host: str, path: str) -> Diagnostic:
    """Return the diagnostic of a directory that cannot be written."""
    return Diagnostic(
        f"{host}: {path}",
        "the file system is mounted read-only",
        "a writable file system",
        f"on {host}: sudo dmesg | tail; sudo mount -o remount,rw $(findmnt -no TARGET -T {path})",
        code="filesystem-read-only",
    )


def not_managed(host: Host, services: Iterable[str], observed: Observed) -> Diagnostic | None:
    """Return units, and instances with names that a rollout needs, that sparkfleet does not manage."""
    found: list[Diagnostic | None] = []
    for service in services:
        found.append(not_managed_unit(host, service, observed))
        used = _runtimes_of(host, service, observed)
        names = ((name, one) for name in used for one in runtimes.get(name).instance_names(service))
        by_name = {(one.runtime, one.name): one for one in observed.instances if one.service != service}
        found += [_taken(host, by_name[key], service) for key in names if key in by_name]
    return combine(*found)


def _runtimes_of(host: Host, service: str, observed: Observed) -> tuple[str, ...]:
    """Return the runtimes of a service's record and of its declaration."""
    record = observed.generations.get(service)
    declared = {one.name: one.runtime for one in host.services}.get(service)
    used = (record.runtime if record else declared, declared)
    return tuple(dict.fromkeys(one for one in used if one)) or (runtimes.DEFAULT,)


def not_managed_unit(host: Host, service: str, observed: Observed) -> Diagnostic | None:
    """Return that a service's unit is masked, or not written by sparkfleet."""
    name = units.unit_name(service)
    unit, where = observed.units.get(name), f"{host.name}: unit {name}"
    if unit is None or unit.text is None or unit.text.startswith(units.MARK):
        return None
    if unit.enabled == "masked":
        hint = f"on {host.name}: sudo systemctl unmask {name}; then run again"
        return Diagnostic(
            where, "masked: it is a link to /dev/null", "a unit that can start", hint, code="unit-masked"
        )
    return Diagnostic(
        where,
        f"not managed by sparkfleet: it does not begin with {units.MARK!r}",
        "a unit that sparkfleet wrote, or none",
        f"on {host.name}: sudo mv /etc/systemd/system/{name} /root/ && sudo systemctl daemon-reload; "
        "then run again",
        code="unit-not-managed",
    )


def _taken(host: Host, container: ObservedInstance, service: str) -> Diagnostic:
    name = container.name
    owner = (
        f"belongs to the service {container.service}" if container.service else "is not managed by sparkfleet"
    )
    runtime = _runtime(container)
    rename = runtime.rename_command(name, f"{name}-by-hand")
    other = "or choose another `name:` in the host file" if name == service else "a rollout needs its name"
    return Diagnostic(
        f"{host.name}: {runtime.noun} {name}",
        f"a {runtime.noun} of this name that {owner}",
        f"a free {runtime.noun} name",
        f"on {host.name}: {rename} (or remove it); {other}",
        code="container-name-taken",
    )


def missing_devices(host: Host, service: Service, observed: Observed) -> Diagnostic | None:
    """Return the declared devices of a service that the host does not have."""
    paths = (path for path in devices(service) if _is_missing(observed.paths.get(path)))
    return combine(
        *(
            Diagnostic(
                f"{host.name}: {path}",
                f"the device does not exist, and {service.name} declares it",
                "a device of the host",
                "correct `devices:` of the service",
                code="device-missing",
            )
            for path in paths
        )
    )


def devices(service: Service) -> tuple[str, ...]:
    """Return the paths on the host of a service's devices."""
    return tuple(one.partition(":")[0] for one in service.container.devices if not is_cdi_name(one))


def missing_mounts(host: Host, service: Service, observed: Observed) -> Diagnostic | None:
    """Return the declared mounts of a service whose source is neither there nor created by this plan."""
    expand = observed.user.expand
    created = {expand(resource.key) for resource in host.prepare.resources}
    sources = dict.fromkeys(
        mount.source
        for mount in service.container.mounts
        if _is_missing(observed.paths.get(mount.source)) and expand(mount.source) not in created
    )
    return combine(
        *(
            Diagnostic(
                f"{host.name}: {source}",
                f"it does not exist, and {service.name} mounts it",
                "a directory or file of the host",
                f"on {host.name}: mount its disk, or create it; or correct `mounts:` of the service",
                code=MOUNT_MISSING,
            )
            for source in sources
        )
    )


def _is_missing(seen: ObservedPath | None) -> bool:
    return seen is not None and seen.kind in {"absent", "broken link"}


def port_owners(host: Host, service: Service, observed: Observed) -> Diagnostic | None:
    """Return what occupies the ports of a service; None if they are free or the service's own."""
    other = "or choose another `port:` in the host file"
    found = [port_owner(host, service.port, observed, other)]
    found += [
        port_owner(host, port, observed, "the ranks of a cluster need this port")
        for port in coordination_ports(host, service)
    ]
    return combine(*found)


def coordination_ports(host: Host, service: Service) -> tuple[int, ...]:
    """Return the ports at which the other ranks of a cluster find this host; () for any other host."""
    member = host.member
    if member is None or member.rank or member.service != service.name:
        return ()
    return (engines.on_host(service.engine).cluster_starts[member.executor].head_port,)


def memory(host: Host, service: str, need_mib: int, observed: Observed) -> Diagnostic | None:
    """Return that the host cannot have the memory that a service needs, whatever this plan stops."""
    running = any(container.service and container.running for container in observed.instances)
    limit = observed.memory_total_mib if running else observed.memory_available_mib
    if need_mib <= limit:
        return None
    return Diagnostic(
        f"{host.name}: memory",
        f"{need_mib} MiB needed for {service}, {observed.memory_available_mib} MiB available of "
        f"{observed.memory_total_mib} MiB",
        f"at least {need_mib} MiB",
        f"on {host.name}: stop what else uses memory (`nvidia-smi`, `top`), or serve a smaller model",
        code="memory-insufficient",
    )


def port_owner(host: Host, port: int, observed: Observed, remedy: str) -> Diagnostic | None:
    """Return what occupies a port, other than a service of sparkfleet."""
    where = f"{host.name}: port {port}"
    for container in observed.instances:
        if not container.service and container.running and port in container.ports:
            return Diagnostic(
                where,
                f"held by {_named(container)}, which is not managed by sparkfleet",
                "a free port",
                f"on {host.name}: {_runtime(container).stop_command(container.name)}; {remedy}",
                code="port-in-use",
            )
    owner = observed.listeners.get(port)
    for container in _renamed(observed):
        if port in container.ports or (owner is not None and container.has_process(owner.cgroup)):
            runtime = _runtime(container)
            rename = runtime.rename_command(container.name, container.service)
            return Diagnostic(
                where,
                f"held by {_named(container)}, which is {container.service} under another name",
                f"the {runtime.noun} name {container.service}",
                f"on {host.name}: {rename}; or {runtime.stop_command(container.name)}",
                code="container-renamed",
            )
    ours = [container for container in observed.instances if container.service]
    if owner is None or any(container.has_process(owner.cgroup) for container in ours):
        return None
    if any(c.service and port in c.ports for c in observed.instances):
        return None
    foreign = next((c for c in observed.instances if not c.service and c.has_process(owner.cgroup)), None)
    if foreign:
        who = f"{_named(foreign)}, which is not managed by sparkfleet"
        stop = _runtime(foreign).stop_command(foreign.name)
    else:
        who = owner.command or "a process"
        stop = f"sudo kill {owner.pid}" if owner.pid else "sudo ss -ltnp"
    return Diagnostic(
        where,
        f"held by {who} (pid {owner.pid})",
        "a free port",
        f"on {host.name}: {stop}; {remedy}",
        code="port-in-use",
    )


def _runtime(instance: ObservedInstance) -> OperatorRuntime:
    return runtimes.get(instance.runtime)


def _named(instance: ObservedInstance) -> str:
    return f"the {_runtime(instance).noun} {instance.name}"


def _renamed(observed: Observed) -> list[ObservedInstance]:
    """Return running containers of sparkfleet that do not have the name of their service.

    A rollout in progress has some; then the host is not planned.
    """
    ours = (container for container in observed.instances if container.service and container.running)
    return [container for container in ours if role_of(container) is not Role.CURRENT]
