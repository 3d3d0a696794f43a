"""What is declared of the Spark itself, against how it is: rows of the host's entry, and what stands against
them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sparkfleet.config.items import Item
from sparkfleet.config.resolved import Host
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.resources import revert
from sparkfleet.plan import compile_caches
from sparkfleet.plan.model import Action, FieldChange, Note, Operation, Step
from sparkfleet.plan.operations import ApplyResource, RevertResource
from sparkfleet.probe.observed import Fields, Observed, User

KINDS = frozenset(resources.LOOKS)
SECRETS = frozenset({"login", "token"})
CURRENT = "as declared"
"""Value of the field ``secret`` when the Spark has the very secret that is declared."""
NOT_GIVEN = "not given here"
"""Value of the field ``secret`` when its source has nothing on this machine: it cannot be compared."""

_UNITS = {"power limit": " W", "clocks": " MHz"}
_EMPTY = {"swap": "off", "hold": "held", "gpu": "as before"}
"""Kind -> what a field without a value means there."""
_ONE_FIELD = frozenset({"group", "package", "hold"})
"""Kinds whose rows need not say which field it is."""


def request(host: Host) -> tuple[tuple[str, str, str], ...] | None:
    """Return what the look must tell of; None when nothing is declared of the Spark itself."""
    asked = tuple((item.kind, item.key, item.arg) for item in host.prepare.items)
    return asked or None


def items(host: Host, user: User) -> tuple[Item, ...]:
    """Return what is declared, with the login user's name and home put in."""

    def said(text: str) -> str:
        return resources.expand(text, user.name, user.home)

    return tuple(
        replace(
            item,
            key=said(item.key),
            arg=said(item.arg),
            want=tuple((name, said(value)) for name, value in item.want),
        )
        for item in host.prepare.items
    )


def operations(host: Host, observed: Observed) -> tuple[list[Operation], list[Note]]:
    """Return what differs, and what is reverted since it is no longer declared; then the notes on them.

    Raise SparkfleetError when something could not be read.
    """
    _refuse_unread(host, observed)
    declared = items(host, observed.user)
    found = [operation for item in declared for operation in _applied(host, item, observed)]
    ids = {item.id for item in declared}
    for name, entry in observed.items.record.items():
        if name not in ids:
            changes = tuple(_reverted(entry, observed.items.live[name]))
            found.append(RevertResource(entry["kind"], entry["key"], changes))
    return found, _notes(declared, observed) if found else []


def _refuse_unread(host: Host, observed: Observed) -> None:
    errors = {name: str(seen["error"]) for name, seen in observed.items.live.items() if "error" in seen}
    errors |= {"what is prepared": observed.items.error} if observed.items.error else {}
    if errors:
        remedy = "mend it, then run again"
        found = (
            Diagnostic(host.name, f"{name} could not be read: {why}", "", remedy)
            for name, why in errors.items()
        )
        raise SparkfleetError(*found)


def _applied(host: Host, item: Item, observed: Observed) -> Sequence[Operation]:
    live = observed.items.live[item.id]
    if item.kind == "caches":
        return compile_caches.removals(host, item, live)
    changes = tuple(_changes(item, live))
    return [ApplyResource(item.kind, item.key, item, changes)] if changes else []


def _changes(item: Item, live: Fields) -> list[FieldChange]:
    if item.kind == "directory" and live.get("is") == "link":
        return []  # somebody put it on another disk: theirs to own
    if live.get("is") == "absent":
        return [FieldChange(Action.ADD, item.kind, item.key, new=_summary(item))]
    return [
        FieldChange(
            Action.CHANGE if live.get(name) else Action.ADD,
            item.kind,
            item.key,
            old=_shown(item.kind, name, str(live.get(name, ""))) if live.get(name) else "",
            new=_shown(item.kind, name, value),
            note="" if item.kind in _ONE_FIELD else _field_name(name),
        )
        for name, value in item.want
        if live.get(name, "") != value and live.get(name) != NOT_GIVEN  # not to be compared: stays
    ]


def _summary(item: Item) -> str:
    """Return in a few words what a thing will be that is not there yet."""
    want = dict(item.want)
    match item.kind:
        case "sudoers":
            return want["rule"]
        case "login":
            return f"as {item.user}" + (f", kept by {item.arg}" if item.arg else "")
        case "gpu":
            told = (
                f"{name} {_shown('gpu', name, value)}"
                for name, value in item.want
                if value and name != "unit"
            )
            return ", ".join(told)
        case "file" | "directory" | "token":
            return " ".join(want[name] for name in ("mode", "owner", "group") if name in want)
    return ""


def _shown(kind: str, name: str, value: str) -> str:
    if name == "sha256":
        return value[:12]
    if not value:
        return _EMPTY.get(kind, "")
    if name == "persistence":
        return "on" if value == "1" else "off"
    return f"{value} free" if (kind, name) == ("hold", "free") else value + _UNITS.get(name, "")


def _field_name(name: str) -> str:
    return {"sha256": "content", "others": "entries of others inside"}.get(name, name)


def _reverted(entry: Mapping[str, Any], live: Fields) -> list[FieldChange]:
    """Return the fields of something that is no longer declared."""
    kind, key, put, before = entry["kind"], entry["key"], entry["put"], entry["before"]
    back = revert.fields(entry, live)
    if before.get("is") == "absent":
        gone = live.get("is") == "absent"
        note = "" if back else "is gone already" if gone else "changed or filled since: stays, only forgotten"
        return [FieldChange(Action.REMOVE, kind, key, note=note)]
    rows = [
        FieldChange(
            Action.REMOVE,
            kind,
            key,
            old=_shown(kind, name, str(put[name])),
            new=_shown(kind, name, str(before.get(name, ""))),
            note="" if kind in _ONE_FIELD else _field_name(name),
        )
        for name in back
        if before.get(name) != put[name] and name != "hash"
    ]
    stays = "as it was before, or changed since: stays, only forgotten"
    return rows or [FieldChange(Action.REMOVE, kind, key, note=stays)]


def _notes(declared: tuple[Item, ...], observed: Observed) -> list[Note]:
    """Return what is offered, not done: entries of others in directories."""
    notes = []
    for item in declared:
        count = observed.items.live[item.id].get("others", "0")
        if item.kind == "directory" and count != "0" and "others" not in dict(item.want):
            owner = dict(item.want)["owner"]
            number = f"more than {item.arg.split()[1]}" if count == "many" else count
            text = f"{number} entries of others inside"
            remark = f"sudo chown -R {owner} {item.key}, or declare 'own:'"
            notes.append(Note(Step.HOST, "directory", item.key, text, remark))
    return notes


def diagnostics(host: Host, observed: Observed) -> list[Diagnostic]:
    """Return why declared things cannot be made so on this Spark, each with what to do."""
    found = []
    for item in items(host, observed.user):
        live = observed.items.live[item.id]
        words = _diagnostic(item, live, recorded=item.id in observed.items.record)
        if words:
            found.append(Diagnostic(f"{host.name}: {item.where}", *words))
    return found


def _diagnostic(item: Item, live: Fields, *, recorded: bool) -> tuple[str, str, str] | None:
    there = live.get("is", "")
    match item.kind:
        case "group" if "missing" in live:
            return (
                f"{item.key}: {live['missing']}",
                "a group and a user that are there",
                "mend the name, or make the user on the Spark",
            )
        case "sysctl" if there:
            return (
                f"there is no setting {item.key}",
                f"a file {resources.sysctl_path(item.key)}",
                "mend the name",
            )
        case "sysctl" if live.get("set", dict(item.want)["now"]) != dict(item.want)["now"]:
            return (
                f"{live['later']} sets {item.key} to {live['set']} at every boot, after our file",
                "no other file that sets it, or the same value",
                f"take {item.key} out of {live['later']}, or out of the declaration",
            )
        case "file" | "sudoers" | "token" if there not in {"absent", "file"}:
            return (
                f"{item.key} is a {there}",
                "a file, or nothing",
                "move it away by hand, or mend the path",
            )
        case "directory" if there not in {"absent", "directory", "link"}:
            return (f"{item.key} is a {there}", "a directory, or nothing", "move it away by hand")
        case "directory" if live.get("others") == "many" and "others" in dict(item.want):
            owner, limit = item.arg.split()
            return (
                f"{item.key} has more than {limit} entries of others",
                f"at most {limit}, as 'own:' says",
                f"on the Spark: sudo chown -R {owner} {item.key}; or raise 'own:'",
            )
    if item.kind in SECRETS:
        return _secret_diagnostic(item, live, recorded=recorded)
    return None


def _secret_diagnostic(item: Item, live: Fields, *, recorded: bool) -> tuple[str, str, str] | None:
    if live.get("is") == "absent":
        if live.get("secret") != NOT_GIVEN:
            return None
        return (
            f"the secret for {item.key} is not there: {item.source} gives nothing",
            "a secret",
            f"set it, then run again: {item.source}",
        )
    if recorded or live.get("secret") in {CURRENT, NOT_GIVEN}:
        return None
    undo = f"docker logout {item.key} as root" if item.kind == "login" else f"remove {item.key}"
    return (
        f"{item.key} has another secret, which sparkfleet did not put there",
        "none, or the one that is declared",
        f"on the Spark: {undo}; or take it out of the declaration",
    )
