"""What a preflight saw of one Spark, typed. Each part by itself: one that could not be read is ``Unread``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sparkfleet.contract.codec import SHAPE
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.probe.observed import Disk, Observed, decoded, understood

T = TypeVar("T")


@dataclass(frozen=True)
class Unread:
    """Why a part is not known; ``state`` is Docker's or sudo's word where there is one."""

    error: str
    state: str = ""


@dataclass(frozen=True)
class System:
    """The machine and its system."""

    arch: str
    kernel: str
    python: str
    os: str
    dgx: Mapping[str, str]
    """Variables of /etc/dgx-release; empty where there is none."""
    product: str


@dataclass(frozen=True)
class Gpu:
    """The GPU as its driver tells it."""

    count: int
    name: str
    driver: str
    compute: str
    """Compute capability: 12.1 on a GB10."""
    cuda: str
    """Newest CUDA that the driver runs, as nvidia-smi prints it; "" when it does not."""


@dataclass(frozen=True)
class Engine:
    """Docker's own settings."""

    version: str
    driver: str
    root: str
    runtimes: tuple[str, ...]


@dataclass(frozen=True)
class Resident:
    """A container on the Spark, whoever made it."""

    name: str
    image: str
    command: str
    state: str
    ours: bool


@dataclass(frozen=True)
class Reached:
    """How far a request to an address came: dns, connect, tls, time or http."""

    ok: bool
    step: str
    detail: str
    ms: int = 0


@dataclass(frozen=True)
class Footprints:
    """Path -> what in the file matters here; programs that kill for memory -> systemd's word."""

    netplan: Mapping[str, tuple[str, ...]]
    sudoers: Mapping[str, tuple[str, ...]]
    sudoers_errors: tuple[str, ...]
    units: Mapping[str, tuple[str, ...]]
    killers: Mapping[str, str]
    directories: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """In MiB."""

    total_mib: int
    available_mib: int
    swap_total_mib: int
    swap_free_mib: int


@dataclass(frozen=True)
class Clock:
    """Unix time there in seconds, and systemd's word on whether it is synchronised (yes or "")."""

    now: float
    synchronised: str
    took_s: float
    """What the preflight took there, up to the reading of the clock."""


@dataclass(frozen=True)
class PreflightSeen:
    """One Spark as a preflight sees it."""

    sudo: Unread | None
    """None: root is to be had."""
    systemd: Unread | None
    system: System | Unread
    gpu: Gpu | Unread
    engine: Engine | Unread
    residents: tuple[Resident, ...]
    toolkit: tuple[str, ...] | Unread
    disks: Mapping[str, Disk | Unread]
    memory: Memory | Unread
    clock: Clock | Unread
    reach: Mapping[str, Reached] | Unread
    footprints: Footprints | Unread
    observed: Observed | Diagnostic
    """What a plan would know."""


def read_preflight(host: str, text: str) -> PreflightSeen | Diagnostic:
    """Return the typed answer of a look with its preflight."""
    data = decoded(host, text)
    if isinstance(data, Diagnostic):
        return data
    try:
        return _preflight_seen(host, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"the preflight's answer has an unexpected format: {type(error).__name__}: {error}"
        return Diagnostic(host, found, hint="run again with -vvv", code=SHAPE)


def _preflight_seen(host: str, data: dict[str, Any]) -> PreflightSeen:
    more = data["preflight"]
    return PreflightSeen(
        sudo=_unless_ok(data["sudo"]),
        systemd=_unless_ok(data["systemd"]),
        system=_part(more["system"], lambda seen: System(**seen)),
        gpu=_part(more["gpu"], lambda seen: Gpu(**seen)),
        engine=_part(more["engine"], _engine),
        residents=tuple(Resident(**row) for row in more["engine"].get("containers", ())),
        toolkit=_part(data["toolkit"], lambda seen: (*seen["programs"], *seen["cdi"])),
        disks={name: _part(seen, lambda seen: Disk(**seen)) for name, seen in data["disks"].items()},
        memory=_part(data["memory"], lambda seen: Memory(**seen)),
        clock=_part(more["clock"], lambda seen: Clock(**seen)),
        reach=_part(more["reach"], lambda seen: {url: Reached(**one) for url, one in seen.items()}),
        footprints=_part(more["footprints"], _footprints),
        observed=understood(host, data),
    )


def _part(seen: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T | Unread:
    return Unread(seen["error"], seen.get("state", "")) if "error" in seen else read(seen)


def _unless_ok(seen: Mapping[str, Any]) -> Unread | None:
    state = seen.get("state", "error")
    return None if state == "ok" else Unread(seen.get("error", ""), state)


def _engine(seen: Mapping[str, Any]) -> Engine:
    return Engine(seen["version"], seen["driver"], seen["root"], tuple(seen["runtimes"]))


def _footprints(seen: Mapping[str, Any]) -> Footprints:
    return Footprints(
        netplan={path: tuple(words) for path, words in seen["netplan"].items()},
        sudoers={path: tuple(words) for path, words in seen["sudoers"].items()},
        sudoers_errors=tuple(seen["sudoers_errors"]),
        units={path: tuple(words) for path, words in seen["units"].items()},
        killers=dict(seen["killers"]),
        directories=tuple(seen["directories"]),
    )
