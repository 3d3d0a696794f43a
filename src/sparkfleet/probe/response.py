"""The probe's response: checked part by part, and typed. Text in, ``Observed`` or a diagnostic out.

A part of another format is named and makes the host unknown. A state file that cannot be read is named in
``Observed.unreadable``, and only what it holds is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sparkfleet import runtimes
from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.contract.generation import CurrentGeneration
from sparkfleet.contract.probe import ProbeRequest, ProbeResponse
from sparkfleet.contract.resources import AppliedResources, RecordedIds
from sparkfleet.contract.state import Rates, Staged, StopRecord, Verified
from sparkfleet.probe.links import ObservedFabric
from sparkfleet.probe.machine import MachineTexts, ObservedMachine, machine_seen, unknown_machine
from sparkfleet.probe.observation import (
    Disk,
    Fields,
    Listener,
    Observed,
    ObservedPath,
    ObservedResources,
    ObservedUnit,
    User,
    WithoutRuntime,
    record_name,
    state_path,
    stop_name,
)
from sparkfleet.probe.packages import Packages
from sparkfleet.probe.stored import Stored
from sparkfleet.runtimes import errors
from sparkfleet.runtimes.operator import ObservedRuntime

T = TypeVar("T")
D = TypeVar("D")
F = TypeVar("F", bound=codec.Document)
RESOURCES, RATES, STAGED, VERIFIED = "prepared.json", "rates.json", "staged.json", "verified.json"


def read_response(host: str, text: str) -> Observed | Diagnostic:
    """Return the probe's response, typed, or everything that makes this Spark unknown."""
    data = decode(host, text)
    return data if isinstance(data, Diagnostic) else interpret(host, data)


def decode(host: str, text: str) -> ProbeResponse | Diagnostic:
    """Return the probe's response, its parts as the collectors return them."""
    try:
        return codec.loads(ProbeResponse, text)
    except ContractError as error:
        wrong = error.diagnostic
        if wrong.code == codec.NEWER:
            return Diagnostic(host, wrong.message, wrong.expected, MIXED, code=codec.NEWER)
        return _wrong_response(host, f"cannot be read: {wrong.message}", wrong.expected)


MIXED = "pip install --force-reinstall sparkfleet: its modules are of different versions; then run again"
"""The collectors are sent with each probe, so both sides come from one installation."""


def _wrong_response(host: str, found: str, expected: str = "") -> Diagnostic:
    return Diagnostic(
        host, f"the probe's response {found}", expected, "run again with -vvv", code=codec.SHAPE
    )


NEEDS_TERMINAL = re.compile(r"must have a tty|requiretty", re.IGNORECASE)
"""sudo's message where sudoers has ``Defaults requiretty``: no password helps there."""


def sudo_diagnostic(host: str, message: str, source: str = "") -> Diagnostic:
    """Return the diagnostic of a refused sudo; ``source``: where the password came from."""
    if NEEDS_TERMINAL.search(message):
        return Diagnostic(
            host,
            f"sudo refused: {message}",
            "sudo without a terminal for the login user",
            f'on {host}: echo "Defaults:$USER !requiretty" | sudo tee /etc/sudoers.d/$USER-notty',
            code="sudo-denied",
        )
    if source:
        return Diagnostic(
            host,
            f"sudo refused with the password of {source}: {message}",
            "the login user's correct password",
            f"ssh -t {host} sudo -k true (it asks for the password), then fix {source}; it was tried once",
            code="sudo-denied",
        )
    return Diagnostic(
        host,
        f"sudo refused: {message}",
        "the password for sudo, or sudo without one, for the login user",
        "declare `ssh: {sudo_password: ask}` in the host file, or set SPARKFLEET_SUDO_PASSWORD; or, once and "
        f'for all, on {host}: echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/$USER',
        code="sudo-denied",
    )


DISKS = ("models", "cache", "images", "state", "units", "programs")
"""Names of the file systems that every answer has."""


@dataclass(frozen=True)
class _PartState:
    state: str = "error"
    error: str = ""


@dataclass(frozen=True)
class _HostPart:
    arch: str


@dataclass(frozen=True)
class _MemoryPart:
    total_mib: int
    available_mib: int


@dataclass(frozen=True)
class _SystemdPart:
    units: Mapping[str, ObservedUnit] = field(default_factory=dict)


@dataclass(frozen=True)
class _StatePart:
    files: Mapping[str, Any]
    """Text of each, or its error."""
    rollout: str
    recorded: Any = None


@dataclass(frozen=True)
class _WeightFile:
    size: int
    blob: str
    hashed: str | None = None
    ok: bool = False


@dataclass(frozen=True)
class _WeightsPart:
    models: Mapping[str, Mapping[str, _WeightFile]]
    record: Any = None


@dataclass(frozen=True)
class Toolkit:
    """Programs and specifications of the NVIDIA container toolkit."""

    programs: tuple[str, ...]
    cdi: tuple[str, ...]


@dataclass(frozen=True)
class _ResourcesPart:
    record: Any
    live: Mapping[str, Fields]


class _Parts:
    """Reads parts of an answer; collects what is wrong with them."""

    def __init__(self, host: str, response: ProbeResponse) -> None:
        self.host, self.response = host, response
        self.diagnostics: list[Diagnostic] = []

    def read(self, name: str, kind: type[T], default: D) -> T | D:
        """Return a part, or the default with a diagnostic."""
        return self.check(name, kind, getattr(self.response, name), default)

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return a part; None: it was not requested, or is wrong."""
        return None if getattr(self.response, name) is None else self.read(name, kind, None)

    def each(self, name: str, kind: type[T]) -> dict[str, T]:
        """Return those entries of a part that can be read."""
        entries = self.read(name, dict[str, Any], {})
        found = {key: self.check(f"{name}: {key}", kind, entry, None) for key, entry in entries.items()}
        return {key: one for key, one in found.items() if one is not None}

    def runtime(self, name: str) -> ObservedRuntime:
        """Return a runtime's part."""
        try:
            return runtimes.get(name).read_response((self.response.runtimes or {})[name])
        except ContractError as error:
            self.diagnostics.append(self.wrong(error))
        except Exception as error:  # noqa: BLE001  (it holds what other programs wrote: of this host alone)
            found = f"cannot be read: {name}: {type(error).__name__}: {error}"
            self.diagnostics.append(_wrong_response(self.host, found))
        return ObservedRuntime()

    def check(self, name: str, kind: type[T], value: Any, default: D) -> T | D:
        """Return a value as its type, or the default with a diagnostic."""
        if _is_error(value):
            found, hint = f"{name} could not be read: {value['error']}", "fix it, then run again"
            self.diagnostics.append(Diagnostic(self.host, found, hint=hint, code="host-state-unreadable"))
            return default
        try:
            return codec.read(kind, value, name)
        except ContractError as error:
            self.diagnostics.append(self.wrong(error))
            return default

    def wrong(self, error: ContractError) -> Diagnostic:
        """Return the diagnostic of a part of another format."""
        one = error.diagnostic
        found = f"has an unexpected format: {one.location}: {one.message}"
        return _wrong_response(self.host, found, one.expected)


def _is_error(value: Any) -> bool:
    """Tell whether a value is what the probe returns in place of one that it could not read."""
    return isinstance(value, dict) and "error" in value and set(value) <= {"state", "error"}


class _StateFiles:
    """Reads files of the state directory; collects those that cannot be read."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.unreadable: dict[str, Diagnostic] = {}

    def read(self, name: str, kind: type[F], content: Any) -> F | None:
        """Return a file by its text, or by a value that stands for it; None: absent or unreadable."""
        path = state_path(name)
        try:
            if isinstance(content, str):
                return codec.loads(kind, content, path)
            if not _is_error(content):
                return None if content is None else kind.from_json(content, path)
            wrong = Diagnostic(path, str(content["error"]), code=codec.SHAPE)
        except ContractError as error:
            wrong = error.diagnostic
        self._add(name, wrong)
        return None

    def _add(self, name: str, wrong: Diagnostic) -> None:
        path = state_path(name)
        hint = wrong.hint or f"restore it, or sudo mv {path} {path}.bad; then run again"
        message = f"{path}: {wrong.message}"
        self.unreadable[name] = Diagnostic(self.host, message, wrong.expected, hint, code=wrong.code)

    def records(self, files: Mapping[str, Any]) -> dict[str, CurrentGeneration]:
        """Return the records of services."""
        found: dict[str, CurrentGeneration] = {}
        for name, content in files.items():
            service = name.removeprefix("services/").removesuffix("/current.json")
            record = self.read(name, CurrentGeneration, content) if name == record_name(service) else None
            found |= {service: record} if record else {}
        return found

    def stops(self, files: Mapping[str, Any]) -> dict[str, StopRecord]:
        """Return the records of stops."""
        found: dict[str, StopRecord] = {}
        for name, content in files.items():
            service = name.removeprefix("services/").removesuffix("/stop.json")
            record = self.read(name, StopRecord, content) if name == stop_name(service) else None
            found |= {service: record} if record else {}
        return found


def interpret(host: str, response: ProbeResponse) -> Observed | Diagnostic:
    """Return the decoded response of the probe, typed, or everything that makes this Spark unknown."""
    parts = _Parts(host, response)
    try:
        sudo = codec.read(_PartState, response.sudo, "sudo")
        systemd = codec.read(_PartState, response.systemd, "systemd")
        states = codec.read(dict[str, _PartState], response.runtimes, "runtimes")
    except ContractError as error:
        return parts.wrong(error)
    unknown = [name for name in states if name not in runtimes.names()]
    if unknown or not states:
        message = f"has an unexpected format: runtimes: found {', '.join(unknown)[:60] or 'none'}"
        return _wrong_response(host, message, f"one or more of {', '.join(runtimes.names())}")
    root = sudo.state == "ok"
    diagnostics = [] if root else [sudo_diagnostic(host, sudo.error)]
    if systemd.state != "ok" and (root or not systemd.error):
        message = f"systemd {systemd.state}: {systemd.error or 'it is not the init system'}"
        diagnostics.append(
            Diagnostic(host, message, "systemd as init, as on DGX OS", code="systemd-unavailable")
        )
    observed = _observed(parts, [name for name, one in states.items() if one.state == "ok"])
    diagnostics += parts.diagnostics if root else []
    denied = () if root else (errors.DENIED, "error")
    lacking = {name: one for name, one in states.items() if one.state not in {"ok", *denied}}
    for name, one in lacking.items():
        without = runtimes.get(name).unavailable(host, one.state, one.error)
        if not diagnostics and len(lacking) == 1:
            place = (without.location, without.message, without.expected, without.hint)
            return WithoutRuntime(*place, (), name, one.state, observed, code=without.code)
        diagnostics.append(without)
    return combine(*diagnostics) or observed


def runtimes_to_read(
    host: str, request: ProbeRequest, seen: Observed | Diagnostic
) -> tuple[str, ...] | Diagnostic:
    """Return the runtimes that a plan must know of a host: those of its services, and of what they replace.

    Where no service is declared, the requested one need not be there, if other runtimes have all records.
    """
    rest = seen.rest if isinstance(seen, WithoutRuntime) else seen
    if not isinstance(rest, Observed):
        return request.runtimes
    recorded = {one.runtime: one.service for one in rest.generations.values()}
    needed = {*request.runtimes, *recorded}
    if isinstance(seen, WithoutRuntime) and seen.state == errors.MISSING:
        is_declared = bool(request.services or request.install)
        needed -= {seen.runtime} if recorded and not is_declared and seen.runtime not in recorded else set()
    unknown = sorted(needed - {*runtimes.names()})
    if unknown:
        return Diagnostic(
            f"{host}: {recorded[unknown[0]]}",
            f"it runs in {unknown[0]}, which this sparkfleet does not have",
            f"one of: {', '.join(runtimes.names())}",
            "use the sparkfleet that rolled it out, or a newer one",
            code=codec.NEWER,
        )
    return tuple(sorted(needed))


def _observed(parts: _Parts, available: Sequence[str]) -> Observed:
    """Return what could be read; ``parts`` has the diagnostics of the rest."""
    memory = parts.read("memory", _MemoryPart, _MemoryPart(0, 0))
    by_runtime = [parts.runtime(name) for name in available]
    systemd = parts.read("systemd", _SystemdPart, _SystemdPart())
    weights = parts.read("weights", _WeightsPart, _WeightsPart({}))
    toolkit = parts.read("toolkit", Toolkit, Toolkit((), ()))
    state = parts.read("state", _StatePart, _StatePart({}, ""))
    fabric = parts.optional("fabric", ObservedFabric)
    files = _StateFiles(parts.host)
    rates = files.read(RATES, Rates, state.files.get(RATES)) or Rates()
    staged = files.read(STAGED, Staged, state.files.get(STAGED)) or Staged()
    recorded = files.read(RESOURCES, RecordedIds, state.recorded)
    hashed = files.read(VERIFIED, Verified, weights.record) is not None
    return Observed(
        arch=parts.read("host", _HostPart, _HostPart("")).arch,
        user=parts.read("user", User, User("", "", 0, 0, "")),
        memory_total_mib=memory.total_mib,
        memory_available_mib=memory.available_mib,
        disks=_disks(parts),
        instances=tuple(instance for one in by_runtime for instance in one.instances),
        images={reference: image for one in by_runtime for reference, image in one.images.items()},
        registry_layers=any(one.registry_layers for one in by_runtime),
        units=systemd.units,
        generations=files.records(state.files),
        stops=files.stops(state.files),
        rollout=state.rollout,
        fetched={
            "images": {key: one.bytes for key, one in staged.images.items()},
            "revisions": {key: one.bytes for key, one in staged.revisions.items()},
        },
        paths=parts.each("paths", ObservedPath),
        weights={
            key: {name: (one.size, one.blob) for name, one in found.items()}
            for key, found in weights.models.items()
        },
        hashed={
            key: {name: (one.hashed, one.ok) for name, one in found.items() if one.hashed is not None}
            for key, found in weights.models.items()
            if hashed
        },
        listeners=_listeners(parts),
        toolkit=(*toolkit.programs, *toolkit.cdi),
        stored=parts.optional("stored", Stored),
        resources=_resources(parts, files),
        recorded=recorded.ids if recorded else (),
        rates=rates.known(),
        fabric=fabric,
        packages=parts.optional("packages", Packages),
        unreadable=files.unreadable,
        machine=machine_of(parts.host, parts.response),
    )


def machine_of(host: str, response: ProbeResponse) -> ObservedMachine:
    """Return what is compared between hosts. Without it a host can be planned, so an error stays in it."""
    own = _Parts(host, response)
    texts = own.read("machine", MachineTexts, None)
    return machine_seen(texts) if texts else unknown_machine(own.diagnostics[0].message)


def _disks(parts: _Parts) -> dict[str, Disk]:
    """Return the file systems by what they are for; the plan needs each of DISKS."""
    found = parts.each("disks", Disk)
    missing = [name for name in DISKS if name not in found]
    if missing and not parts.diagnostics:
        message = f"has an unexpected format: disks: {', '.join(missing)} missing"
        parts.diagnostics.append(_wrong_response(parts.host, message, f"the disks {', '.join(DISKS)}"))
    return found


def _listeners(parts: _Parts) -> dict[int, Listener]:
    found = parts.read("listeners", dict[str, Listener], {})
    wrong = next((port for port in found if not (port.isascii() and port.isdecimal())), None)
    if wrong is not None:
        message = f"has an unexpected format: listeners: found the key {wrong[:20]!r}"
        parts.diagnostics.append(_wrong_response(parts.host, message, "port numbers"))
        return {}
    return {int(port): seen for port, seen in found.items()}


def _resources(parts: _Parts, files: _StateFiles) -> ObservedResources:
    if parts.response.resources is None:
        return ObservedResources()
    own = _Parts(parts.host, parts.response)
    seen = own.read("resources", _ResourcesPart, _ResourcesPart(None, {}))
    record = files.read(RESOURCES, AppliedResources, seen.record)
    if record is None and RESOURCES in files.unreadable:
        return ObservedResources(live=seen.live, error=files.unreadable[RESOURCES].message)
    error = own.diagnostics[0].message if own.diagnostics else ""
    return ObservedResources(record.resources if record else {}, seen.live, error)
