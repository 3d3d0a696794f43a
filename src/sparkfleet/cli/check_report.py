"""What `check` finds beyond the files: flags and variables against the image's engine, and the rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sparkfleet.config.resolved import Fleet, Host, Service
from sparkfleet.engines.base import Finding, Level
from sparkfleet.plan import lint


@dataclass(frozen=True, order=True)
class Note:
    """One finding and its place."""

    where: str
    level: Level
    text: str
    remedy: str = ""
    code: str = ""

    def __str__(self) -> str:
        """Return it as one paragraph, as errors are shown."""
        text = f"{self.where}: {self.level}: {self.text}"
        return f"{text}\n    do: {self.remedy}" if self.remedy else text


def notes(fleet: Fleet, *, pinned: bool = True) -> list[Note]:
    """Return every finding of a fleet, sorted by place; one that many Sparks share is there once.

    ``pinned`` False: the fleet was loaded without its lock file, and rules about pins are not asked.
    """
    found: dict[Note, set[str]] = {}
    for warning in fleet.warnings:
        where, _, text = warning.partition(": ")
        found[Note(where, "warning", text)] = set()
    known: dict[object, tuple[Finding, ...]] = {}
    first: dict[Finding, Note] = {}
    for host in fleet.hosts:
        for service in host.services:
            key = _content(service, host)
            if key not in known:  # a fleet is mostly the same service many times
                known[key] = lint.findings(service, host, pinned=pinned)
            for finding in known[key]:
                note = _placed(finding, dict(service.origin))
                if not finding.about:
                    note = first.setdefault(finding, note)
                found.setdefault(note, set()).add(host.name)
        for finding in lint.unknown_ignores(host):
            note = first.setdefault(finding, _note(finding, host.file))
            found.setdefault(note, set()).add(host.name)
    return sorted(_counted(note, hosts) for note, hosts in found.items())


def _content(service: Service, host: Host) -> object:
    """Return what decides the findings of a service: all but names and places."""
    others = [(other.port, repr(other.flags)) for other in host.services if other is not service]
    weights = service.weights
    return (
        repr(
            (service.flags, service.env, service.container, service.image, service.requires_packages, others)
        ),
        (service.name, service.recipe, service.engine, service.requires_vllm),
        (weights.repo, weights.revision, weights.gated),
        (host.reserve_gib, host.min_available_gib, host.hf_token, host.ignore_rules, host.paths),
    )


def _placed(finding: Finding, origin: dict[str, str]) -> Note:
    names = (*finding.about, "service")
    return _note(finding, next(origin[name] for name in names if name in origin))


def _note(finding: Finding, where: str) -> Note:
    return Note(where, finding.level, finding.message, finding.hint, finding.code)


def _counted(note: Note, hosts: set[str]) -> Note:
    more = len(hosts) - 1
    return replace(note, text=f"{note.text} (and on {more} more)") if more > 0 else note
