"""The types of operations that a plan consists of: the data for their execution, cost and description."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from sparkfleet.contract.fabric import FabricRequest
from sparkfleet.contract.generation import Generation, Rank
from sparkfleet.desired_state import Weights
from sparkfleet.plan.artifacts import Artifact, ArtifactSource, amount_text, origin_text
from sparkfleet.plan.model import Action, ChangeKind, FieldChange, Operation, Step
from sparkfleet.probe.observation import ObservedPath
from sparkfleet.resources.base import Resource
from sparkfleet.units import size

ABSENT = ObservedPath("absent")
SHORT_COMMIT = 7
"""Digits of a commit that are shown."""


@dataclass(frozen=True)
class PackageChange:
    """A Debian package: installed version ("" for none) and the one that is installed."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class InstallPackages(Operation):
    """Install Debian packages in exactly the versions shown, then start or restart Docker."""

    step: ClassVar[Step] = Step.DOCKER

    packages: Annotated[tuple[PackageChange, ...], "packages with their versions"]
    restart: Annotated[bool, "whether Docker runs already and is restarted"]

    @property
    def apt_arguments(self) -> tuple[str, ...]:
        """Return the packages as apt-get takes them."""
        return tuple(f"{package.name}={package.new}" for package in self.packages)

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the packages, and what happens to Docker."""
        note = "after the toolkit, so that it offers GPUs"
        action, old, new = (
            (Action.CHANGE, "running", "restarted") if self.restart else (Action.ADD, "", "started")
        )
        return (
            *(
                FieldChange(Action.CHANGE if one.old else Action.ADD, "package", one.name, one.old, one.new)
                for one in self.packages
            ),
            FieldChange(action, "service", "docker", old, new, note),
        )


@dataclass(frozen=True)
class WriteFile(Operation):
    """Write a file of sparkfleet, owned by root, atomically."""

    step: ClassVar[Step] = Step.HOST

    path: Annotated[str, "where the file is"]
    mode: Annotated[str, "permissions, in octal"]
    role: Annotated[str, "what the file is for: programs, valve, unit"]
    unit: Annotated[str, "systemd unit that the file defines, enabled afterwards; empty for other files"]
    sha256: str
    content: bytes = field(repr=False)
    observed: ObservedPath = ABSENT

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the file as a whole where it is new, else content and permissions."""
        if self.observed.kind == "absent":
            return (FieldChange(Action.ADD, self.role, self.path),)
        if self.observed.kind != "file":
            return (FieldChange(Action.CHANGE, self.role, self.path, f"a {self.observed.kind}", "our file"),)
        changes = []
        if self.observed.sha256 != self.sha256:
            old, new = self.observed.sha256[:12], self.sha256[:12]
            changes.append(FieldChange(Action.CHANGE, self.role, self.path, old, new, "content"))
        old, new = f"{self.observed.mode} {self.observed.user}", f"{self.mode} root"
        if old != new:
            changes.append(FieldChange(Action.CHANGE, self.role, self.path, old, new))
        return tuple(changes)


@dataclass(frozen=True)
class RemoveDropIn(Operation):
    """Remove a drop-in that somebody added to a unit of sparkfleet."""

    step: ClassVar[Step] = Step.HOST

    unit: Annotated[str, "the systemd unit"]
    path: Annotated[str, "the drop-in"]

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the drop-in."""
        return (FieldChange(Action.REMOVE, "drop-in", self.path),)


@dataclass(frozen=True)
class EnableUnit(Operation):
    """Enable a systemd unit."""

    step: ClassVar[Step] = Step.HOST

    unit: Annotated[str, "the systemd unit"]
    enabled: Annotated[str, "its state now, in systemd's words"]

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the state before and after."""
        return (FieldChange(Action.CHANGE, "unit", self.unit, self.enabled, "enabled"),)


@dataclass(frozen=True)
class EnsureDirectory(Operation):
    """Create a directory, or set its owner and permissions."""

    step: ClassVar[Step] = Step.HOST

    path: Annotated[str, "absolute path"]
    declared: Annotated[str, "the path as declared, with ~ for the home of the login user"]
    mode: Annotated[str, "permissions, in octal"]
    user: Annotated[str, "owner"]
    group: Annotated[str, "group"]
    observed: ObservedPath = ABSENT

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the directory as a whole where it is new, else owner and permissions."""
        observed, owner = self.observed, f"{self.user}:{self.group}"
        if observed.kind == "absent":
            return (FieldChange(Action.ADD, "directory", self.declared, new=f"{self.mode} {owner}"),)
        if observed.kind != "directory":
            return (
                FieldChange(Action.CHANGE, "directory", self.declared, f"a {observed.kind}", "a directory"),
            )
        rows = (("owner", f"{observed.user}:{observed.group}", owner), ("mode", observed.mode, self.mode))
        return tuple(
            FieldChange(Action.CHANGE, name, self.declared, old, new) for name, old, new in rows if old != new
        )


@dataclass(frozen=True)
class ComparedOperation(Operation):
    """An operation whose fields are known from a comparison."""

    changes: tuple[FieldChange, ...] = field(kw_only=True)

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the fields that differ."""
        return self.changes

    def effect(self) -> Operation:
        """Return the operation without the notes of its fields."""
        return replace(self, changes=tuple(replace(one, note="") for one in self.changes))


@dataclass(frozen=True)
class ApplyResource(ComparedOperation):
    """Make a declared resource of the host as declared."""

    step: ClassVar[Step] = Step.HOST

    resource: Annotated[str, "kind of the resource"]
    key: Annotated[str, "which one of its kind"]
    declared: Resource


@dataclass(frozen=True)
class RevertResource(ComparedOperation):
    """Restore what a resource was before sparkfleet changed it: it is no longer declared."""

    step: ClassVar[Step] = Step.HOST

    resource: Annotated[str, "kind of the resource"]
    key: Annotated[str, "which one of its kind"]

    @property
    def id(self) -> str:
        """Return the resource's identity: kind and key."""
        return f"{self.resource} {self.key}"


@dataclass(frozen=True)
class UserDeploy(Operation):
    """An operation of the fleet's own deploy file that would change something; pyinfra executes it."""

    step: ClassVar[Step] = Step.USER_DEPLOY

    name: Annotated[str, "name of the pyinfra operation"]

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the operation's name."""
        return (FieldChange(Action.CHANGE, "operation", self.name),)


@dataclass(frozen=True)
class ConfigureFabric(ComparedOperation):
    """Configure the fabric links, and restore them where a peer does not answer; or remove them."""

    step: ClassVar[Step] = Step.FABRIC

    request: FabricRequest


@dataclass(frozen=True)
class FetchOperation(Operation):
    """Fetch an artifact while the running engine serves."""

    kind: ClassVar[ChangeKind] = ChangeKind.STAGE

    artifact: Artifact
    source: Annotated[ArtifactSource, "where it comes from"] = field(default=ArtifactSource(), kw_only=True)

    @property
    def size(self) -> int:
        """Return the bytes that are transferred."""
        return self.source.size or self.artifact.missing

    @property
    def key(self) -> Annotated[str, "what identifies the artifact in the fleet"]:
        """Return what identifies the artifact in the fleet."""
        return self.artifact.key

    def essence(self) -> object:
        """Return everything but which host sends, and free space."""
        source = (bool(self.source.host), self.source.near, self.source.mirror, self.source.not_seed)
        return (self.type, self.artifact.key, self.size, source)

    def _note(self, *, whole: bool = True) -> str:
        """Return amount and source; for a part (not ``whole``) the source alone where it is remarkable."""
        source = self.source
        if whole:
            text = amount_text(self.artifact, source)
        else:
            known = source.host or source.mirror or source.not_seed
            text = origin_text(self.artifact, source) if known else ""
        return f"{text}; {source.not_seed}" if source.not_seed else text

    @abstractmethod
    def fields(self) -> tuple[FieldChange, ...]:
        """Return what is fetched."""


@dataclass(frozen=True)
class PullImage(FetchOperation):
    """Pull an image by digest, or copy it from another host."""

    step: ClassVar[Step] = Step.IMAGE

    image: Annotated[str, "name and tag of the image"]

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the image with amount and source."""
        return (FieldChange(Action.ADD, "pull", new=self.image, note=self._note()),)


@dataclass(frozen=True)
class BuildImage(FetchOperation):
    """Build a derived image, or copy it from a host that has built it."""

    step: ClassVar[Step] = Step.IMAGE

    image: Annotated[str, "name of the image"]
    packages: Annotated[tuple[str, ...], "Python packages that are added where the base image lacks them"]

    def fields(self) -> tuple[FieldChange, ...]:
        """Return the image with amount and source."""
        return (FieldChange(Action.ADD, "build", new=self.image, note=self._note()),)


@dataclass(frozen=True)
class FileToFetch:
    """A model file that is not present as locked."""

    path: str
    size: int
    """Bytes."""
    found: str
    """``missing``, or what is wrong with the file that is present."""


@dataclass(frozen=True)
class FetchWeights(FetchOperation):
    """Fetch the files of a model that are not present as locked."""

    step: ClassVar[Step] = Step.WEIGHTS
    LISTED: ClassVar[int] = 5
    """More differing files than this are counted instead of listed."""

    repository: Annotated[str, "the model's repository"]
    revision: Annotated[str, "commit"]
    files: Annotated[tuple[FileToFetch, ...], "files that are fetched"]
    total: Annotated[int, "number of files of the model"]
    nothing_present: Annotated[bool, "whether the host has no file of this commit"]

    def fields(self) -> tuple[FieldChange, ...]:
        """Return one line for a whole repository, a line for each of a few files."""
        if self.nothing_present or len(self.files) > self.LISTED:
            what = self.repository if self.nothing_present else f"{len(self.files)} of {self.total} files"
            return (FieldChange(Action.ADD, "weights", new=what, note=self._note()),)
        note = self._note(whole=False)
        return tuple(
            FieldChange(Action.ADD, "weights", one.path, "", size(one.size), note)
            if one.found == "missing"
            else FieldChange(Action.CHANGE, "weights", one.path, one.found, size(one.size), note)
            for one in self.files
        )

    def essence(self) -> object:
        """Return everything but which host sends, and free space."""
        return (super().essence(), self.files, self.nothing_present)


@dataclass(frozen=True)
class ServiceOperation(ComparedOperation):
    """A change of one service."""

    step: ClassVar[Step] = Step.SERVICE

    service: Annotated[str, "name of the service"]


@dataclass(frozen=True)
class RolloutOperation(ServiceOperation):
    """A change that stops or starts an engine: one rollout on the host, with rollback."""

    generation: Generation | None = field(default=None, kw_only=True)
    """What is started; None: nothing."""
    replaces: Annotated[tuple[str, ...], "services that stop: itself when it runs, and undeclared ones"] = (
        field(default=(), kw_only=True)
    )
    expect: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    """Container name -> id that the plan was computed from ("": none)."""
    downtime: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class CreateService(RolloutOperation):
    """Start a service where none runs, through its gate."""

    kind: ClassVar[ChangeKind] = ChangeKind.CREATE


@dataclass(frozen=True)
class ReplaceService(RolloutOperation):
    """Replace a running service by a new generation, through its gate."""

    kind: ClassVar[ChangeKind] = ChangeKind.RECREATE


@dataclass(frozen=True)
class RemoveService(RolloutOperation):
    """Stop and remove a service that is no longer declared."""

    kind: ClassVar[ChangeKind] = ChangeKind.REMOVE


@dataclass(frozen=True)
class StartService(RolloutOperation):
    """Start a service as it served last, through its gate."""

    kind: ClassVar[ChangeKind] = ChangeKind.START


@dataclass(frozen=True)
class RestartService(RolloutOperation):
    """Stop a service, and start it as it served, through its gate."""

    kind: ClassVar[ChangeKind] = ChangeKind.RESTART


@dataclass(frozen=True)
class StopService(ServiceOperation):
    """Stop a service until its next start, also over reboots; its container stays."""

    kind: ClassVar[ChangeKind] = ChangeKind.STOP

    reason: Annotated[str, "why, in the operator's words; empty: not given"] = field(default="", kw_only=True)
    rank: Rank | None = field(default=None, kw_only=True)
    """Its position in a cluster; None: a single Spark serves it."""
    stop_timeout_s: int = field(default=60, kw_only=True)
    """Seconds that its engine has to end."""


@dataclass(frozen=True)
class UpdateService(ServiceOperation):
    """Update unit, gate settings and record of a service; its engine continues to run."""

    kind: ClassVar[ChangeKind] = ChangeKind.UPDATE

    generation: Generation


@dataclass(frozen=True)
class VerifyWeights(Operation):
    """Hash model files whose content is not known in their present state."""

    step: ClassVar[Step] = Step.VERIFY
    kind: ClassVar[ChangeKind] = ChangeKind.VERIFY

    repository: Annotated[str, "the model's repository"]
    revision: Annotated[str, "commit"]
    files: Annotated[int, "number of files to read"]
    bytes: Annotated[int, "bytes to read"]
    weights: Weights
    wrong: tuple[str, ...] = ()
    """Files that are known not to be as locked, without reading."""

    @property
    def size(self) -> int:
        """Return the bytes that are read."""
        return self.bytes

    def fields(self) -> tuple[FieldChange, ...]:
        """Return how much is read."""
        if not self.files:
            return ()
        what = f"{self.files} of {len(self.weights.files)} files"
        note = f"{size(self.bytes)} to read"
        return (FieldChange(Action.CHANGE, "hash", self.revision[:SHORT_COMMIT], new=what, note=note),)


OPERATIONS: tuple[type[Operation], ...] = (
    UserDeploy,
    InstallPackages,
    WriteFile,
    RemoveDropIn,
    EnableUnit,
    EnsureDirectory,
    ApplyResource,
    RevertResource,
    ConfigureFabric,
    PullImage,
    BuildImage,
    FetchWeights,
    CreateService,
    ReplaceService,
    RemoveService,
    StartService,
    RestartService,
    StopService,
    UpdateService,
    VerifyWeights,
)
"""All types, by step."""
