"""What `check` finds beyond the files themselves: flags, variables and needs against the image's vLLM."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sparkfleet.plan.desired import engine_words
from sparkfleet.spec.resolved import Fleet, Service
from sparkfleet.vllm import check, images, schema
from sparkfleet.vllm.findings import Finding, Level
from sparkfleet.vllm.schema import Schema

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


def notes(fleet: Fleet) -> list[Note]:
    """Return every finding of a fleet once, sorted by place."""
    found = []
    for warning in fleet.warnings:
        where, _, text = warning.partition(": ")
        found.append(Note(where, "warning", text))
    seen: set[tuple[object, ...]] = set()
    for host in fleet.hosts:
        for service in host.services:
            key = (service.image, service.weights.repo, str(service.flags), service.env, service.origin)
            if key not in seen:  # a fleet is mostly the same service many times
                seen.add(key)
                found += of_service(service)
    return sorted(set(found))


def of_service(service: Service) -> Iterator[Note]:
    """Yield what is wrong with one service for the vLLM inside its image."""
    origin = dict(service.origin)
    place = origin["image"]
    version = service.image.vllm or images.vllm_version(service.image.repository, service.image.tag)
    if not version:
        text = f"which vLLM is in {service.image.display} is not known: its flags are not checked"
        yield Note(
            place,
            "warning",
            text,
            "the image's own parser is asked before anything is stopped",
            "unknown-vllm",
        )
        return
    yield from _needs(service, version, place)
    known, exact = schema.nearest(version)
    yield from _packages(service, known, place)
    for finding in check.check_flags(engine_words(service), known, exact):
        yield _note(finding, origin, place)
    for finding in check.check_env(dict(service.env), known, exact=exact):
        yield _note(finding, origin, place)


def _needs(service: Service, version: str, place: str) -> Iterator[Note]:
    try:
        fits = not service.needs_vllm or Version(version) in SpecifierSet(
            service.needs_vllm, prereleases=True
        )
    except (InvalidVersion, InvalidSpecifier):
        return
    if not fits:
        text = f"the recipe needs vLLM {service.needs_vllm}, and {service.image.display} has {version}"
        yield Note(place, "error", text, "choose a newer image", "old-vllm")


def _packages(service: Service, known: Schema, place: str) -> Iterator[Note]:
    """Yield the Python packages that the recipe needs and that this vLLM does not surely bring."""
    brought = {canonicalize_name(name): ranges for name, ranges in known.packages.items()}
    for name, wanted in service.needs_packages:
        has = brought.get(canonicalize_name(name))
        if has is not None and all(Version(least) in SpecifierSet(wanted) for least in _LEAST.findall(has)):
            continue
        brings = f"vLLM {known.version} asks for {has}" if has else f"vLLM {known.version} does not bring it"
        text = f"the recipe needs the Python package {name} {wanted}, and {brings}"
        remedy = f"see that {service.image.display} has it, or name an image that does"
        yield Note(place, "warning", text, remedy, "missing-package")


def _note(finding: Finding, origin: dict[str, str], place: str) -> Note:
    name = finding.flag.removeprefix("--")
    positive = name.removeprefix("no-")
    where = (
        origin.get(f"flags.{name}") or origin.get(f"flags.{positive}") or origin.get(f"env.{name}") or place
    )
    return Note(where, finding.level, finding.text, finding.remedy, finding.code)
