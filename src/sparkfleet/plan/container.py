"""A container's settings by meaning: what is declared and what docker says, in the same words, so that they
compare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sparkfleet.config.resolved import Host, Service
from sparkfleet.contract.generation import LABEL_SERVICE
from sparkfleet.plan import desired
from sparkfleet.probe.observed import ContainerSeen, ImageSeen, User

DEFAULT_SHM = 64 << 20
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_COMPARED = frozenset(
    [
        "NetworkMode",
        "IpcMode",
        "ShmSize",
        "DeviceRequests",
        "Devices",
        "CapAdd",
        "Ulimits",
        "Memory",
        "Mounts",
        "Binds",
        "PortBindings",
        "RestartPolicy",
        "LogConfig",
    ]
)
"""HostConfig keys that ``seen`` puts into words of its own."""

_OF_THE_ENGINE = frozenset(
    [
        "ContainerIDFile",
        "ConsoleSize",
        "Isolation",
        "MaskedPaths",
        "ReadonlyPaths",
        "CgroupnsMode",
        "Runtime",
        "CgroupParent",
        "MemorySwap",
    ]
)
"""HostConfig keys that docker fills in by itself (MemorySwap follows Memory)."""


def size_in_bytes(text: str) -> int:
    """Return the bytes of docker's size words (``16g``); 0 for ""."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)i?b?", text.strip().lower())
    return int(float(match[1]) * _UNITS[match[2]]) if match else 0


def _mount_words(source: str, target: str, read_only: bool) -> str:
    return f"{source}:{target}" + (":ro" if read_only else "")


def declared(host: Host, service: Service, user: User, image: ImageSeen | None) -> dict[str, str]:
    """Return the settings that a service shall have, each as short text; what is docker's default is left
    out.
    """
    box = service.container
    found = {
        "network": box.network,
        "ipc": box.ipc,
        "restart": "no",
        "log": _log_words("json-file", desired.LOG_OPTIONS),
        "service label": service.name,
    }
    if box.shm_size and box.ipc != "host":
        found["shm"] = str(size_in_bytes(box.shm_size))
    if box.gpus == "all":
        found["gpus"] = "all"
    user_in_image = image.user if image else ""
    if box.user or user_in_image:
        found["user"] = box.user or user_in_image
    if box.entrypoint:
        found["entrypoint"] = box.entrypoint
    if box.memory:
        found["memory limit"] = str(size_in_bytes(box.memory))
    for name, value in box.ulimits:
        found[f"ulimit {name}"] = str(value)
    for device in box.devices:
        found[f"device {device.split(':')[0]}"] = device.split(":")[-1] if ":" in device else device
    for capability in box.cap_add:
        found[f"capability {capability.removeprefix('CAP_')}"] = "yes"
    for mount in desired.mounts(host, service):
        found[f"mount {mount.target}"] = _mount_words(
            user.expand(mount.source), mount.target, mount.read_only
        )
    if box.network == "bridge":
        found[f"publish {service.port}/tcp"] = str(service.port)
    return found


def _log_words(driver: str, options: Mapping[str, str]) -> str:
    return " ".join([driver, *(f"{key}={value}" for key, value in sorted(options.items()))])


def seen(container: ContainerSeen, image: ImageSeen | None) -> dict[str, str]:
    """Return the settings that a container has, in the words of ``declared``; HostConfig keys that docker
    leaves
    empty by default appear by their own names when somebody set them (``docker update``, ``docker run`` by
    hand).
    """
    config, box = container.config, container.host
    found = {
        "network": str(box.get("NetworkMode") or "bridge").replace("default", "bridge"),
        "ipc": str(box.get("IpcMode") or "private"),
        "restart": (box.get("RestartPolicy") or {}).get("Name") or "no",
        "log": _log_words(
            (box.get("LogConfig") or {}).get("Type", ""), (box.get("LogConfig") or {}).get("Config") or {}
        ),
        "service label": (config.get("Labels") or {}).get(LABEL_SERVICE, ""),
    }
    if box.get("ShmSize") not in (None, 0, DEFAULT_SHM):
        found["shm"] = str(box["ShmSize"])
    for request in box.get("DeviceRequests") or ():
        capabilities = {word for group in request.get("Capabilities") or () for word in group}
        ids = request.get("DeviceIDs")
        found["gpus"] = ",".join(ids) if ids else "all" if "gpu" in capabilities else "other"
    if config.get("User"):
        found["user"] = str(config["User"])
    if box.get("Memory"):
        found["memory limit"] = str(box["Memory"])
    for limit in box.get("Ulimits") or ():
        found[f"ulimit {limit['Name']}"] = str(limit["Hard"])
    for device in box.get("Devices") or ():
        found[f"device {device['PathOnHost']}"] = device["PathInContainer"]
    for capability in box.get("CapAdd") or ():
        found[f"capability {capability.removeprefix('CAP_')}"] = "yes"
    for mount in box.get("Mounts") or ():
        found[f"mount {mount['Target']}"] = _mount_words(
            mount.get("Source", ""), mount["Target"], bool(mount.get("ReadOnly"))
        )
    for bind in box.get("Binds") or ():
        source, target, *mode = bind.split(":")
        found[f"mount {target}"] = _mount_words(source, target, "ro" in ",".join(mode).split(","))
    for port, entries in (box.get("PortBindings") or {}).items():
        found[f"publish {port}"] = ",".join(entry.get("HostPort", "") for entry in entries or ())
    if image is not None and (config.get("WorkingDir") or "") != image.working_dir:
        found["working directory"] = str(config.get("WorkingDir") or "/")
    if image is not None and tuple(config.get("Entrypoint") or ()) != image.entrypoint:
        found["entrypoint"] = " ".join(config.get("Entrypoint") or ())
    found.update(_extras(box))
    return found


def _extras(box: Mapping[str, Any]) -> dict[str, str]:
    ignored = _COMPARED | _OF_THE_ENGINE
    quiet = {
        "MemorySwappiness": (None, -1),
        "OomKillDisable": (None, False),
        "PidsLimit": (None, 0, -1),
        "SecurityOpt": (["label=disable"],),  # docker adds it by itself for --ipc host
    }
    return {
        key: str(value)
        for key, value in box.items()
        if key not in ignored
        and value not in quiet.get(key, ())
        and value not in (None, 0, "", False, [], {})
    }


def environment_seen(container: ContainerSeen, image: ImageSeen | None) -> dict[str, str]:
    """Return the container's variables without those that the image itself sets to the same value."""
    own = set(image.env) if image else set()
    pairs = (entry.partition("=") for entry in container.config.get("Env") or () if entry not in own)
    return {name: value for name, _, value in pairs}


def engine_words_seen(container: ContainerSeen) -> tuple[str, ...]:
    """Return the words after ``vllm serve`` of entrypoint and command together; all words where it is not
    said.
    """
    words = [*(container.config.get("Entrypoint") or ()), *(container.config.get("Cmd") or ())]
    for index, word in enumerate(words):
        if word == "serve" and index and words[index - 1].rsplit("/", 1)[-1] == "vllm":
            return tuple(words[index + 1 :])
    return tuple(words)
