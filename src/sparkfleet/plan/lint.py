"""Checks of a service's configuration, for ``sparkfleet check`` and the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sparkfleet import engines
from sparkfleet.config.origin import relocate_to_user
from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.desired_state import Host, Service
from sparkfleet.engines.base import SERVICE
from sparkfleet.suggest import did_you_mean


def findings(
    service: Service,
    host: Host,
    *,
    pinned: bool = True,
    total_gib: float | None = None,
    measured: object = None,
) -> tuple[Diagnostic, ...]:
    """Return what the engine's checks find, without what the host ignores. ``place`` gives it a location.

    ``pinned`` False: there is no lock file, and rules about pins do not apply. ``total_gib``: the Spark's
    memory, where it was read. ``measured``: what the engine logged of its memory at its last start.
    """
    engine = engines.get(service.engine)
    silent = {
        *dict(host.ignore_rules),
        *(rule.id for rule in engine.rules() if rule.needs_lock and not pinned),
    }
    diagnostics = engine.check(service, host, total_gib=total_gib, measured=measured)
    return tuple(one for one in diagnostics if one.code not in silent)


def is_rule(diagnostic: Diagnostic, service: Service) -> bool:
    """Return whether a lint rule found it, not the check of flags and variables."""
    return any(rule.id == diagnostic.code for rule in engines.get(service.engine).rules())


def place(diagnostic: Diagnostic, origin: Mapping[str, str]) -> Diagnostic:
    """Return the diagnostic at the place (``file:line``) of its field of the service."""
    place = origin.get(diagnostic.location) or origin[SERVICE]
    return relocate_to_user(replace(diagnostic, location=place), origin[SERVICE])


def at_service(diagnostic: Diagnostic, service: Service) -> Diagnostic:
    """Return the diagnostic at its place in the service's file; at the service's name without a file."""
    return place(diagnostic, {SERVICE: service.name, **dict(service.origin)})


def unknown_ignores(host: Host) -> tuple[Diagnostic, ...]:
    """Return a diagnostic for each entry of ``ignore_rules`` that names no rule of any engine."""
    known = [rule.id for name in engines.names() for rule in engines.get(name).rules()]
    return tuple(
        Diagnostic(
            host.file,
            f"ignore_rules: there is no rule {name}",
            hint=did_you_mean(name.upper(), known, "`sparkfleet rules` lists them"),
            severity=Severity.WARNING,
            code="rule-unknown",
        )
        for name in dict(host.ignore_rules)
        if name not in known
    )


def first_error(service: Service, findings: tuple[Diagnostic, ...]) -> Diagnostic | None:
    """Return the first error as the reason not to start an engine this way; None when there is none."""
    error = next((one for one in findings if one.severity is Severity.ERROR), None)
    if error is None:
        return None
    silence = f"to start it anyway: `ignore_rules: {{{error.code}: why}}` in the host file"
    hint = f"{error.hint}; {silence}" if error.hint else silence
    return replace(at_service(error, service), hint=hint)
