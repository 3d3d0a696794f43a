"""The preflight as text for people: what is not ok with its remedy, and how many checks are ok."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sparkfleet.errors import with_code
from sparkfleet.plan.preflight.model import HostPreflight, State
from sparkfleet.plan.preflight.parity import FleetPreflight
from sparkfleet.plan.report import HOST_WIDTH, diagnostic_lines

_SIGNS = {State.OK: "=", State.WARN: "~", State.FAIL: "!", State.UNKNOWN: "!"}
_STATE_WIDTH = max(map(len, State))


def preflight_text(checked: FleetPreflight, *, show_all: bool) -> str:
    """Return the checks of every Spark that are not ok; ``show_all``: every check."""
    return "\n".join(line for host in checked.hosts for line in _host_lines(host, show_all=show_all)) + "\n"


def counts(*hosts: HostPreflight) -> str:
    """Return how many checks ended in which state: ``31 checks ok, 1 warn, 1 fail``."""
    found = Counter(check.state for host in hosts for check in host.checks)
    ok = f"{found[State.OK]} check{'' if found[State.OK] == 1 else 's'} ok"
    return ", ".join(
        [ok, *(f"{found[state]} {state}" for state in State if state != State.OK and found[state])]
    )


def _host_lines(host: HostPreflight, *, show_all: bool) -> Iterator[str]:
    yield f"{host.host.ljust(HOST_WIDTH)} {counts(host)}"
    for check in host.checks:
        if check.diagnostic is None and not show_all:
            continue
        text = f"  {_SIGNS[check.state]} {check.state.ljust(_STATE_WIDTH)}     {check.name}: {check.found}"
        yield with_code(text, check.diagnostic.code) if check.diagnostic else text
        if check.diagnostic is not None:
            yield from diagnostic_lines(check.diagnostic)
