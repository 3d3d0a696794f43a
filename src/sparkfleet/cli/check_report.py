"""Findings of `check` beyond validation: flags and variables against the image's engine, and the rules."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.config.load import LoadedFleet
from sparkfleet.config.origin import SERVICE
from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.desired_state import Host, Service
from sparkfleet.plan import lint


def diagnostics(loaded: LoadedFleet) -> list[Diagnostic]:
    """Return every finding of a fleet, sorted by place; a finding that Sparks share is listed once.

    Rules about pins are skipped where a service is not pinned: if that is an error, the loader reports it.
    """
    fleet = loaded.fleet
    hosts_by_finding: dict[Diagnostic, set[str]] = {}
    for warning in fleet.warnings:
        where, _, text = warning.partition(": ")
        hosts_by_finding[Diagnostic(where, text, severity=Severity.WARNING, code="fleet-warning")] = set()
    findings_by_content: dict[object, tuple[Diagnostic, ...]] = {}
    first: dict[Diagnostic, Diagnostic] = {}
    for host in fleet.hosts:
        for service in host.services:
            key = _content(service, host)
            if key not in findings_by_content:  # most Sparks of a fleet have the same service
                findings_by_content[key] = lint.findings(service, host, pinned=service.is_pinned)
            origin = dict(service.origin)
            for finding in findings_by_content[key]:
                if origin[SERVICE] in loaded.without_rules and lint.is_rule(finding, service):
                    continue
                diagnostic = lint.place(finding, origin)
                if diagnostic.location == origin[SERVICE]:  # the same recipe on other hosts, too
                    diagnostic = first.setdefault(finding, diagnostic)
                hosts_by_finding.setdefault(diagnostic, set()).add(host.name)
        for finding in lint.unknown_ignores(host):
            diagnostic = first.setdefault(replace(finding, location=""), finding)
            hosts_by_finding.setdefault(diagnostic, set()).add(host.name)
    counted = [_counted(diagnostic, hosts) for diagnostic, hosts in hosts_by_finding.items()]
    return sorted(counted, key=lambda one: (one.place, one))


def _content(service: Service, host: Host) -> object:
    """Return what determines the findings of a service: all values, without names and places."""
    other_services = [(other.port, repr(other.flags)) for other in host.services if other is not service]
    weights = service.weights
    return (
        repr(
            (
                service.flags,
                service.env,
                service.container,
                service.image,
                service.requires_packages,
                other_services,
            )
        ),
        (service.name, service.recipe, service.engine, service.requires_engine),
        (weights.repo, weights.revision, weights.gated),
        (
            host.reserve_gib,
            host.memory_gib,
            host.min_available_gib,
            host.hf_token,
            host.ignore_rules,
            host.paths,
        ),
    )


def _counted(diagnostic: Diagnostic, hosts: set[str]) -> Diagnostic:
    more = len(hosts) - 1
    return (
        replace(diagnostic, message=f"{diagnostic.message} (and on {more} more)") if more > 0 else diagnostic
    )
