"""The fields in which a running service differs from the declared one, compared by meaning."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparkfleet import engines, runtimes, zipapp
from sparkfleet.contract.generation import CurrentGeneration, Gate, Generation, Rank
from sparkfleet.desired_state import Host, ImageRef, Service
from sparkfleet.onhost.artifacts.image import image_refs
from sparkfleet.onhost.machine import programs
from sparkfleet.onhost.state import units
from sparkfleet.plan import render_service
from sparkfleet.plan.fabric.environment import GID_CHOICE
from sparkfleet.plan.model import Action, FieldChange
from sparkfleet.plan.staging import present_image
from sparkfleet.probe.observation import Observed, ObservedUnit
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True)
class Baseline:
    """What a service is compared with: an instance of ours and its image, as seen on the Spark."""

    instance: ObservedInstance
    image: ObservedImage | None
    record: CurrentGeneration | None
    """The service's record on the Spark."""


def _change(field: str, key: str, old: str | None, new: str | None, note: str = "") -> FieldChange:
    action = Action.ADD if old is None else Action.REMOVE if new is None else Action.CHANGE
    return FieldChange(action, field, key, old or "", new or "", note)


@dataclass(frozen=True)
class ContainerChanges:
    """Every field that needs a new container."""

    engine: tuple[FieldChange, ...]
    """Image, model, flags and environment: combinations that the engine may never have started with."""
    other: tuple[FieldChange, ...]
    deferred: tuple[FieldChange, ...] = ()
    """Fields that change with the next new container, and need none by themselves."""

    @property
    def all(self) -> tuple[FieldChange, ...]:
        """Return all of them."""
        return (*self.engine, *self.other)


def container_changes(
    host: Host, service: Service, expected: Generation, observed: Observed, base: Baseline | None
) -> ContainerChanges:
    """Return every field that needs a new container; all as additions if there is no container."""
    engine, own = _argument_changes(service, expected, base)
    image = _image_changes(service.image, observed, base)
    environment = _environment_changes(dict(expected.env), base)
    deferrable = GID_CHOICE if expected.rank else frozenset()
    deferred = tuple(one for one in environment if one.key in deferrable and one.action is Action.ADD)
    environment = [one for one in environment if one not in deferred]
    settings = _setting_changes(host, service, observed, base)
    return ContainerChanges((*image, *engine, *environment), (*own, *settings), deferred)


def short_digest(reference: str) -> str:
    """Return ``sha256:`` and 12 digits of a reference or id, "" without a digest."""
    match = re.search(r"sha256:[0-9a-f]{12}", reference)
    return match[0] if match else ""


def image_name(reference: str) -> str:
    """Return the short name of a reference: without digest, ``docker.io/`` and ``localhost/``."""
    name = image_refs.plain(reference).split("@", maxsplit=1)[0]
    return re.sub(r"^(docker\.io/(library/)?|localhost/)", "", name)


def _image_changes(image: ImageRef | None, observed: Observed, base: Baseline | None) -> list[FieldChange]:
    used = base.instance.image if base else ""
    if image is None:
        return [_change("image", "", image_name(used), None)] if used else []
    new = short_digest(image.digest) if image.derived_packages is None else image_name(image.pull_ref)
    if base is None or not used:
        return [_change("image", "", None, image.display, new)]
    present = present_image(image, observed)
    same = present.id == base.instance.artifact if present else image.mark in used
    if same:
        return []
    note = f"{short_digest(used) or short_digest(base.instance.artifact)} → {new}"
    return [_change("image", "", image_name(used), image.display, note)]


def _argument_changes(
    service: Service, expected: Generation, base: Baseline | None
) -> tuple[list[FieldChange], list[FieldChange]]:
    """Return the model and the flags that differ, then the settings that are flags (port, served name)."""
    engine, version = engines.get(service.engine), service.engine_version
    if base is None:
        changes = [_change("model", "", None, service.weights.repo, service.weights.revision[:7])]
        old_args: Sequence[str] = ()
    else:
        old_args = engine.args_of(base.instance.command)
        old = engine.parse_args(old_args, version)
        changes = _model_changes(old.model, old.revision, service)
    own = []
    for row in engine.compare_args(old_args, expected.argv, version):
        if row.flag in engine.model_flags:
            continue
        if row.flag in engine.shown_flags:
            own.append(_change(engine.shown_flags[row.flag], "", row.old, row.new))
        else:
            changes.append(_change("flag", row.flag, row.old, row.new))
    return changes, own


def _model_changes(old_model: str, old_revision: str, service: Service) -> list[FieldChange]:
    weights = service.weights
    if (old_model, old_revision) == (weights.repo, weights.revision):
        return []
    note = f"{old_revision[:7] or 'unpinned'} → {weights.revision[:7]}"
    return [_change("model", "", old_model or "(none)", weights.repo, note)]


def shown(name: str, value: str | None) -> str | None:
    """Return a variable's value for the report, hidden if its name suggests a secret."""
    if value is None:
        return None
    return "(hidden)" if SECRET_NAME.search(name) else value or '""'


def _environment_changes(expected: Mapping[str, str], base: Baseline | None) -> list[FieldChange]:
    own_entries = base.image.env if base and base.image else ()
    entries = base.instance.env if base else ()
    have = dict(entry.partition("=")[::2] for entry in entries if entry not in own_entries)
    own = dict(entry.partition("=")[::2] for entry in own_entries)
    changes = []
    for name in sorted(have.keys() | expected.keys()):
        old, new = have.get(name), expected.get(name)
        if old == new or (old is None and new is not None and own.get(name) == new):
            continue
        changes.append(_change("env", name, shown(name, old), shown(name, new)))
    return changes


def _setting_changes(
    host: Host, service: Service, observed: Observed, base: Baseline | None
) -> list[FieldChange]:
    seen_image = base.image if base else None
    own = observed.images.get(service.image.pull_ref) if service.image else None
    workload = render_service.workload(host, service, observed.user)
    seen = base.instance if base else None
    before = seen.runtime if seen else service.runtime
    comparable = seen if before == service.runtime else None
    changes = runtimes.get(service.runtime).setting_changes(
        workload, own or seen_image, comparable, seen_image
    )
    moved = [] if before == service.runtime else [_change("runtime", "", before, service.runtime)]
    return moved + [_change(one.field, one.key, one.old, one.new) for one in changes]


def unit_changes(expected: Generation, unit: ObservedUnit | None, running: bool) -> list[FieldChange]:
    """Return the changes of the unit: text, drop-ins, enablement, state, and the supervisor's version."""
    name = expected.unit_name
    if unit is None or unit.text is None:
        return [_change("unit", name, None, "enabled")]
    if not unit.text.startswith(units.MARK):
        return [_change("unit", name, unit.enabled if unit.enabled == "masked" else "another's", "enabled")]
    changes = []
    if unit.text != expected.unit:
        changes += _line_changes(name, unit.text, expected.unit)
    changes += [_change("drop-in", path, "", None) for path in sorted(unit.drop_ins)]
    if unit.enabled != "enabled":
        changes.append(_change("unit", name, unit.enabled or "disabled", "enabled"))
    if running and unit.active not in {"active", "activating", "reloading"}:
        changes.append(_change("unit", name, unit.active or "inactive", "active"))
    if running and unit.active == "active":
        changes += _supervisor_changes(unit)
    return changes


def _supervisor_changes(seen: ObservedUnit) -> list[FieldChange]:
    """Return the change of a supervisor that runs an older version of the programs."""
    have, expected = programs.read_status(seen.status) or "of an older version", _programs()
    return [] if have == expected else [_change("supervisor", "", f"programs {have}", f"programs {expected}")]


def _programs() -> str:
    return zipapp.sha256()[:12]


def _line_changes(name: str, old: str, new: str) -> list[FieldChange]:
    before_lines, after_lines = (
        [line for line in text.splitlines() if line and not line.startswith("#")] for text in (old, new)
    )
    gone = [line for line in before_lines if line not in after_lines]
    come = [line for line in after_lines if line not in before_lines]
    changes = []
    keys = dict.fromkeys(line.split("=", 1)[0] for line in (*gone, *come))
    for key in keys:
        before = "; ".join(line.partition("=")[2] or line for line in gone if line.split("=", 1)[0] == key)
        after = "; ".join(line.partition("=")[2] or line for line in come if line.split("=", 1)[0] == key)
        changes.append(_change("unit", f"{name} {key}", before or None, after or None))
    return changes or [_change("unit", name, "only comments, order or spacing differ", "as declared")]


def gate_changes(expected: Gate, record: CurrentGeneration | None) -> list[FieldChange]:
    """Return how the declared gate differs from the recorded one."""
    if record is None:
        return []
    changes = []
    for field in dataclasses.fields(Gate):
        old, new = getattr(record.gate, field.name), getattr(expected, field.name)
        if old != new:
            key, *texts = _gate_texts(field.name, old, new)
            changes.append(_change("gate", key, *texts))
    return changes


def _gate_texts(name: str, old: object, new: object) -> tuple[str, str, str]:
    """Return a setting of the gate with its old and its new value."""
    if name == "speculative":
        texts = {True: "must be accepted", False: "not checked"}
        return "draft tokens", texts[bool(old)], texts[bool(new)]
    return name.removesuffix("_s"), str(old), str(new)


def rank_changes(expected: Rank | None, record: CurrentGeneration | None) -> list[FieldChange]:
    """Return how a service's place in a cluster differs from the recorded one."""
    old, new = _rank_text(record.rank if record else None), _rank_text(expected)
    return [_change("cluster", "", old, new)] if record and old != new else []


def fingerprint_changes(expected: Rank | None, record: CurrentGeneration | None) -> list[FieldChange]:
    """Return a change if the ranks' common settings differ: not all are fields of this rank."""
    had = record.rank if record else None
    if had is None or expected is None or had.fingerprint == expected.fingerprint:
        return []
    return [_change("cluster", "fingerprint", had.fingerprint, expected.fingerprint)]


def _rank_text(rank: Rank | None) -> str | None:
    if rank is None:
        return None
    return f"{rank.cluster} ({', '.join(rank.hosts)}) by {rank.executor}, rank {rank.rank}"
