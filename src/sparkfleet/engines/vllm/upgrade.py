"""Effects of another vLLM version on a fleet: what it uses first, then everything removed and added. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.desired_state import ImageRef, Service
from sparkfleet.engines.vllm import args, check, images, schema, schema_cache
from sparkfleet.engines.vllm.phrases import listing
from sparkfleet.engines.vllm.schema import Flag, Schema


@dataclass(frozen=True)
class Upgrade:
    """The difference between two images, by their own schemas, else by those of their releases."""

    old: str
    new: str
    uses: tuple[str, ...]
    """What these services use and the new release handles differently: a sentence each."""
    defaults: tuple[str, ...]
    """Defaults that changed and that some of these services rely on: ``--x 1 → 2 (relied on by a)``."""
    gone: tuple[str, ...]
    new_flags: tuple[str, ...]
    gone_env: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return it as text, what affects the services first."""
        found = [f"! {text}" for text in self.uses] + [f"default {text}" for text in self.defaults]
        for names, what in (
            (self.gone, "flags gone"),
            (self.new_flags, "flags new"),
            (self.gone_env, "env gone"),
        ):
            if names:
                found.append(f"{what}: {listing(names, 6)}")
        return found


@dataclass(frozen=True)
class KnownFlags:
    """The flags of the vLLM in an image."""

    schema: Schema
    exact: bool
    """Whether it is this release's, not a neighbouring one's."""


def known_flags(image: ImageRef) -> KnownFlags | None:
    """Return the image's cached schema, else that of its release; None for neither, and for a fork."""
    own = schema_cache.lookup(image.digest)
    if own is not None:
        return KnownFlags(own, exact=True)
    if images.is_fork(image.repository) or not image.engine_version:
        return None
    return KnownFlags(*schema.nearest(image.engine_version))


def notes(old: ImageRef, new: ImageRef, services: Iterable[Service]) -> list[str] | None:
    """Return the difference as text; None if the vLLM version of an image is unknown."""
    if known_flags(old) is None or known_flags(new) is None:
        return None
    found = difference(old, new, services)
    return found.lines() if found else []


def difference(old: ImageRef, new: ImageRef, services: Iterable[Service]) -> Upgrade | None:
    """Return the difference between two images; None if nothing differs or is known."""
    from_old, from_new = known_flags(old), known_flags(new)
    if from_old is None or from_new is None or from_old.schema == from_new.schema:
        return None
    before, after = from_old.schema, from_new.schema
    users = list(services)
    flags_before, flags_after = before.flags.keys(), after.flags.keys()
    env_before, env_after = before.registries.get("envs", ()), after.registries.get("envs", ())
    return Upgrade(
        old.engine_version or before.version,
        new.engine_version or after.version,
        uses=tuple(_uses(users, before, after, exact=from_old.exact and from_new.exact)),
        defaults=tuple(_defaults(users, before, after)),
        gone=tuple(sorted(flags_before - flags_after)),
        new_flags=tuple(sorted(flags_after - flags_before)),
        gone_env=tuple(sorted(set(env_before) - set(env_after))),
    )


def _uses(users: Sequence[Service], before: Schema, after: Schema, *, exact: bool) -> list[str]:
    found: dict[str, list[str]] = {}
    for service in users:
        argv = args.render(service.weights.repo, dict(service.flags), after)
        known = {_key(finding) for finding in _findings(argv, service, before, exact=True)}
        for finding in _findings(argv, service, after, exact=exact):
            if _key(finding) not in known and finding.severity is not Severity.INFO:
                hint = f" ({finding.hint})" if finding.hint else ""
                found.setdefault(f"{finding.message}{hint}", []).append(service.name)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in found.items()]


def _findings(argv: tuple[str, ...], service: Service, known: Schema, *, exact: bool) -> list[Diagnostic]:
    flags = check.check_flags(argv, known, exact)
    return [*flags, *check.check_env(dict(service.env), known, exact=exact)]


def _key(finding: Diagnostic) -> tuple[str, str]:
    return finding.code, finding.location


def _defaults(users: Sequence[Service], before: Schema, after: Schema) -> list[str]:
    lines = []
    for name in sorted(before.flags.keys() & after.flags.keys()):
        old, new = before.flags[name], after.flags[name]
        if old.default == new.default:
            continue
        relying = [service.name for service in users if not _sets(service, new, after)]
        if relying:
            names = "all" if len(relying) == len(users) else ", ".join(dict.fromkeys(relying))
            lines.append(f"{name} {_text(old.default)} → {_text(new.default)} (relied on by {names})")
    return lines


def _sets(service: Service, flag: Flag, known: Schema) -> bool:
    return any(args.canonical(name, known) == flag.name for name, _ in service.flags)


def _text(default: object) -> str:
    return "(not set)" if default is None else str(default)
