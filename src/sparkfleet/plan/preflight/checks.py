"""All checks of one Spark, the most basic first."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.probe import PreflightRequest, ProbeRequest
from sparkfleet.desired_state import Host
from sparkfleet.plan import other_tools
from sparkfleet.plan.compute import probe_request
from sparkfleet.plan.preflight import containers, footprints, machine, network
from sparkfleet.plan.preflight.model import HostPreflight, located, of
from sparkfleet.probe.preflight import ObservedPreflight


def request(host: Host) -> ProbeRequest:
    """Return what the probe must observe for the preflight of a host."""
    return replace(
        probe_request(host),
        preflight=PreflightRequest(
            tuple(network.urls(host)), other_tools.programs(), other_tools.directories()
        ),
        resources=None,
    )


def preflight(
    host: Host, observed: ObservedPreflight | Diagnostic, skew_s: float = 0.0, unsure_s: float = 0.0
) -> HostPreflight:
    """Return every check of a Spark. Its clock is ``skew_s`` (± ``unsure_s``) ahead of the operator's."""
    if isinstance(observed, Diagnostic):
        return HostPreflight(host.name, tuple(of("probe", one) for one in observed.each))
    found = (
        *machine.rows(host, observed, skew_s, unsure_s),
        *containers.rows(host, observed),
        *network.rows(host, observed),
        *network.profile_rows(host, observed),
        *footprints.rows(observed),
    )
    return HostPreflight(host.name, tuple(located(host.name, check) for check in found))
