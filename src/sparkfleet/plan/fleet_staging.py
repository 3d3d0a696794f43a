"""Artifact sources: each image and model is downloaded once, then copied from host to host. Pure.

The plan of one Spark has only its missing artifacts. This module assigns a source to each of them from the
plans of all Sparks of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import AUTO, NONE, Host
from sparkfleet.plan.artifacts import Artifact, ArtifactSource, ArtifactType
from sparkfleet.plan.model import ChangeSet, HostPlan, Operation
from sparkfleet.plan.operations import FetchOperation

Sources = Mapping[tuple[str, str], ArtifactSource | None]
"""Host and artifact key -> source; None: there is no source."""

Lacks = Mapping[tuple[str, str], Diagnostic]
"""Host and artifact key -> why its source does not have it."""

UNPACKED = 3
"""Size of an unpacked image relative to the bytes that are pulled, at most."""
TO_SEND, TO_LOAD = 2, 3
"""Free space that sending and loading an image need, relative to its size: for the exported file, and for
Docker's temporary files. A host that can load an image can also send it afterwards."""


@dataclass
class _SourceHost:
    """A Spark that has, or will have, the artifact: it can send to ``slots`` others."""

    name: str
    depth: int
    slots: int
    size: int = 0
    """Bytes that it sends, if they differ from the missing bytes."""
    registry_layers: bool = False
    """Whether it sends the layers of an image as the registry does."""


def choose_sources(hosts: Mapping[str, Host], plans: Sequence[HostPlan]) -> Sources:
    """Return the source of each missing artifact."""
    found: dict[tuple[str, str], ArtifactSource | None] = {}
    for key, artifacts in _by_key(plans).items():
        needing = [name for name, artifact in artifacts.items() if not artifact.complete]
        if needing:
            for name, source in _sources(hosts, artifacts, needing).items():
                found[name, key] = source
    return found


def _by_key(plans: Sequence[HostPlan]) -> dict[str, dict[str, Artifact]]:
    """Return artifacts of Sparks that can take part: key -> host -> artifact, in the plans' order."""
    found: dict[str, dict[str, Artifact]] = {}
    for plan in plans:
        if plan.unknown or (plan.change_sets and not plan.proceeds):
            continue
        fetched = {one.artifact.key for one in fetches(plan, blocked=False)}
        for artifact in plan.artifacts:
            if artifact.complete or artifact.key in fetched:
                found.setdefault(artifact.key, {})[plan.host] = artifact
    return found


def _sources(
    hosts: Mapping[str, Host], artifacts: Mapping[str, Artifact], needing: list[str]
) -> dict[str, ArtifactSource | None]:
    policy = hosts[needing[0]].stage
    mirror = bool(policy.mirror)
    outside = [name for name in needing if mirror or not hosts[name].prepare.offline]
    found: dict[str, ArtifactSource | None] = {
        name: ArtifactSource(mirror=mirror) if name in outside else None for name in needing
    }
    if policy.seed == NONE:
        return found
    receiving = [name for name in needing if _may_receive(artifacts[name], hosts[name])]
    sources = [
        _source(name, artifact, policy.parallel)
        for name, artifact in artifacts.items()
        if artifact.complete and _may_send(artifact)
    ]
    if not sources:
        able = [name for name in outside if _may_send(artifacts[name])]
        if not able:
            return found
        seed = _seed(policy.seed, able, artifacts)
        if seed != policy.seed != AUTO:
            found[seed] = ArtifactSource(mirror=mirror, not_seed=_not_seed(policy.seed, needing, outside))
        receiving = [name for name in receiving if name != seed]
        built = artifacts[seed] if artifacts[seed].derived else None
        # The whole image is copied, even to a Spark that has its base.
        size = built.have + built.missing if built else 0
        sources.append(replace(_source(seed, artifacts[seed], policy.parallel), size=size))
    # A host that needs the registry's layers can send to every other one: it comes first.
    for name in sorted(receiving, key=lambda one: not artifacts[one].registry_layers):
        chosen = _take(name, artifacts[name], sources, hosts)
        if chosen:
            found[name] = chosen
        elif name in outside:
            sources.append(_source(name, artifacts[name], policy.parallel))
    return found


def _source(name: str, artifact: Artifact, slots: int) -> _SourceHost:
    size = artifact.have if artifact.complete and artifact.type is ArtifactType.IMAGE else 0
    return _SourceHost(name, 0, slots, size, artifact.registry_layers)


def _may_send(artifact: Artifact) -> bool:
    """Return whether there is space to send: an image is exported to a file first."""
    return artifact.type is not ArtifactType.IMAGE or artifact.free >= TO_SEND * _unpacked(artifact)


def _may_receive(artifact: Artifact, host: Host) -> bool:
    """Return whether the Spark can load an image's file and then get its digest from a registry or the
    mirror.

    A derived image has its name in the file.
    """
    if artifact.type is not ArtifactType.IMAGE:
        return True
    named = artifact.derived or bool(host.stage.mirror) or not host.prepare.offline
    return named and artifact.free >= TO_LOAD * _unpacked(artifact)


def _unpacked(artifact: Artifact) -> int:
    return artifact.have or UNPACKED * artifact.missing


def _seed(declared: str, outside: list[str], artifacts: Mapping[str, Artifact]) -> str:
    """Return who downloads: the declared seed if it needs the artifact, else the host that has most of it."""
    if declared != AUTO and declared in outside:
        return declared
    # the first of equals
    return max(outside, key=lambda name: (artifacts[name].registry_layers, artifacts[name].have))


def _not_seed(declared: str, needing: list[str], outside: list[str]) -> str:
    if declared not in needing:
        return f"the seed {declared} does not need it, or cannot be changed now"
    return f"the seed {declared} {'has no space to send it' if declared in outside else 'is offline'}"


def _take(
    name: str, artifact: Artifact, sources: list[_SourceHost], hosts: Mapping[str, Host]
) -> ArtifactSource | None:
    """Choose a source with a free slot, the nearest first; afterwards the host is a source, too.

    None: no source has the layers as the host needs them.
    """
    free = [one for one in sources if one.slots and (one.registry_layers or not artifact.registry_layers)]
    if not free:
        return None
    chosen = min(free, key=lambda one: (not near(hosts[name], hosts[one.name]), one.depth))
    chosen.slots -= 1
    parallel, layers = hosts[name].stage.parallel, artifact.registry_layers
    sources.append(_SourceHost(name, chosen.depth + 1, parallel, chosen.size, layers))
    return ArtifactSource(chosen.name, near(hosts[name], hosts[chosen.name]), chosen.size)


def near(one: Host, other: Host) -> bool:
    """Return whether the fabric links two Sparks, as members of one cluster."""
    return one.member is not None and other.member is not None and one.member.cluster == other.member.cluster


def fetches(plan: HostPlan, *, blocked: bool = True) -> Iterator[FetchOperation]:
    """Return the fetch operations of a plan, those of blocked changes only if ``blocked``."""
    change_sets = (one for one in plan.change_sets if blocked or not one.blocked)
    operations = (one for change_set in change_sets for one in change_set.operations)
    return (one for one in operations if isinstance(one, FetchOperation))


def apply_sources(plan: HostPlan, sources: Sources, lacks: Lacks | None = None) -> HostPlan:
    """Return the plan with the source of each artifact; blocked if no source has it."""
    if not any(host == plan.host for host, _ in sources):
        return plan
    missing = {key: diagnostic for (host, key), diagnostic in (lacks or {}).items() if host == plan.host}
    return replace(
        plan, change_sets=tuple(_with_sources(plan.host, one, sources, missing) for one in plan.change_sets)
    )


def _with_sources(
    host: str, change_set: ChangeSet, sources: Sources, missing: Mapping[str, Diagnostic]
) -> ChangeSet:
    operations: list[Operation] = []
    blocked = change_set.blocked
    for operation in change_set.operations:
        one = operation
        if isinstance(one, FetchOperation):
            source = sources.get((host, one.artifact.key), one.source)
            if source is None:
                blocked = combine(blocked, _nowhere(host, one.artifact))
            else:
                one = replace(one, source=source)
            blocked = combine(blocked, missing.get(one.artifact.key))
        operations.append(one)
    return replace(change_set, operations=tuple(operations), blocked=blocked)


def _nowhere(host: str, artifact: Artifact) -> Diagnostic:
    if artifact.derived:
        return Diagnostic(
            f"{host}: {artifact.key}",
            "no Spark of this run has the image or may build it: those that need it are offline",
            "a Spark that has it, or one that reaches the image's registry and the package index",
            "run without --limit; or set 'prepare: {offline: false}' on one of them",
            code="artifact-source-missing",
        )
    if artifact.type is ArtifactType.IMAGE:
        return Diagnostic(
            f"{host}: {artifact.key}",
            "the image is missing, and this Spark is offline",
            "an offline mirror with it, or access to its registry: docker gets a digest only from a registry",
            "sparkfleet mirror INVENTORY DIR where the registry can be reached, and 'stage: {mirror: DIR}'; "
            "or set 'prepare: {offline: false}' until it is here",
            code="artifact-source-missing",
        )
    return Diagnostic(
        f"{host}: {artifact.key}",
        "no Spark of this run has it, and those that need it are offline",
        "a Spark that has it, one that may download, or an offline mirror",
        "run without --limit; or sparkfleet mirror INVENTORY DIR where the hub can be "
        "reached, and 'stage: {mirror: DIR}'; or set 'prepare: {offline: false}' on one of them",
        code="artifact-source-missing",
    )
