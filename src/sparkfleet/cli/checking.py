"""What `check` finds beyond the files: flags, variables and needs against the image's vLLM, and the rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sparkfleet import rules
from sparkfleet.plan.desired import engine_words
from sparkfleet.spec.resolved import Fleet, Host, Service
from sparkfleet.vllm import check, images, schema
from sparkfleet.vllm.findings import Level
from sparkfleet.vllm.schema import Schema

_ABOUT_PINS = frozenset({"P-11"})
"""Rules that ask whether something is pinned."""

_LEAST = re.compile(r">=\s*([0-9][\w.]*)")


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


@dataclass(frozen=True)
class _Said:
    """One finding before it has a place: the same for every service that is the same."""

    level: Level
    text: str
    remedy: str
    code: str
    about: tuple[str, ...] = ()
    """Names in the service's origin, the most telling first; none: the service as a whole."""


def notes(fleet: Fleet, *, pinned: bool = True) -> list[Note]:
    """Return every finding of a fleet, sorted by place; one that many Sparks share is there once.

    ``pinned`` False: the fleet was loaded without its lock file, and rules about pins are not asked.
    """
    found: dict[Note, set[str]] = {}
    for warning in fleet.warnings:
        where, _, text = warning.partition(": ")
        found[Note(where, "warning", text)] = set()
    known: dict[object, tuple[_Said, ...]] = {}
    first: dict[_Said, Note] = {}
    for host in fleet.hosts:
        for service in host.services:
            key = _content(service, host)
            if key not in known:  # a fleet is mostly the same service many times
                known[key] = (*_flags(service), *_rules(service, host, pinned=pinned))
            for said in known[key]:
                note = _placed(said, dict(service.origin))
                if not said.about:
                    note = first.setdefault(said, note)
                found.setdefault(note, set()).add(host.name)
        for verdict in rules.unknown_allowances(dict(host.allow)):
            said = _Said(verdict.level, verdict.text, verdict.remedy, verdict.id)
            note = first.setdefault(said, Note(host.file, said.level, said.text, said.remedy, said.code))
            found.setdefault(note, set()).add(host.name)
    return sorted(_counted(note, hosts) for note, hosts in found.items())


def _content(service: Service, host: Host) -> object:
    """Return what decides the findings of a service: all but names and places."""
    others = [(other.port, repr(other.flags)) for other in host.services if other is not service]
    weights = service.weights
    return (
        repr((service.flags, service.env, service.container, service.image, service.needs_packages, others)),
        (service.name, service.recipe, service.needs_vllm, weights.repo, weights.revision, weights.gated),
        (host.reserve_gib, host.floor_gib, host.hf_token, host.allow, host.paths),
    )


def _placed(said: _Said, origin: dict[str, str]) -> Note:
    names = (*said.about, "service")
    where = next(origin[name] for name in names if name in origin)
    return Note(where, said.level, said.text, said.remedy, said.code)


def _counted(note: Note, hosts: set[str]) -> Note:
    more = len(hosts) - 1
    return replace(note, text=f"{note.text} (and on {more} more)") if more > 0 else note


def _version(service: Service) -> str:
    image = service.image
    return image.vllm or images.vllm_version(image.repository, image.tag)


def _rules(service: Service, host: Host, *, pinned: bool) -> Iterator[_Said]:
    versioned = replace(service, image=replace(service.image, vllm=_version(service)))
    for verdict in rules.check(versioned, host):
        if pinned or verdict.id not in _ABOUT_PINS:
            yield _Said(verdict.level, f"{verdict.text} [{verdict.id}]", verdict.remedy, verdict.id)


def _flags(service: Service) -> Iterator[_Said]:
    version = _version(service)
    if not version:
        text = f"which vLLM is in {service.image.display} is not known: its flags are not checked"
        remedy = "the image's own parser is asked before anything is stopped"
        yield _Said("warning", text, remedy, "unknown-vllm", ("image",))
        return
    yield from _needs(service, version)
    known, exact = schema.nearest(version)
    yield from _packages(service, known)
    flags = check.check_flags(engine_words(service), known, exact)
    env = check.check_env(dict(service.env), known, exact=exact)
    for finding in (*flags, *env):
        name = finding.flag.removeprefix("--")
        about = (f"flags.{name}", f"flags.{name.removeprefix('no-')}", f"env.{name}", "image")
        yield _Said(finding.level, finding.text, finding.remedy, finding.code, about)


def _needs(service: Service, version: str) -> Iterator[_Said]:
    try:
        fits = not service.needs_vllm or Version(version) in SpecifierSet(
            service.needs_vllm, prereleases=True
        )
    except (InvalidVersion, InvalidSpecifier):
        return
    if not fits:
        text = f"the recipe needs vLLM {service.needs_vllm}, and {service.image.display} has {version}"
        yield _Said("error", text, "choose a newer image", "old-vllm", ("image",))


def _packages(service: Service, known: Schema) -> Iterator[_Said]:
    """Yield the Python packages that the recipe needs and that this vLLM does not surely bring."""
    brought = {canonicalize_name(name): ranges for name, ranges in known.packages.items()}
    for name, wanted in service.needs_packages:
        has = brought.get(canonicalize_name(name))
        if has is not None and all(Version(least) in SpecifierSet(wanted) for least in _LEAST.findall(has)):
            continue
        brings = f"vLLM {known.version} asks for {has}" if has else f"vLLM {known.version} does not bring it"
        text = f"the recipe needs the Python package {name} {wanted}, and {brings}"
        remedy = f"see that {service.image.display} has it, or name an image that does"
        yield _Said("warning", text, remedy, "missing-package", ("image",))
