"""The last lines of a run: what became of each service, where it answers, and how long it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host
from sparkfleet.plan.address import service_url
from sparkfleet.plan.report import MANY
from sparkfleet.units import duration

Row = tuple[str, str, str, str]
"""Host, subject, URL, result."""


@dataclass(frozen=True)
class Outcome:
    """What a run did. Hosts are in the inventory's order."""

    hosts: Sequence[str]
    seconds: float
    declared: Mapping[str, Host] = field(default_factory=dict)
    """The hosts whose services are listed."""
    done: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Host and subject -> result."""
    changed: frozenset[str] = frozenset()
    """Hosts that did not fail, on which something was executed."""
    failures: Mapping[str, tuple[Diagnostic, ...]] = field(default_factory=dict)
    stopped: frozenset[tuple[str, str]] = frozenset()
    """Host and service that were stopped on purpose, and stay so."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return a row for each result and each declared service; in a large fleet for results alone."""
        return tuple(row for host in self.hosts for row in self._of_host(host))

    def _of_host(self, host: str) -> Iterator[Row]:
        results = {subject: text for (name, subject), text in self.done.items() if name == host}
        declared = self.declared.get(host)
        for service in declared.services if declared else ():
            if (host, service.name) in self.stopped and service.name not in results:
                yield host, service.name, "", "stopped, unchanged"
                continue
            unchanged = "unchanged" if host not in self.failures and len(self.hosts) <= MANY else ""
            text = results.pop(service.name, unchanged)
            if text and declared:
                yield host, service.name, service_url(declared, service), text
        yield from ((host, subject, "", text) for subject, text in sorted(results.items()))

    @property
    def counts(self) -> str:
        """Return the last line: the number of hosts by what became of them, and the time."""
        failed = len(self.failures)
        unchanged = len({*self.hosts} - self.changed - self.failures.keys())
        parts = [f"{len(self.changed)} changed", f"{unchanged} unchanged"]
        parts += [f"{failed} failed"] if failed else []
        return f"{', '.join(parts)}, in {duration(self.seconds)}"
