"""What can be known of a service before anything is touched: its flags, variables and needs against the vLLM
of its image, and the rules. For ``sparkfleet check`` and for the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from sparkfleet.config.resolved import Host, Service
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm import check, images, rules, schema, schema_cache
from sparkfleet.engines.vllm.findings import Level
from sparkfleet.engines.vllm.memory import TOTAL_GIB, Measured
from sparkfleet.engines.vllm.schema import Schema
from sparkfleet.plan.desired import engine_words

_ABOUT_PINS = frozenset({"P-11"})
"""Rules that ask whether something is pinned."""


@dataclass(frozen=True)
class Advice:
    """One finding before it has a place: the same for every service that is the same."""

    level: Level
    text: str
    remedy: str
    code: str
    about: tuple[str, ...] = ()
    """Names in the service's origin, the most telling first; none: the service as a whole."""


def advice(
    service: Service,
    host: Host,
    *,
    pinned: bool = True,
    total_gib: float = TOTAL_GIB,
    measured: Measured | None = None,
) -> tuple[Advice, ...]:
    """Return everything that is said of a service.

    ``pinned`` False: there is no lock file, and rules about pins are not asked. ``total_gib``: the Spark's
    memory, where it was looked at. ``measured``: what the engine said of its memory at its last start.
    """
    allowed = dict(host.ignore_rules)
    own = schema_cache.lookup(service.image.digest)
    versioned = replace(service, image=replace(service.image, vllm=_version(service)))
    verdicts = rules.check(versioned, host, schema=own, total_gib=total_gib, measured=measured)
    said = (*_flags(service, own), *_rules(verdicts, pinned=pinned))
    return tuple(one for one in said if one.code not in allowed)


def refusal(service: Service, said: tuple[Advice, ...]) -> Diagnostic | None:
    """Return the first error as the reason not to start an engine this way; None when there is none."""
    error = next((one for one in said if one.level == "error"), None)
    if error is None:
        return None
    origin = dict(service.origin)
    where = next((origin[name] for name in (*error.about, "service") if name in origin), service.name)
    silence = f"if you know better: `ignore_rules: {{{error.code}: why}}` in the host file"
    return Diagnostic(where, error.text, hint=f"{error.remedy}; {silence}" if error.remedy else silence)


def _version(service: Service) -> str:
    image = service.image
    return image.vllm or images.vllm_version(image.repository, image.tag)


def _rules(verdicts: tuple[rules.Verdict, ...], *, pinned: bool) -> Iterator[Advice]:
    for verdict in verdicts:
        if pinned or verdict.id not in _ABOUT_PINS:
            yield Advice(verdict.level, f"{verdict.text} [{verdict.id}]", verdict.remedy, verdict.id)


def _flags(service: Service, own: Schema | None) -> Iterator[Advice]:
    """Yield what the schema says: the image's own, where it told it, else the nearest bundled one."""
    version = own.version if own else _version(service)
    if not version:
        text = f"which vLLM is in {service.image.display} is not known: its flags are not checked"
        remedy = "the image's own parser is asked before anything is stopped"
        yield Advice("warning", text, remedy, "unknown-vllm", ("image",))
        return
    yield from _needs(service, version)
    known, exact = (own, True) if own else schema.nearest(version)
    flags = check.check_flags(engine_words(service), known, exact)
    env = check.check_env(dict(service.env), known, exact=exact)
    for finding in (*flags, *env):
        name = finding.flag.removeprefix("--")
        # An abbreviation stands in the file as it was written, and its flag may stand in the recipe, too.
        written = finding.subject if finding.code == "abbreviation" else finding.flag
        about = (
            f"flags.{written.removeprefix('--')}",
            f"flags.{name}",
            f"flags.{name.removeprefix('no-')}",
            f"env.{name}",
            "image",
        )
        yield Advice(finding.level, finding.text, finding.remedy, finding.code, about)


def _needs(service: Service, version: str) -> Iterator[Advice]:
    try:
        fits = not service.requires_vllm or Version(version) in SpecifierSet(
            service.requires_vllm, prereleases=True
        )
    except (InvalidVersion, InvalidSpecifier):
        return
    if not fits:
        text = f"the recipe needs vLLM {service.requires_vllm}, and {service.image.display} has {version}"
        yield Advice("error", text, "choose a newer image", "old-vllm", ("image",))
