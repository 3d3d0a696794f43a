"""Desired state, rendered for one Spark: the container, the unit and the host files that a service needs.

Pure: needs the login user's home, and the entrypoint of the image (from the lock file or the Spark).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sparkfleet import engines, runtimes
from sparkfleet.config.origin import user_place
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import CACHE_IN_CONTAINER, Generation, Rank
from sparkfleet.desired_state import MODELS_IN_CONTAINER, Host, Service
from sparkfleet.onhost.state import units
from sparkfleet.probe.observation import User
from sparkfleet.runtimes import Mount
from sparkfleet.runtimes.operator import DeclaredWorkload

Wrap = Callable[[tuple[str, ...]], tuple[str, ...]]


@dataclass(frozen=True)
class Directory:
    """A desired directory, its owner by name."""

    path: str
    mode: str
    user: str
    group: str


def cache_directory(host: Host, service: Service) -> str:
    """Return the compile cache of a service, keyed by build: a cache of another one is at best ignored."""
    return f"{host.paths.cache}/{service.build}"


def directories(host: Host, user: User) -> tuple[Directory, ...]:
    """Return the directories that the host's services need, parents first, ``~`` unexpanded."""
    directories = [Directory("/var/lib/sparkfleet", "0755", "root", "root")]
    if host.services:
        directories += [
            Directory(path, "0755", user.name, user.group) for path in (host.paths.models, host.paths.cache)
        ]
        caches = dict.fromkeys(cache_directory(host, service) for service in host.services)
        directories += [Directory(path, "0755", user.name, user.group) for path in caches]
    declared = {user.expand(one.key) for one in host.prepare.resources if one.kind == "directory"}
    return tuple(directory for directory in directories if user.expand(directory.path) not in declared)


def mounts(host: Host, service: Service) -> tuple[Mount, ...]:
    """Return every bind mount of a service: models, compile cache, and declared ones."""
    return (
        Mount(host.paths.models, MODELS_IN_CONTAINER),
        Mount(cache_directory(host, service), CACHE_IN_CONTAINER),
        *service.container.mounts,
    )


def environment(service: Service) -> dict[str, str]:
    """Return the container's variables: the engine's, overridden by declared ones."""
    engine = engines.get(service.engine)
    return {**engine.environment(MODELS_IN_CONTAINER, CACHE_IN_CONTAINER), **dict(service.env)}


def command(service: Service, entrypoint: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the container's command so that the image's entrypoint starts the engine exactly once."""
    engine = engines.get(service.engine)
    prefix = engine.command_prefix(entrypoint)
    if prefix is None:
        raise SparkfleetError(
            Diagnostic(
                where,
                f"image {service.engine_source} has the entrypoint {list(entrypoint)}: "
                f"no {engine.title} server",
                engine.entrypoint_hint,
                "choose another image in the recipe or the host file",
                code="image-entrypoint-unknown",
            )
        )
    return (*prefix, *engine.args(service))


def workload(host: Host, service: Service, user: User) -> DeclaredWorkload:
    """Return what the service's runtime needs to know of it."""
    return DeclaredWorkload(
        service=service.name,
        port=service.port,
        image=service.image_ref,
        container=service.container,
        mounts=tuple(replace(mount, source=user.expand(mount.source)) for mount in mounts(host, service)),
        environment=environment(service),
    )


def generation(
    host: Host,
    service: Service,
    user: User,
    entrypoint: Sequence[str],
    *,
    rank: Rank | None = None,
    wrap: Wrap = lambda argv: argv,
) -> Generation:
    """Return the desired generation of a service. Raise SparkfleetError for an image that cannot serve.

    ``rank`` is its place in a cluster; ``wrap`` turns the serving command into the container's command.
    """
    where = user_place(dict(service.origin), "image", host.file or host.name)
    engine, runtime = engines.get(service.engine), runtimes.get(service.runtime)
    floor_mib = math.ceil(host.min_available_gib * 1024)
    stop_timeout_s = 60
    argv = wrap(command(service, () if service.container.entrypoint else entrypoint, where))
    return Generation(
        service=service.name,
        image=service.image_ref,
        model=service.weights.repo,
        revision=service.weights.revision,
        served_name=service.served_name,
        port=service.port,
        definition=runtime.definition(workload(host, service, user), argv),
        unit=units.service_unit(
            service.name,
            f"{service.name}: a model served by {engine.title}",
            floor_mib,
            stop_timeout_s,
            runtime.daemon_units,
        ),
        gate=service.gate,
        recipe=service.recipe,
        engine_version=service.engine_version,
        floor_mib=floor_mib,
        need_mib=int(engine.required_gib(service) * 1024),
        stop_timeout_s=stop_timeout_s,
        argv=engine.args(service),
        env=tuple(environment(service).items()),
        rank=rank,
        engine=engine.name,
        runtime=runtime.name,
    )
