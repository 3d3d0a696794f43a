"""What a kind of host state is: its YAML settings, its resources, and what is done with them.

A module below ``kinds/`` has a function ``observe(host, key, arg)`` and a ``KIND``. The probe sends of the
module only what ``observe`` uses, so ``observe`` uses the standard library alone and imports what is slow to
import (``re``, ``pathlib``) in its body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.resources import Applied, ResourceToApply

MARK = "# Written by sparkfleet."
"""First line of every text file that is ours."""
LOGIN_USER = "@login"
"""Stands for the login user in what is declared."""
STATE_DIR = "/var/lib/sparkfleet"
UNIT_DIR = "/etc/systemd/system"
CURRENT = "as declared"
"""Value of the field ``secret`` when the Spark has the declared secret."""
NO_SOURCE = "source is empty"
"""Value of the field ``secret`` when its source gives nothing on the operator's machine."""

Fields = Mapping[str, Any]
"""Field -> value of a resource, as ``observe`` returns them. A field that is not there is ""."""


# settings: what a user writes


@dataclass(frozen=True)
class Limits:
    """What a value must match. Becomes pydantic's ``Field`` on the operator's side."""

    pattern: str | None = None
    ge: float | None = None
    gt: float | None = None
    text: str = ""
    """What the pattern means, for errors; "" = they show the pattern."""

    @property
    def options(self) -> dict[str, Any]:
        """Return the limits that are set."""
        return {name: value for name, value in vars(self).items() if value is not None and name != "text"}


UserName = Annotated[str, Limits(r"^(@login|[a-z_][a-z0-9_-]{0,31})$")]
FileMode = Annotated[str, Limits(r"^[0-7]{4}$")]
HostPath = Annotated[
    str,
    Limits(
        r"^(~|/)[^,:\s]*$",
        text="a path on the Spark, absolute or starting with ~, without ',', ':' or spaces",
    ),
]
AbsolutePath = Annotated[str, Limits(r"^/[^,:\s]+$", text="an absolute path, without ',', ':' or spaces")]
SecretSource = Annotated[str, Limits(r"^(env:[A-Za-z_]\w*|file:.+|command:.+)$")]


def described(description: str, default: Any = ..., **limits: Any) -> Any:
    """Return a field of a settings dataclass; ``limits`` are those of ``Limits``."""
    metadata = {"description": description, **limits}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """One key below ``prepare:`` in group_data and host files.

    ``type`` is a type of Python: bool, str, Literal, a dataclass of described fields, or tuple and dict of
    these, each with Annotated and ``Limits`` where a value must match.
    """

    key: str
    type: Any
    description: str
    merged: bool = False
    """Whether host file and group_data merge by the value's own keys; else the host file replaces it."""


@dataclass(frozen=True)
class Declaration:
    """What is declared below ``prepare:`` for one Spark, validated, and what its kinds need beside it."""

    values: Mapping[str, Any]
    where: Callable[..., str]
    """Return ``file:line`` of a key, or of a key in a key."""
    error: Callable[[str, str, str, str], None]
    """Report an error: location, what was found, what was expected, what to do."""
    cache_dir: str = ""
    hf_token: str = ""
    """Source of the hub's token, never the token."""

    def entries(self, key: str) -> Iterator[tuple[Any, Any, str]]:
        """Yield key, value and location of each entry of a mapping; those that are null are left out."""
        for name, value in (self.values.get(key) or {}).items():
            if value is not None:
                yield name, value, self.where(key, name)

    def each(self, key: str) -> Iterator[tuple[Any, str]]:
        """Yield each value of a list once, with its location."""
        for value in dict.fromkeys(self.values.get(key) or ()):
            yield value, self.where(key)


@dataclass(frozen=True)
class Resource:
    """One declared item of host state.

    ``@login`` and a leading ``~`` in key, fields and arg stand for the login user and its home until the
    Spark has been probed.
    """

    kind: str
    key: str
    fields: tuple[tuple[str, str], ...] = ()
    """Field -> declared value, comparable with what ``observe`` returns."""
    arg: str = ""
    """What ``observe`` needs beside the key."""
    content: str = ""
    """What ``apply`` needs beside the fields: the bytes of a file in base64."""
    source: str = ""
    """Where a secret comes from, never the secret."""
    user: str = ""
    """User name of a login."""
    where: str = ""
    """Where it was declared, as ``file:line``."""

    @property
    def id(self) -> str:
        """Return its identity: kind and key."""
        return f"{self.kind} {self.key}"


# the plan


@dataclass(frozen=True)
class Difference:
    """One field that differs between declared and observed."""

    sign: str
    """``+`` is added, ``~`` changed, ``-`` removed or reverted, ``=`` a note."""
    key: str
    old: str = ""
    new: str = ""
    note: str = ""


@dataclass(frozen=True)
class PlanContext:
    """What a kind needs to know of the rest of the plan."""

    cache_names: frozenset[str] = frozenset()
    """Names of the compile caches that the declared services use."""


# the host


class ObservedHost(Protocol):
    """A Spark as ``observe`` sees it: read only."""

    def path(self, path: str) -> str:
        """Return where a path is; tests have the Spark's files below a directory."""

    def read(self, path: str) -> str | None:
        """Return a file's text, None without a file."""

    def output(self, *argv: str, stdin: str = "") -> str:
        """Return what a command prints, whatever its exit code; "" without the command."""

    def file(self, path: str) -> dict[str, str]:
        """Return ``is`` (absent, file, directory, link, other), mode, owner, group, sha256."""

    def unit(self, name: str) -> dict[str, str]:
        """Return ``at boot`` and ``now`` of a systemd unit, and ``unit: missing`` where there is none."""

    def secret(self, value: bytes) -> dict[str, str]:
        """Return the fields of a secret: a salted hash."""

    def parse_json(self, text: str) -> Any:
        """Return what a JSON text holds."""


class Completed(Protocol):
    """A finished command."""

    @property
    def code(self) -> int: ...  # noqa: D102
    @property
    def out(self) -> str: ...  # noqa: D102
    @property
    def err(self) -> str: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102


class Host(ObservedHost, Protocol):
    """A Spark as check, snapshot, apply and revert see it."""

    @property
    def state(self) -> Path:
        """Directory of sparkfleet's own state."""

    @property
    def units(self) -> Path:
        """Directory of systemd's units."""

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> Completed:
        """Run a command to its end."""


CONFLICT = "resource-conflict"
"""Code: the Spark does not accept a resource as it is declared."""


class ResourceError(SparkfleetError):
    """A resource cannot be applied or reverted. A kind leaves ``about``, the resource's id, to its caller."""

    def __init__(
        self, found: str, expected: str = "", hint: str = "", about: str = "", *, code: str = CONFLICT
    ) -> None:
        """Build the diagnostic; ``about`` is its location."""
        super().__init__(Diagnostic(about, found, expected, hint, code=code))


def conflict(resource: Resource, found: str, expected: str, hint: str) -> Diagnostic:
    """Return why a resource cannot be applied on a Spark."""
    return Diagnostic(resource.where, found, expected, hint, code=CONFLICT)


def not_a_file(resource: Resource, live: Fields) -> Diagnostic | None:
    """Return what is in the place of a resource that is a file; None for a file or nothing."""
    if live.get("is", "") in {"absent", "file"}:
        return None
    message, hint = f"{resource.key} is a {live['is']}", "move it away, or correct the path"
    return conflict(resource, message, "a file, or nothing", hint)


def must(host: Host, argv: Sequence[str], timeout_s: float = 60) -> Completed:
    """Run a command that must succeed. Raise ResourceError with its last line of output."""
    result = host.run(argv, timeout_s)
    if result.code:
        lines = [line for line in result.text.splitlines() if line.strip()]
        raise ResourceError(
            f"{argv[0]}: {lines[-1].strip() if lines else f'exit code {result.code}'}",
            hint="run again",
            code="host-change-failed",
        )
    return result


@dataclass(frozen=True)
class Target(ResourceToApply):
    """A resource to be applied on a Spark: what is declared and what was observed."""

    live: Fields = field(default_factory=dict)
    before: Fields = field(default_factory=dict)
    """Snapshot of the time before the first run that changed it."""

    @property
    def id(self) -> str:
        """Return its identity: kind and key."""
        return f"{self.kind} {self.key}"


class ResourceKind:
    """A kind of host state. Subclasses override what differs from field by field."""

    name: ClassVar[str]
    """The module's name, too."""
    order: ClassVar[int]
    """Kinds are applied in ascending order."""
    settings: ClassVar[tuple[Setting, ...]] = ()
    labels: ClassVar[Mapping[str, str]] = {}
    """Field -> what the plan calls it, where that is another word."""
    units: ClassVar[Mapping[str, str]] = {}
    """Field -> unit that the plan shows after its value."""
    empty: ClassVar[str] = ""
    """What the plan shows for an empty value."""
    single_field: ClassVar[bool] = False
    """Whether the plan need not name the field."""
    whole_by: ClassVar[str] = ""
    """Field that tells whether the resource is still as it was applied, where it is reverted as a whole."""
    credential_field: ClassVar[Literal["", "hub_token", "registry_password"]] = ""
    """Field of ``ResourceToApply`` that has its secret; "" where there is none."""
    needs_new_login: ClassVar[bool] = False
    """Whether a change takes effect at the next login."""
    recorded: ClassVar[bool] = True
    """Whether it is recorded and reverted once it is no longer declared."""

    # operator's side

    def declare(self, declaration: Declaration) -> Iterable[Resource]:
        """Return the resources that the settings declare."""
        raise NotImplementedError

    def differences(self, resource: Resource, live: Fields, context: PlanContext) -> list[Difference]:
        """Return what a run changes; empty where the Spark is as declared."""
        del context
        if live.get("is") == "absent":
            return [Difference("+", resource.key, new=self.summary(resource))]
        return [
            self._difference(resource.key, name, str(live.get(name) or ""), value)
            for name, value in resource.fields
            if live.get(name, "") != value and live.get(name) != NO_SOURCE  # cannot be compared: stays
        ]

    def _difference(self, key: str, name: str, old: str, new: str) -> Difference:
        note = "" if self.single_field else self.labels.get(name, name)
        return Difference(
            "~" if old else "+", key, self.show(name, old) if old else "", self.show(name, new), note
        )

    def planned(self, resource: Resource, differences: Sequence[Difference]) -> Resource:
        """Return the resource as the Spark gets it."""
        del differences
        return resource

    def notes(self, resource: Resource, live: Fields) -> list[Difference]:
        """Return what is offered, but not done."""
        del resource, live
        return []

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return why the resource cannot be applied on this Spark; None if it can."""
        del resource, live, recorded
        return None

    def summary(self, resource: Resource) -> str:
        """Describe a resource that is not there yet."""
        del resource
        return ""

    def show(self, name: str, value: str) -> str:
        """Return a field's value as the plan shows it."""
        return value + self.units.get(name, "") if value else self.empty

    def reverted_differences(self, entry: Applied, live: Fields) -> list[Difference]:
        """Return what a run reverts of a resource that is no longer declared."""
        names, before = self.reverted_fields(entry, live), entry.before
        if before.get("is") == "absent":
            gone = live.get("is") == "absent"
            reason = "already removed" if gone else "changed or filled since: kept, no longer managed"
            return [Difference("-", entry.key, note="" if names else reason)]
        differences = [
            Difference(
                "-",
                entry.key,
                self.show(name, str(entry.applied[name])),
                self.show(name, str(before.get(name, ""))),
                "" if self.single_field else self.labels.get(name, name),
            )
            for name in names
            if before.get(name) != entry.applied[name] and name != "hash"
        ]
        stays = "unchanged or changed by others since: kept, no longer managed"
        return differences or [Difference("-", entry.key, note=stays)]

    # both sides

    def reverted_fields(self, entry: Applied, live: Fields) -> tuple[str, ...]:
        """Return the fields that go back to what they were: only those that are still as a run applied them.

        What somebody changed since is theirs and stays.
        """
        applied, before = entry.applied, entry.before
        if self.whole_by:
            return tuple(applied) if live.get(self.whole_by) == applied.get(self.whole_by) else ()
        return tuple(name for name in applied if live.get(name) == applied[name] != before.get(name))

    # on the Spark

    def check(self, host: Host, target: Target) -> None:
        """Raise ResourceError if the Spark would not accept it. Changes nothing."""

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Return what ``revert`` needs beside the fields of before."""
        del host, target
        return {}

    def apply(self, host: Host, target: Target) -> None:
        """Make it so. Raise ResourceError if that fails."""
        raise NotImplementedError

    def revert(self, host: Host, entry: Applied, names: tuple[str, ...]) -> None:
        """Restore these fields to what they were before."""
        raise NotImplementedError

    def split(self, entry: Applied, declared: Sequence[str]) -> list[Applied]:
        """Return parts of an entry that is reverted which stay, since they are declared by themselves."""
        del entry, declared
        return []
