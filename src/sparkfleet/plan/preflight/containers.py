"""Rows on Docker, the NVIDIA container toolkit, and the disks that images and models lie on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sparkfleet import runtimes
from sparkfleet.contract.diagnostic import Severity
from sparkfleet.desired_state import Host
from sparkfleet.plan import blockers, staging
from sparkfleet.plan.model import FieldChange
from sparkfleet.plan.preflight import cuda
from sparkfleet.plan.preflight.model import INCOMPLETE, Check, failed, incomplete, of, warned
from sparkfleet.probe.observation import Disk, Observed
from sparkfleet.probe.preflight import Engine, ObservedPreflight, Unread
from sparkfleet.units import size

RUN = "GPU in a container"
"""Name of the check that starts a container."""
OLDEST_DOCKER = (20, 10)
GOOD_DRIVERS = ("overlay2", "overlayfs")
"""The second is what the containerd image store calls itself."""
_DISKS = {"models": "disk of the models", "images": "disk of the images", "state": "disk of the state"}


def rows(host: Host, seen: ObservedPreflight) -> Iterator[Check]:
    """Yield the rows."""
    if seen.engine is not None:
        yield from _engine(host.name, seen.engine)
        yield _toolkit(host, seen)
    yield from _writable(host, seen)
    yield from _disks(host, seen)


def _engine(host: str, engine: Engine | Unread) -> Iterator[Check]:
    if isinstance(engine, Unread):
        code = "docker-unavailable" if engine.state in {"missing", "down", "hangs"} else INCOMPLETE
        why = runtimes.get(runtimes.DEFAULT).unavailable(host, engine.state, engine.error)
        yield failed("Docker", engine.error, why.expected, why.hint, code=code)
        return
    if cuda.version(engine.version) < OLDEST_DOCKER:
        expected = f"{'.'.join(map(str, OLDEST_DOCKER))} or later"
        yield warned("Docker", engine.version, expected, code="docker-outdated")
    else:
        yield Check("Docker", engine.version)
    name, found = "storage driver", f"{engine.driver} in {engine.root}"
    if engine.driver in GOOD_DRIVERS:
        yield Check(name, found)
    else:
        yield warned(
            name,
            found,
            "overlay2: other drivers copy whole files and fill the disk",
            f"move {engine.root} to ext4 or xfs; see docs.docker.com/engine/storage/drivers",
            code="storage-driver-slow",
        )


def _toolkit(host: Host, seen: ObservedPreflight) -> Check:
    name = "container toolkit"
    if isinstance(seen.toolkit, Unread):
        return incomplete(name, seen.toolkit.error)
    if seen.toolkit:
        mode = "" if isinstance(seen.nvidia, Unread) else seen.nvidia.runtime_mode
        return Check(name, ", ".join(seen.toolkit) + (f"; mode {mode}" if mode else ""))
    is_declared = any(blockers.needs_toolkit(service) for service in host.services)
    severity = Severity.ERROR if is_declared else Severity.WARNING
    return of(name, replace(blockers.toolkit_missing(host.name), severity=severity))


def _writable(host: Host, seen: ObservedPreflight) -> Iterator[Check]:
    locked = {disk.path for disk in seen.disks.values() if isinstance(disk, Disk) and disk.read_only}
    for path in sorted(locked):
        yield of(f"{path} writable", blockers.mounted_read_only(host.name, path))


def _disks(host: Host, seen: ObservedPreflight) -> Iterator[Check]:
    for key, name in _DISKS.items():
        disk = seen.disks.get(key, Unread("not checked"))
        if isinstance(disk, Unread):
            yield incomplete(name, disk.error)
        else:
            yield Check(name, f"{size(disk.free)} of {size(disk.total)} free ({disk.path})")
    if isinstance(seen.state, Observed):
        for service in host.services:
            yield _room(host, seen.state, service.name)


def _room(host: Host, observed: Observed, name: str) -> Check:
    service = next(service for service in host.services if service.name == name)
    row = f"room for {name}"
    if not service.is_pinned:
        return incomplete(
            row, "the service is not pinned, so its size is unknown", "sparkfleet lock INVENTORY"
        )
    operations = staging.operations(service, observed)
    diagnostic = staging.disk_diagnostic(host, service, observed)
    if diagnostic:
        return of(row, diagnostic)
    missing = "; ".join(_text(change) for operation in operations for change in operation.fields())
    return Check(row, missing or "image and weights are there")


def _text(change: FieldChange) -> str:
    return " ".join(word for word in (change.name, change.key, change.new, change.note) if word)


def run_result(output: str, *, ok: bool) -> Check:
    """Return the check of the container that ran this command."""
    found = next((line for line in output.splitlines() if line.strip()), "nothing")
    if ok:
        return Check(RUN, found)
    hint = "sudo nvidia-ctk runtime configure --runtime=docker; then restart docker when nothing serves"
    expected = "a container that starts with --gpus all"
    return failed(RUN, found, expected, hint, code="gpu-container-failed")
