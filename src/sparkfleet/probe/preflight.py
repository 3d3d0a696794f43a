"""What a preflight read of one Spark, typed. A part that could not be read is ``Unread``, on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.probe import ProbeResponse
from sparkfleet.probe.machine import ObservedMachine
from sparkfleet.probe.observation import Disk, Observed
from sparkfleet.probe.response import Toolkit, decode, interpret, machine_of

T = TypeVar("T")


@dataclass(frozen=True)
class Unread:
    """Why a part is unknown; ``state``: of Docker, sudo or systemd."""

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
    """The GPU as its driver reports it."""

    count: int
    name: str
    driver: str
    compute: str
    """Compute capability: 12.1 on a GB10."""
    cuda: str
    """Newest CUDA that the driver runs, as nvidia-smi prints it; "": not printed."""


@dataclass(frozen=True)
class Sample:
    """Load of the GPU at one moment; None: nvidia-smi does not report it."""

    percent: float | None
    watts: float | None
    mhz: float | None
    """Clock of the streaming multiprocessors."""


@dataclass(frozen=True)
class Load:
    """Load of the GPU: one sample, or several within seconds if it is busy at little power."""

    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Blocks:
    """Free blocks of the physical memory, by order: each twice as large as the one before."""

    page_kib: int
    free: tuple[int, ...]


@dataclass(frozen=True)
class Nvidia:
    """Settings of NVIDIA's packages."""

    sources: tuple[str, ...]
    """Files with NVIDIA's package sources."""
    broken_sources: tuple[str, ...]
    """Those with an address that does not exist."""
    runtime_mode: str
    """``mode`` of the container runtime; "" if it is not set."""


@dataclass(frozen=True)
class Engine:
    """Docker's own settings."""

    version: str
    driver: str
    root: str
    runtimes: tuple[str, ...]


@dataclass(frozen=True)
class Resident:
    """A container on the Spark, managed or not."""

    name: str
    image: str
    command: str
    state: str
    ours: bool


@dataclass(frozen=True)
class Reached:
    """How far a request to a URL got: dns, connect, tls, time or http."""

    ok: bool
    step: str
    detail: str
    ms: int = 0


@dataclass(frozen=True)
class Footprints:
    """Path -> matching words in the file; out-of-memory killer -> its state by systemd."""

    netplan: Mapping[str, tuple[str, ...]]
    sudoers: Mapping[str, tuple[str, ...]]
    sudoers_errors: tuple[str, ...]
    units: Mapping[str, tuple[str, ...]]
    killers: Mapping[str, str]
    directories: tuple[str, ...]
    clocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Path of a unit -> options of nvidia-smi that limit the clocks of the GPU at boot."""


@dataclass(frozen=True)
class WaitingProfile:
    """A profile of NetworkManager that asks for an address on a link of a QSFP cage, and gets none."""

    path: str
    name: str
    uuid: str
    link: str


@dataclass(frozen=True)
class Profiles:
    """Profiles of NetworkManager."""

    waiting: tuple[WaitingProfile, ...]


@dataclass(frozen=True)
class Memory:
    """In MiB."""

    total_mib: int
    available_mib: int
    swap_total_mib: int
    swap_free_mib: int


@dataclass(frozen=True)
class Clock:
    """The Spark's Unix time in seconds, and whether systemd reports it as synchronised (yes or "")."""

    now: float
    synchronised: str
    took_s: float
    """Seconds of the preflight up to the reading of the clock."""


@dataclass(frozen=True)
class ObservedPreflight:
    """One Spark as a preflight reads it."""

    sudo: Unread | None
    """None: sudo works."""
    systemd: Unread | None
    machine: ObservedMachine
    system: System | Unread
    gpu: Gpu | Unread
    load: Load | Unread
    blocks: Blocks | Unread
    nvidia: Nvidia | Unread
    engine: Engine | Unread | None
    """None: nothing is declared that runs in a container."""
    residents: tuple[Resident, ...]
    toolkit: tuple[str, ...] | Unread
    disks: Mapping[str, Disk | Unread]
    memory: Memory | Unread
    clock: Clock | Unread
    reach: Mapping[str, Reached] | Unread
    footprints: Footprints | Unread
    profiles: Profiles | Unread
    state: Observed | Diagnostic
    """What a plan would read."""


@dataclass(frozen=True)
class _State:
    state: str = "error"


@dataclass(frozen=True)
class _EnginePart(Engine):
    containers: tuple[Resident, ...]


def read_preflight(host: str, text: str) -> ObservedPreflight | Diagnostic:
    """Return the probe's response with its preflight, typed."""
    response = decode(host, text)
    return response if isinstance(response, Diagnostic) else _observed_preflight(host, response)


def _observed_preflight(host: str, response: ProbeResponse) -> ObservedPreflight:
    data = vars(response)
    more = _part(data, "preflight", dict[str, Any])
    parts = data if isinstance(more, Unread) else {**data, **more}
    is_probed = "engine" not in parts or parts["engine"] is not None
    engine = _part(parts, "engine", _EnginePart) if is_probed else None
    toolkit = _part(parts, "toolkit", Toolkit)
    disks = _part(parts, "disks", dict[str, Any])
    return ObservedPreflight(
        sudo=_unless_ok(parts, "sudo"),
        systemd=_unless_ok(parts, "systemd"),
        machine=machine_of(host, response),
        system=_part(parts, "system", System),
        gpu=_part(parts, "gpu", Gpu),
        load=_part(parts, "load", Load),
        blocks=_part(parts, "blocks", Blocks),
        nvidia=_part(parts, "nvidia", Nvidia),
        engine=engine,
        residents=engine.containers if isinstance(engine, _EnginePart) else (),
        toolkit=toolkit if isinstance(toolkit, Unread) else (*toolkit.programs, *toolkit.cdi),
        disks={} if isinstance(disks, Unread) else {name: _part(disks, name, Disk) for name in disks},
        memory=_part(parts, "memory", Memory),
        clock=_part(parts, "clock", Clock),
        reach=_part(parts, "reach", dict[str, Reached]),
        footprints=_part(parts, "footprints", Footprints),
        profiles=_part(parts, "profiles", Profiles),
        state=interpret(host, response),
    )


def _unless_ok(parts: Mapping[str, Any], name: str) -> Unread | None:
    part = _part(parts, name, _State)
    if isinstance(part, Unread):
        return part
    return None if part.state == "ok" else Unread("", part.state)


def _part(parts: Mapping[str, Any], name: str, kind: type[T]) -> T | Unread:
    seen = parts.get(name)
    if isinstance(seen, dict) and "error" in seen:
        return Unread(str(seen["error"]), str(seen.get("state", "error")))
    try:
        return codec.read(kind, seen, name)
    except codec.ContractError as error:
        wrong = error.diagnostic
        return Unread(f"it has an unexpected format: {wrong.message}, expected {wrong.expected}")
