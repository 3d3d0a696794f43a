"""Change of the links of this Spark with automatic revert: a job of its own, which outlives its connection.

The job writes our netplan file, has the links follow it, and then waits for three things: the management
network is unchanged, the operator opened a new connection, and every peer answers on every rail. If one is
missing for too long, everything is reverted. A job that was killed, also by a reboot, reverts what it began.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from sparkfleet.contract.codec import NEWER, ContractError
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.fabric import (
    FAILED,
    OTHER_END_FAILED,
    FabricRequest,
    FabricResult,
    LinksBefore,
    LinksGivenUp,
    LinkState,
    UnmanagedLinks,
    links_of,
)
from sparkfleet.contract.rollout import LOST, RESULT, Event, JobStarted
from sparkfleet.onhost.fabric import check, links, netplan, watch
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.memory_max import ROLLOUT_MIB, memory_max
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.state import units
from sparkfleet.onhost.state.journal import Journal, follow_events

LINKED, REMOVED, REFUSED, RETURNED = "linked", "removed", "refused", "returned"
SETTLE_TRIES, SETTLE_S = 4, 1.0
"""Checks, and seconds between them, that a restored state is stable."""
KEPT_JOBS = 10
AGAIN = "wait for its end, then run again"


def folder(system: System, job: str) -> Path:
    """Return a job's directory. Raise ValueError for an invalid id."""
    if not re.fullmatch(r"fabric-[a-z0-9-]{1,50}", job):
        raise ValueError(f"bad job id {job!r}")
    return system.paths.state / "fabric" / job


def unfinished(system: System) -> list[str]:
    """Return the jobs without a result."""
    found = (system.paths.state / "fabric").glob("fabric-*/request.json")
    return sorted(path.parent.name for path in found if not (path.parent / "result.json").exists())


def begin(system: System, request: FabricRequest) -> JobStarted:
    """Write the request, start its job detached, and return at once. A second request starts nothing."""
    directory = folder(system, request.id)
    if (directory / "request.json").exists():
        return JobStarted(request.id)
    for other in unfinished(system):
        if _goes_on(system, other):
            raise SparkfleetError(_failed(f"another change of the links is in progress: {other}", AGAIN))
        _require_not_newer(system, other)
        _start(system, other)
        message = f"an interrupted change of the links ({other}) is being reverted"
        raise SparkfleetError(_failed(message, AGAIN))
    _prune(system)
    files.write_document(directory / "request.json", request)
    diagnostic = _start(system, request.id)
    if diagnostic:
        files.remove(directory)
        unit = unit_name(request.id)
        raise SparkfleetError(
            Diagnostic(unit, diagnostic, hint=f"journalctl -u {unit}, then run again", code="unit-failed")
        )
    return JobStarted(request.id)


def unit_name(job: str) -> str:
    """Return the unit of a job."""
    return f"sparkfleet-{job}.service"


def _start(system: System, job: str) -> str:
    properties = ("Description=sparkfleet: links to other Sparks", "Restart=on-failure", "RestartSec=1",
                  "SuccessExitStatus=1", "StartLimitIntervalSec=0", "OOMScoreAdjust=-900",
                  memory_max(ROLLOUT_MIB))  # fmt: skip
    result = system.run(
        (
            *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit_name(job)}"),
            *(f"--property={entry}" for entry in properties),
            *units.PYTHON.split(),
            *("fabric-run", job),
        )
    )
    return f"systemd-run: {result.text}" if result.code else ""


def confirm(system: System, job: str) -> None:
    """Record that the operator opened a new connection: the management network works."""
    directory = folder(system, job)
    if not (directory / "request.json").exists():
        raise FileNotFoundError(f"unknown job {job}")
    files.write_atomic(directory / "confirmed", "")


def give_up(system: System, job: str, cause: str) -> None:
    """Have a job revert everything at once: the operator knows that the other end will not answer."""
    given_up = check.failed(cause, code=OTHER_END_FAILED)
    files.write_document(folder(system, job) / "given-up.json", LinksGivenUp(given_up))


def run(system: System, job: str) -> FabricResult:
    """Run a job, or revert what an interrupted one began. Return its result.

    Raise ContractError for a job of a newer version: it stays unfinished, because an update can read it.
    """
    try:
        return _run(system, job)
    except ContractError as error:
        if error.diagnostic.code == NEWER:
            raise
        return _quarantine(system, job, error)


def _require_not_newer(system: System, job: str) -> None:
    """Raise ContractError for a job of a newer version: these programs can neither finish nor revert it."""
    try:
        journal = Journal(folder(system, job), system.now)
        journal.request(FabricRequest)
        journal.before(LinksBefore)
    except ContractError as error:
        if error.diagnostic.code == NEWER:
            raise


def _run(system: System, job: str) -> FabricResult:
    journal = Journal(folder(system, job), system.now)
    result = journal.result(FabricResult)
    if result:
        return result
    change = _Change(system, journal.request(FabricRequest), journal)
    if journal.last("keep"):
        return change.finish()
    if journal.before(LinksBefore):
        return change.revert(_failed("it was interrupted", "run again"))
    return change.apply()


def _quarantine(system: System, job: str, error: ContractError) -> FabricResult:
    """End a job whose files cannot be read, so that no boot and no run waits for it."""
    directory, wrong = folder(system, job), error.diagnostic
    message, hint = (
        f"{wrong.message}; the links stay as they are",
        wrong.hint or "run again: the plan shows the links",
    )
    result = FabricResult(LOST, replace(wrong, message=message, hint=hint), job)
    events = directory / "events.jsonl"
    if wrong.location == str(events):
        events.rename(f"{events}.unreadable")
    Journal(directory, system.now).finish(result)
    return result


def recover(system: System) -> list[str]:
    """At boot: revert the jobs that a reboot interrupted. Return them.

    One of a newer version is left alone: it waits for newer programs, and no boot for it.
    """
    unfinished_jobs = []
    for job in unfinished(system):
        if _goes_on(system, job):
            continue
        try:
            run(system, job)
        except ContractError as error:
            sys.stderr.write(f"sparkfleet: {job} is not reverted: {error}\n")
        else:
            unfinished_jobs.append(job)
    return unfinished_jobs


def follow(system: System, job: str, since: int, wait_s: float) -> list[Event]:
    """Return the events from ``since`` on; wait for them at most ``wait_s`` seconds. The result is last.

    Raise ContractError for a job of a newer version.
    """

    def stopped() -> list[Event]:
        if _goes_on(system, job):
            return []
        _require_not_newer(system, job)
        message, hint = "the job ended without a result", "run again: the links are reverted at the next boot"
        lost = FabricResult(LOST, Diagnostic("fabric", message, hint=hint, code="job-lost"))
        return [Event(since, RESULT, result=lost.to_json())]

    return follow_events(system, folder(system, job), FabricResult, since, wait_s, stopped=stopped)


def _goes_on(system: System, job: str) -> bool:
    return systemctl(system, "is-active", unit_name(job)).out.strip() in {"active", "activating"}


def _prune(system: System) -> None:
    found = (system.paths.state / "fabric").glob("*/result.json")
    done = sorted(found, key=lambda path: path.stat().st_mtime)
    for path in done[:-KEPT_JOBS]:
        files.remove(path.parent)


def _failed(found: str, hint: str) -> Diagnostic:
    return Diagnostic("fabric", found, hint=hint, code=FAILED)


class _Change:
    """One change of the links."""

    def __init__(self, system: System, request: FabricRequest, journal: Journal) -> None:
        self.system, self.request, self.journal = system, request, journal

    def apply(self) -> FabricResult:
        """Apply the change and watch it; if anything fails, revert everything."""
        system, request = self.system, self.request
        refusal = netplan.refusal(system, request.text)
        if refusal:
            rejected = _failed(f"netplan rejects the file: {refusal}", "nothing was changed")
            return self._end(REFUSED, rejected)
        try:
            unmanaged = files.read_document(UnmanagedLinks, self._unmanaged) or UnmanagedLinks()
        except ContractError as error:
            wrong = error.diagnostic
            hint = wrong.hint or f"restore or move away {wrong.location}; then run again"
            message = f"{wrong.message}; nothing was changed"
            return self._end(REFUSED, replace(wrong, message=message, hint=hint))
        old = netplan.own_text(system)
        touched = sorted({link for link, _ in request.addresses} | set(links_of(old)))
        management = {*request.management, *unmanaged.management, *links.of_default_routes(system)}
        before = LinksBefore(
            text=old,
            links=links.snapshot(system, touched),
            management=links.snapshot(system, sorted(management - set(touched))),
            networkd=netplan.runs(system),
            touched=tuple(touched),
            renderer=request.renderer or unmanaged.renderer,
        )
        self.journal.keep_before(before)
        if request.text:
            self._keep_unmanaged(before, unmanaged)
        self.journal.step("apply", f"{', '.join(touched)}: applying the new netplan file")
        netplan.write(system, request.text)
        declared = [link for link, _ in request.addresses]
        diagnostic = netplan.activate(system, before.renderer, touched, declared)
        if diagnostic:
            return self.revert(_failed(diagnostic, "fix it, then run again"))
        self._drop(before, unmanaged)
        self.journal.step("watch", "waiting for a new connection, and for the other Sparks")
        missing = watch.watch(system, request, before.management, self.journal.directory)
        if missing:
            return self.revert(missing)
        self.journal.step("keep", "all peers answer")
        return self.finish()

    def finish(self) -> FabricResult:
        """Write the evidence and the result."""
        if not self.request.text:
            files.remove(self._unmanaged)
            return self._end(REMOVED)
        evidence = check.evidence(self.system, self.request)
        path = self.system.paths.state / "evidence" / f"fabric-{self.request.cluster}.json"
        files.write_document(path, evidence)
        return self._end(LINKED)

    def revert(self, wrong: Diagnostic) -> FabricResult:
        """Restore the file, the links, and the management network."""
        system, before = self.system, self.journal.before(LinksBefore)
        if before is None:
            raise FileNotFoundError(self.journal.directory / "before.json")
        self.journal.step("return", wrong.message)
        netplan.write(system, before.text)
        renderer = before.renderer
        diagnostic = netplan.activate(system, renderer, before.touched, links_of(before.text))
        self._forget_new(before)
        diagnostics = self._restore({**before.management, **before.links})
        if not before.networkd and not before.text and renderer == "networkd":
            systemctl(system, "stop", f"{netplan.NETWORKD.removesuffix('.service')}.socket", netplan.NETWORKD)
        left = "; ".join(([diagnostic] if diagnostic else []) + diagnostics)
        message = f"{wrong.message}; everything was reverted" + (f", except: {left}" if left else "")
        return self._end(RETURNED, replace(wrong, message=message))

    def _restore(self, had: links.Snapshot) -> list[str]:
        """Restore the netdevs, and check that this is stable; return what failed.

        NetworkManager searches another connection for a link that lost ours; when it finds one, it removes
        addresses, a moment later.
        """
        diagnostics = links.restore(self.system, had)
        for _ in range(SETTLE_TRIES):
            self.system.sleep(SETTLE_S)
            if links.missing(self.system, had):
                diagnostics = links.restore(self.system, had)
        return diagnostics or links.missing(self.system, had)

    @property
    def _unmanaged(self) -> Path:
        """Return the path of the state before the first change, for a removal of all links."""
        return self.system.paths.state / "fabric" / "untouched.json"

    def _keep_unmanaged(self, before: LinksBefore, known: UnmanagedLinks) -> None:
        """Write it, with the MTU of links that our file names for the first time."""
        ours = links_of(before.text)
        new = {link: had.mtu for link, had in before.links.items() if link not in ours}
        unmanaged = UnmanagedLinks({**known.mtu, **new}, self.request.management, before.renderer)
        files.write_document(self._unmanaged, unmanaged)

    def _drop(self, before: LinksBefore, unmanaged: UnmanagedLinks) -> None:
        """Remove the addresses that the plan lists as removed, if the renderer left them."""
        gone = self.request.drop if self.request.text else self._own_addresses(before)
        for link, address in gone:
            if address in links.snapshot(self.system, [link]).get(link, LinkState()).addresses:
                self.system.run(("ip", "address", "del", address, "dev", link))
        if not self.request.text:
            for link, mtu in unmanaged.mtu.items():
                self.system.run(("ip", "link", "set", "dev", link, "mtu", str(mtu)))

    def _own_addresses(self, before: LinksBefore) -> list[tuple[str, str]]:
        """Return the addresses that the former file of ours set."""
        return [
            (link, one)
            for link, had in before.links.items()
            for one in had.addresses
            if f"[{one}]" in before.text
        ]

    def _forget_new(self, before: LinksBefore) -> None:
        for link, address in self.request.addresses:
            if address not in before.links.get(link, LinkState()).addresses:
                self.system.run(("ip", "address", "del", address, "dev", link))

    def _end(self, outcome: str, wrong: Diagnostic | None = None) -> FabricResult:
        result = FabricResult(outcome, wrong, self.request.id)
        self.journal.finish(result)
        return result
