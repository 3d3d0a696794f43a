"""Rows on Docker, the NVIDIA container toolkit, and the disks that images and models lie on."""

from __future__ import annotations

from collections.abc import Iterator

from sparkfleet.config.resolved import Host
from sparkfleet.plan import staging
from sparkfleet.plan.model import FieldChange
from sparkfleet.plan.preflight import cuda
from sparkfleet.plan.preflight.model import Check, Verdict, unread
from sparkfleet.plan.units import size
from sparkfleet.probe.observed import DOCKER_REMEDIES, Disk, Observed
from sparkfleet.probe.preflight import Engine, PreflightSeen, Unread

OLDEST_DOCKER = (20, 10)
GOOD_DRIVERS = ("overlay2", "overlayfs")
"""The second is what the containerd image store calls itself."""
_DISKS = {"models": "disk of the models", "docker": "disk of the images", "state": "disk of the state"}


def rows(host: Host, seen: PreflightSeen) -> Iterator[Check]:
    """Yield the rows."""
    yield from _engine(seen.engine)
    yield _toolkit(host, seen)
    yield from _writable(seen)
    yield from _disks(host, seen)


def _engine(seen: Engine | Unread) -> Iterator[Check]:
    if isinstance(seen, Unread):
        remedy = DOCKER_REMEDIES.get(seen.state, "sudo docker info")
        state = Verdict.FAIL if seen.state in {"missing", "down", "hangs"} else Verdict.UNKNOWN
        yield Check("Docker", state, seen.error, "a Docker daemon that responds", remedy)
        return
    old = cuda.version(seen.version) < OLDEST_DOCKER
    expected = f"{'.'.join(map(str, OLDEST_DOCKER))} or later" if old else ""
    yield Check("Docker", Verdict.WARN if old else Verdict.OK, seen.version, expected)
    good = seen.driver in GOOD_DRIVERS
    yield Check(
        "storage driver",
        Verdict.OK if good else Verdict.WARN,
        f"{seen.driver} in {seen.root}",
        "" if good else "overlay2: other drivers copy whole files and fill the disk",
        "" if good else f"move {seen.root} to ext4 or xfs; see docs.docker.com/engine/storage/drivers",
    )


def _toolkit(host: Host, seen: PreflightSeen) -> Check:
    name = "container toolkit"
    if isinstance(seen.toolkit, Unread):
        return unread(name, seen.toolkit.error)
    if seen.toolkit:
        return Check(name, Verdict.OK, ", ".join(seen.toolkit))
    is_declared = any(service.container.gpus == "all" for service in host.services)
    return Check(
        name,
        Verdict.FAIL if is_declared else Verdict.WARN,
        "neither the toolkit nor a CDI file was found",
        "NVIDIA container toolkit, for GPU access in containers",
        "sudo apt-get install nvidia-container-toolkit",
    )


def _writable(seen: PreflightSeen) -> Iterator[Check]:
    locked = {disk.path for disk in seen.disks.values() if isinstance(disk, Disk) and disk.read_only}
    for path in sorted(locked):
        yield Check(
            f"{path} writable",
            Verdict.FAIL,
            "mounted read-only",
            "a writable file system",
            f"sudo dmesg | grep -i remount; sudo mount -o remount,rw $(findmnt -no TARGET -T {path})",
        )


def _disks(host: Host, seen: PreflightSeen) -> Iterator[Check]:
    for key, name in _DISKS.items():
        disk = seen.disks.get(key, Unread("not checked"))
        if isinstance(disk, Unread):
            yield unread(name, disk.error)
        else:
            yield Check(name, Verdict.OK, f"{size(disk.free)} of {size(disk.total)} free ({disk.path})")
    if isinstance(seen.observed, Observed):
        for service in host.services:
            yield _room(host, seen.observed, service.name)


def _room(host: Host, observed: Observed, name: str) -> Check:
    service = next(service for service in host.services if service.name == name)
    operations = staging.operations(service, observed)
    diagnostic = staging.disk_diagnostic(host, service, observed)
    row = f"room for {name}"
    if diagnostic:
        return Check(row, Verdict.FAIL, diagnostic.message, diagnostic.expected, diagnostic.hint)
    missing = "; ".join(_text(change) for operation in operations for change in operation.fields())
    return Check(row, Verdict.OK, missing or "image and weights are there")


def _text(change: FieldChange) -> str:
    return " ".join(word for word in (change.name, change.key, change.new, change.note) if word)
