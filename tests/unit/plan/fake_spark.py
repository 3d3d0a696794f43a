"""A Spark in memory: what docker would say of a container made from our own argv, and a probe's answer.

Written from docker's documentation of its options, not from our comparison, so that the two check each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sparkfleet import zipapp
from sparkfleet.contract.generation import (
    LABEL_GENERATION,
    ContainerOf,
    CurrentGeneration,
    Generation,
    convert,
)
from sparkfleet.desired_state import Host, ImageRef, Service
from sparkfleet.onhost.machine import programs
from sparkfleet.plan import host_changes, render_service
from sparkfleet.plan.compute import desired_generation
from sparkfleet.probe.observation import Disk, Listener, Observed, ObservedPath, ObservedUnit, User
from sparkfleet.runtimes.docker.probe_part import ContainerPart
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance
from tests.unit.plan.fabric.fabric_fixtures import seen as cabled

USER = User("nvidia", "/home/nvidia", 1000, 1000, "nvidia", ("nvidia", "sudo"))
GIB = 1 << 30
GUARDED = programs.status("nano runs", zipapp.sha256()[:12])
"""The status of the supervisor on an up-to-date Spark."""


def inspect(name: str, create: Sequence[str], image: ObservedImage) -> dict[str, Any]:  # noqa: PLR0915
    """Return Config and HostConfig as ``docker inspect`` gives them for ``docker create <create>``."""
    config: dict[str, Any] = {
        "Env": list(image.env), "Labels": dict(image.labels), "Entrypoint": list(image.entrypoint) or None,
        "User": image.user, "WorkingDir": image.working_dir,
    }  # fmt: skip
    host: dict[str, Any] = {
        "NetworkMode": "default", "IpcMode": "private", "ShmSize": 67108864, "DeviceRequests": None,
        "Devices": [], "CapAdd": None, "Ulimits": [], "Memory": 0, "MemorySwap": 0, "Mounts": None,
        "Binds": None, "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "json-file", "Config": {}}, "Privileged": False, "Runtime": "runc",
        "CgroupnsMode": "host", "ConsoleSize": [0, 0], "Isolation": "", "MaskedPaths": ["/proc/kcore"],
        "ReadonlyPaths": ["/proc/sys"], "MemorySwappiness": None, "PidsLimit": None, "OomKillDisable": False,
        "NanoCpus": 0, "CpuShares": 0, "Dns": [], "SecurityOpt": ["label=disable"], "AutoRemove": False,
    }  # fmt: skip
    args = list(create)
    while args and args[0].startswith("--"):
        option, value = args.pop(0), args.pop(0)
        key, _, rest = value.partition("=")
        match option:
            case "--label":
                config["Labels"][key] = rest
            case "--restart":
                host["RestartPolicy"]["Name"] = value
            case "--network":
                host["NetworkMode"] = value
            case "--ipc":
                host["IpcMode"] = value
            case "--shm-size":
                host["ShmSize"] = int(value[:-1]) << {"m": 20, "g": 30}[value[-1]]
            case "--gpus":
                host["DeviceRequests"] = [
                    {"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
                ]
            case "--user":
                config["User"] = value
            case "--entrypoint":
                config["Entrypoint"] = [value]
            case "--memory":
                host["Memory"] = int(value.removesuffix("g")) << 30
            case "--memory-swap":
                host["MemorySwap"] = int(value.removesuffix("g")) << 30
            case "--ulimit":
                soft, _, hard = rest.partition(":")
                host["Ulimits"].append({"Name": key, "Hard": int(hard or soft), "Soft": int(soft)})
            case "--device" if "=" in value:  # a CDI name
                cdi = {"Driver": "cdi", "Count": 0, "DeviceIDs": [value], "Capabilities": None, "Options": {}}
                host["DeviceRequests"] = [*(host["DeviceRequests"] or []), cdi]
            case "--device":
                # As Docker reads HOST, HOST:ACCESS, HOST:CONTAINER and HOST:CONTAINER:ACCESS.
                path, *more = value.split(":")
                access = more.pop() if more and not more[-1].startswith("/") else "rwm"
                inside = more[0] if more else path
                host["Devices"].append(
                    {"PathOnHost": path, "PathInContainer": inside, "CgroupPermissions": access}
                )
            case "--cap-add":
                name = "CAP_" + value.upper().removeprefix("CAP_")  # as Docker stores it
                host["CapAdd"] = [*(host["CapAdd"] or []), name]
            case "--mount":
                parts = dict(part.partition("=")[::2] for part in value.split(","))
                mount = {"Type": "bind", "Source": parts["source"], "Target": parts["target"]}
                host["Mounts"] = [
                    *(host["Mounts"] or []),
                    mount | ({"ReadOnly": True} if "readonly" in parts else {}),
                ]
            case "--env":
                config["Env"].append(value)
            case "--publish":
                host_port, _, inside = value.partition(":")
                host["PortBindings"][f"{inside}/tcp"] = [{"HostIp": "", "HostPort": host_port}]
            case "--add-host":
                host.setdefault("ExtraHosts", []).append(value)
            case "--tmpfs":
                path, _, options = value.partition(":")
                host.setdefault("Tmpfs", {})[path] = options
            case "--security-opt":
                host["SecurityOpt"].append(value)
            case "--cpuset-cpus":
                host["CpusetCpus"] = value
            case "--pids-limit":  # no setting has it: a test adds one
                host["PidsLimit"] = int(value)
            case "--log-driver":
                host["LogConfig"]["Type"] = value
            case "--log-opt":
                host["LogConfig"]["Config"][key] = rest
            case _:
                raise AssertionError(f"docker create has an option that this fake does not know: {option}")
    config["Image"] = args.pop(0)
    config["Cmd"] = args
    return {"config": config, "host": host}


def image_seen(image: ImageRef) -> ObservedImage:
    """Return the image as it lies on the Spark; its id follows from its digest, or its name."""
    if image.derived_packages:
        tag = image.pull_ref.rpartition(":")[2]
        labels = {"io.sparkfleet.derived": tag}
        return replace(image_seen(image.base), id=f"sha256:{tag * 4}", digests=(), labels=labels)
    return ObservedImage(
        id="sha256:" + image.digest.removeprefix("sha256:")[::-1],
        digests=(image.pull_ref,),
        entrypoint=image.entrypoint,
        env=("PATH=/usr/bin", "NVIDIA_VISIBLE_DEVICES=all"),
        size=image.size,
    )


def container_seen(generation: Generation, image: ObservedImage) -> ObservedInstance:
    """Return the running container of a generation."""
    label = ("--label", f"{LABEL_GENERATION}={generation.id}")
    inspected = inspect(generation.service, (*label, *generation.definition), image)
    identity, started = (generation.id * 6)[:64], "2026-11-21T08:00:00Z"
    return ContainerPart(identity, generation.service, image.id, "running", started, **inspected).observed()


def with_details(
    seen: ObservedInstance, *, config: Mapping[str, Any] | None = None, host: Mapping[str, Any] | None = None
) -> ObservedInstance:
    """Return a container with other inspect data."""
    old_config, old_host = seen.details["Config"], seen.details["HostConfig"]
    own = (seen.id, seen.name, seen.artifact, seen.state, seen.started_at)
    return ContainerPart(*own, {**old_config, **(config or {})}, {**old_host, **(host or {})}).observed()


def fresh(host: Host) -> Observed:
    """Return a Spark as delivered, as far as a plan reads it: Docker, systemd and free space."""
    disk = Disk("/", 4000 * GIB, 3000 * GIB)
    return Observed(
        arch="aarch64",
        user=USER,
        memory_total_mib=122573,
        memory_available_mib=118000,
        disks={"models": disk, "cache": disk, "images": disk, "state": disk},
        instances=(),
        images={name: None for service in host.services for name in service.image_names},
        units={},
        generations={},
        rollout="",
        paths={path: ObservedPath("absent") for path in host_changes.watched_paths(host)},
        weights={f"{s.weights.repo}@{s.weights.revision}": {} for s in host.services},
        listeners={22: Listener(1, "sshd")},
        toolkit=("nvidia-container-runtime-hook",),
    )


def generation_of(host: Host, service: Service) -> Generation:
    """Return the generation that a plan would send."""
    links = cabled() if host.member else None
    return desired_generation(host, service, replace(fresh(host), fabric=links))[1]


def converged(
    host: Host, instance: Callable[[Generation, ObservedImage], ObservedInstance] = container_seen
) -> Observed:
    """Return the Spark after a run of this very declaration; ``instance``: what a runtime shows of it."""
    seen = fresh(host)
    images: dict[str, ObservedImage | None] = dict(seen.images)
    containers, units, generations, listeners, weights = [], {}, {}, dict(seen.listeners), {}
    units[host_changes.RECOVER_UNIT] = ObservedUnit("...", enabled="enabled", active="active")
    for service in host.services:
        image = image_seen(service.image) if service.image else ObservedImage("")
        images |= {name: image for name in (*service.image_names[:1], image.id) if name}
        generation = generation_of(host, service)
        container = instance(generation, image)
        containers.append(container)
        units[generation.unit_name] = ObservedUnit(
            generation.unit, enabled="enabled", active="active", sub="running", status=GUARDED
        )
        record = convert(CurrentGeneration, generation, container=ContainerOf(container.id, generation.id))
        generations[service.name] = record
        listeners[service.port] = Listener(4242, "vllm serve", f"0::/docker/{container.id}")
        weights[f"{service.weights.repo}@{service.weights.revision}"] = {
            file.path: (file.size, file.blob) for file in service.weights.files
        }
    paths = {
        file.path: ObservedPath("file", file.mode, "root", "root", len(file.content), file.sha256)
        for file in host_changes.managed_files()
    }
    paths |= {
        directory.path: ObservedPath("directory", directory.mode, directory.user, directory.group)
        for directory in render_service.directories(host, USER)
    }
    return replace(
        seen,
        instances=tuple(containers),
        images=images,
        units=units,
        generations=generations,
        paths=paths,
        weights=weights,
        listeners=listeners,
    )
