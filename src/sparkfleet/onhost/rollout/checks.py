"""Checks before a rollout changes anything. Every refusal names the obstacle and the remedy."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from sparkfleet.contract.codec import SHAPE, ContractError
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation, RolloutRequest
from sparkfleet.contract.rollout import RUNTIME_MIB
from sparkfleet.onhost.cluster import ranks
from sparkfleet.onhost.machine import gpu, mounts, runtime_wait
from sparkfleet.onhost.machine.system import System, runtime_of
from sparkfleet.onhost.state import store, units
from sparkfleet.runtimes.base import (
    Instance,
    PortOwner,
    Role,
    Runtime,
    RuntimeRefusedError,
    RuntimeUnavailableError,
    Workload,
)

STATE_MIB = 64
"""Free disk space (MiB) for the journal and evidence."""

NO_SUCH_COMMAND = 127
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
"""A model of the hub: others are not looked for."""


def affected_services(request: RolloutRequest) -> tuple[str, ...]:
    """Return the services that a rollout stops or starts, the candidate's own last."""
    own = (request.candidate.service,) if request.candidate else ()
    return tuple(name for name in dict.fromkeys(request.replaces) if name not in own) + own


def refusal(system: System, request: RolloutRequest) -> Diagnostic | None:
    """Return the first obstacle of the rollout, None when there is none."""
    needed: tuple[Runtime, ...] = ()
    try:
        for service in affected_services(request):
            store.check_service(service)
            store.current(system.paths.state, service)
            ranks.recorded_run(system, service)  # the promotion writes it
        needed = _needed(system, request)
        for runtime in needed:
            runtime.ping()
        instances = {service: _current(system, request, service) for service in affected_services(request)}
        return (
            _stale(system, request)
            or _foreign(system, request)
            or (ranks.unsupported(request.candidate) if request.candidate else None)
            or _candidate(system, request)
            or _port(system, request, instances)
            or _memory(system, request, instances)
            or _disk(system, request)
            or _gpu(system, request)
        )
    except ContractError as error:
        return error.diagnostic
    except ValueError as error:
        return Diagnostic(f"rollout {request.id}", str(error), code=SHAPE)
    except RuntimeUnavailableError as error:
        runtime = next((one for one in needed if not one.available()), needed[0])
        return runtime_wait.unavailable(runtime, error)
    except RuntimeRefusedError as error:
        where = needed[0].daemon if needed else f"rollout {request.id}"
        return Diagnostic(where, str(error), code="runtime-refused")


def runtimes_of(system: System, request: RolloutRequest, service: str) -> tuple[Runtime, ...]:
    """Return the runtimes in which the rollout needs the names of a service, the recorded generation's first.

    A service without a record is looked for in the runtime of the candidate.
    """
    record, candidate = store.current(system.paths.state, service), request.candidate
    found = [runtime_of(system, record, candidate)]
    if candidate and candidate.service == service:
        found.append(runtime_of(system, candidate))
    return tuple(dict.fromkeys(found))


def _needed(system: System, request: RolloutRequest) -> tuple[Runtime, ...]:
    """Return the runtimes without which the rollout cannot be done."""
    candidate = request.candidate
    records = (store.current(system.paths.state, service) for service in affected_services(request))
    found = [runtime_of(system, candidate)] if candidate else []
    return tuple(dict.fromkeys([*found, *(runtime_of(system, record, candidate) for record in records)]))


def _current(system: System, request: RolloutRequest, service: str) -> Instance | None:
    record = store.current(system.paths.state, service)
    return runtime_of(system, record, request.candidate).find(service)


def _stale(system: System, request: RolloutRequest) -> Diagnostic | None:
    """The containers are those of the plan."""
    for name, expected in request.expect:
        runtime = runtime_of(system, store.current(system.paths.state, name), request.candidate)
        container = runtime.find(name)
        container_id = container.id if container else ""
        if container_id != expected:
            now = f"is {container_id[:12]}" if container_id else "is gone"
            then = f"was {expected[:12]}" if expected else "did not exist"
            return Diagnostic(
                f"{runtime.noun} {name}",
                f"it {now}, and {then} when planned",
                hint="plan again",
                code="host-changed-since-plan",
            )
    return None


def _foreign(system: System, request: RolloutRequest) -> Diagnostic | None:
    """Only containers with the label and units with the mark of sparkfleet are ever changed."""
    for service in affected_services(request):
        for runtime, role in itertools.product(runtimes_of(system, request, service), Role):
            container, noun = runtime.find(service, role), runtime.noun
            if container and container.service != service:
                owner = f"service {container.service}" if container.service else "another tool"
                return Diagnostic(
                    f"{noun} {container.name}",
                    f"{container.id[:12]} is not managed by sparkfleet: it belongs to {owner}",
                    f"a free {noun} name",
                    f"adopt it, give the service another name, or remove the {noun} yourself",
                    code="container-name-taken",
                )
        if unmanaged := unmanaged_unit(system, service):
            return unmanaged
    return None


def unmanaged_unit(system: System, service: str) -> Diagnostic | None:
    """Return that a service's unit is masked, or was not written by sparkfleet."""
    path = system.paths.units / units.unit_name(service)
    if path.is_symlink() and path.readlink() == Path("/dev/null"):
        hint = f"sudo systemctl unmask {path.name}; then run again"
        return Diagnostic(str(path), "masked: it is a link to /dev/null", hint=hint, code="unit-masked")
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(units.MARK):
        message = f"not managed by sparkfleet: it does not begin with {units.MARK!r}"
        return Diagnostic(str(path), message, hint="move it away", code="unit-not-managed")
    return None


def _candidate(system: System, request: RolloutRequest) -> Diagnostic | None:
    generation = request.candidate
    if generation is None:
        return None
    if generation.rank and not request.cluster_key:
        return Diagnostic(
            generation.service,
            f"it is a rank of the cluster {generation.rank.cluster}, and only part of a change of all ranks",
            hint="pyinfra INVENTORY deploys/serve.py",
            code="cluster-rank-alone",
        )
    if not generation.unit.startswith(units.MARK):
        return Diagnostic(
            generation.service,
            "the unit of the request was not written by sparkfleet",
            hint="run again: the new plan renders it",
            code=SHAPE,
        )
    runtime = runtime_of(system, generation)
    workload = runtime.workload(generation)
    missing = runtime.missing(workload)
    if missing:
        return Diagnostic(
            generation.service,
            f"{missing} is not on this Spark",
            hint="stage it first: pyinfra INVENTORY deploys/stage.py",
            code="image-missing",
        )
    obstacle = mounts.obstacle(system, workload)
    if obstacle:
        hint = f"{mounts.REMEDY}, or correct models_dir or container.mounts; then run again"
        return Diagnostic(generation.service, obstacle, hint=hint, code="mount-missing")
    if weights := _weights(generation, workload):
        return weights
    for device in workload.devices:
        # A runtime may take any name here and refuse it only at the start, after the old engine's stop.
        if not Path(device).exists():
            return Diagnostic(
                device, "the device does not exist", hint="correct container.devices", code="device-missing"
            )
    return None


def _weights(generation: Generation, workload: Workload) -> Diagnostic | None:
    """The model's files are there: the engine is offline, and would fail after the old one has stopped."""
    if not _REPOSITORY.fullmatch(generation.model) or not _COMMIT.fullmatch(generation.revision):
        return None
    hubs = [hub for mount in workload.mounts if (hub := Path(mount.source) / "hub").is_dir()]
    name = f"models--{generation.model.replace('/', '--')}"
    snapshots = [hub / name / "snapshots" / generation.revision for hub in hubs]
    if not snapshots or any(_is_complete(snapshot) for snapshot in snapshots):
        return None
    return Diagnostic(
        generation.service,
        f"the model {generation.model}@{generation.revision[:12]} is not on this Spark, or has lost files",
        "the model's files",
        "declare it in the host file, then pyinfra INVENTORY deploys/serve.py: it fetches what is missing",
        code="weights-missing",
    )


def _is_complete(snapshot: Path) -> bool:
    """Return whether a snapshot has files, and no link to one that is gone."""
    entries = list(snapshot.rglob("*"))
    return bool(entries) and all(one.exists() for one in entries)


def _port(
    system: System, request: RolloutRequest, instances: dict[str, Instance | None]
) -> Diagnostic | None:
    if request.candidate is None:
        return None
    leaving = {container.id for container in instances.values() if container}
    for port, remedy in (
        (request.candidate.port, "stop it, or give the service another port"),
        *(
            (port, "stop it: the ranks of a cluster need this port")
            for port in _cluster_ports(request.candidate)
        ),
    ):
        for owner in system.port_owners(port):
            runtime, instance = _instance_of_port(system, request, owner, port)
            if instance is None or instance.id not in leaving:
                name = f"{owner.command} (pid {owner.pid})"
                if instance:
                    name = f"{runtime.noun} {instance.name} ({instance.id[:12]})"
                return Diagnostic(
                    f"port {port}",
                    f"held by {name}, which this rollout does not replace",
                    "a free port",
                    remedy,
                    code="port-in-use",
                )
    return None


def _cluster_ports(generation: Generation) -> tuple[int, ...]:
    """Return the coordination ports of a cluster here: a leftover process there would block the ranks."""
    rank = generation.rank
    if rank is None or not rank.is_head:
        return ()
    return (ranks.cluster_start(generation, rank).head_port,)


def _instance_of_port(
    system: System, request: RolloutRequest, owner: PortOwner, port: int
) -> tuple[Runtime, Instance | None]:
    """Return the instance for which a process listens on a port, with its runtime; None for none."""
    needed = _needed(system, request)
    for runtime in needed:
        for one in runtime.running():
            if runtime.holds(one, owner, port):
                return runtime, one
    return needed[0], None


def _memory(
    system: System, request: RolloutRequest, instances: dict[str, Instance | None]
) -> Diagnostic | None:
    """What a running engine will release is not known for sure: only the impossible is refused here.

    After the stop, memory is measured, and the candidate is not started without enough of it.
    """
    need = request.candidate.need_mib if request.candidate else 0
    memory = system.memory()
    something_leaves = any(container and container.running for container in instances.values())
    limit = memory.total if something_leaves else memory.available
    if need <= limit:
        return None
    return Diagnostic(
        "memory",
        f"{need} MiB needed, {memory.available} MiB available of {memory.total} MiB",
        hint="stop what else uses memory, or serve a smaller model",
        code="memory-insufficient",
    )


def _disk(system: System, request: RolloutRequest) -> Diagnostic | None:
    own = (runtime_of(system, request.candidate),) if request.candidate else _needed(system, request)
    folders = dict.fromkeys(runtime.data_directory() for runtime in own)
    for path, need in ((system.paths.state, STATE_MIB), *((folder, RUNTIME_MIB) for folder in folders)):
        free = system.free_mib(path)
        if free < need:
            return Diagnostic(
                str(path),
                f"disk full: {free} MiB free, {need} needed",
                hint="free disk space first",
                code="disk-full",
            )
    return None


def _gpu(system: System, request: RolloutRequest) -> Diagnostic | None:
    """A driver that was replaced under a running engine does not stop it, but no other engine starts."""
    if (
        request.candidate is None
        or not runtime_of(system, request.candidate).workload(request.candidate).gpus
    ):
        return None
    result = system.run(("nvidia-smi", "-L"), gpu.GPU_S)
    if result.code in {0, NO_SUCH_COMMAND}:  # it may be missing: the engine's start shows that
        return None
    output = result.text.splitlines()[0] if result.text else f"nvidia-smi ended with {result.code}"
    return Diagnostic(
        "GPU",
        f"it does not answer: {output}",
        hint="nvidia-smi; sudo dmesg | grep -i nvrm; sudo reboot",
        code="gpu-unresponsive",
    )
