"""What can be known of a service before anything is touched, for ``sparkfleet check`` and for the plan."""

from __future__ import annotations

from sparkfleet import engines
from sparkfleet.config.resolved import Host, Service
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.base import Finding
from sparkfleet.suggest import did_you_mean


def findings(
    service: Service,
    host: Host,
    *,
    pinned: bool = True,
    total_gib: float | None = None,
    measured: object = None,
) -> tuple[Finding, ...]:
    """Return what the engine's checks find, without what the host ignores.

    ``pinned`` False: there is no lock file, and rules about pins do not apply. ``total_gib``: the Spark's
    memory, where it was read. ``measured``: what the engine logged of its memory at its last start.
    """
    found = engines.get(service.engine).check(service, host, total_gib=total_gib, measured=measured)
    ignored = dict(host.ignore_rules)
    return tuple(one for one in found if one.code not in ignored and (pinned or not one.needs_lock))


def unknown_ignores(host: Host) -> tuple[Finding, ...]:
    """Return a finding for each entry of ``ignore_rules`` that names no rule of any engine."""
    known = [rule.id for name in engines.names() for rule in engines.get(name).rules()]
    return tuple(
        Finding(
            "warning",
            f"ignore_rules: there is no rule {name}",
            did_you_mean(name.upper(), known, "`sparkfleet rules` lists them"),
            name,
        )
        for name in dict(host.ignore_rules)
        if name not in known
    )


def first_error(service: Service, findings: tuple[Finding, ...]) -> Diagnostic | None:
    """Return the first error as the reason not to start an engine this way; None when there is none."""
    error = next((one for one in findings if one.level == "error"), None)
    if error is None:
        return None
    origin = dict(service.origin)
    where = next((origin[name] for name in (*error.about, "service") if name in origin), service.name)
    silence = f"to start it anyway: `ignore_rules: {{{error.code}: why}}` in the host file"
    return Diagnostic(
        where, error.message, hint=f"{error.hint}; {silence}" if error.hint else silence, code=error.code
    )
