"""All rows of one Spark, in the order in which a person would ask."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.config.resolved import Host
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.plan import other_tools
from sparkfleet.plan.compute import probe_request
from sparkfleet.plan.preflight import containers, footprints, machine, network
from sparkfleet.plan.preflight.model import Check, Checked, Verdict
from sparkfleet.probe.command import ProbeRequest
from sparkfleet.probe.preflight import PreflightSeen


def request(host: Host) -> ProbeRequest:
    """Return what must be looked at for the preflight of a host."""
    return replace(
        probe_request(host),
        preflight=True,
        urls=tuple(network.urls(host)),
        programs=other_tools.programs(),
        directories=other_tools.directories(),
        items=None,
    )


def checked(
    host: Host, seen: PreflightSeen | Diagnostic, skew_s: float = 0.0, unsure_s: float = 0.0
) -> Checked:
    """Return every row of a Spark: what was seen, and what its clock said against the operator's."""
    if isinstance(seen, Diagnostic):
        rows = [Check("look", Verdict.FAIL, one.message, one.expected, one.hint) for one in seen.each]
        return Checked(host.name, tuple(rows))
    return Checked(
        host.name,
        (
            *machine.rows(host, seen, skew_s, unsure_s),
            *containers.rows(host, seen),
            *network.rows(host, seen),
            *footprints.rows(seen),
        ),
    )
