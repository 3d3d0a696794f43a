"""Change the links of this Spark so that it comes back by itself: a job of its own, which outlives whoever
asked.

The job puts our netplan file in place, makes the links follow it, and then waits for three things: the
management network is as it was, the operator came back over a new connection, and every peer answers on
every rail. Without them within the time everything is put back as it was. A job that was killed, by a reboot
too, puts back what it began.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sparkfleet.contract.fabric import FabricRequest, FabricResult, LinksBefore, links_of
from sparkfleet.contract.rollout import LOST, RESULT, Event
from sparkfleet.onhost.fabric import check, links, netplan, watch
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.state import units
from sparkfleet.onhost.state.journal import Journal, read_events

LINKED, REMOVED, REFUSED, RETURNED = "linked", "removed", "refused", "returned"
SETTLE_TRIES, SETTLE_S = 4, 1.0
"""Looks, and seconds between them, until what was put back is known to stay."""
KEPT = 10
"""Jobs whose diaries are kept."""


def folder(system: System, job: str) -> Path:
    """Return a job's directory. Raise ValueError for what is no id of a job."""
    if not re.fullmatch(r"fabric-[a-z0-9-]{1,50}", job):
        raise ValueError(f"bad job id {job!r}")
    return system.paths.state / "fabric" / job


def unfinished(system: System) -> list[str]:
    """Return the jobs that have not come to an end."""
    found = (system.paths.state / "fabric").glob("fabric-*/request.json")
    return sorted(path.parent.name for path in found if not (path.parent / "result.json").exists())


def begin(system: System, request: FabricRequest) -> dict[str, Any]:
    """Write the request down and start its job detached; return at once. Asked twice, it is started once."""
    here = folder(system, request.id)
    if (here / "request.json").exists():
        return {"job": request.id}
    for other in unfinished(system):
        if _goes_on(system, other):
            raise ValueError(f"another change of the links goes on: {other}")
        _start(system, other)
        raise ValueError(f"an interrupted change of the links ({other}) is being put back")
    _prune(system)
    files.write_json(here / "request.json", request.to_json())
    diagnostic = _start(system, request.id)
    if diagnostic:
        files.remove(here)
        raise ValueError(diagnostic)
    return {"job": request.id}


def unit_name(job: str) -> str:
    """Return the unit that a job runs in."""
    return f"sparkfleet-{job}.service"


def _start(system: System, job: str) -> str:
    properties = ("Description=sparkfleet: links to other Sparks", "Restart=on-failure", "RestartSec=1",
                  "SuccessExitStatus=1", "StartLimitIntervalSec=0", "OOMScoreAdjust=-900")  # fmt: skip
    done = system.run(
        (
            *("systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit_name(job)}"),
            *(f"--property={entry}" for entry in properties),
            *units.PYTHON.split(),
            *("fabric-run", job),
        )
    )
    return f"systemd-run: {done.text}" if done.code else ""


def confirm(system: System, job: str) -> None:
    """Note that the operator came in anew: the management network works."""
    here = folder(system, job)
    if not (here / "request.json").exists():
        raise FileNotFoundError(f"there is no job {job} on this Spark")
    files.write_atomic(here / "confirmed", "")


def give_up(system: System, job: str, cause: str) -> None:
    """Let a job put everything back at once: the operator knows that the other end will not answer."""
    files.write_json(folder(system, job) / "given-up.json", {"cause": cause})


def run(system: System, job: str) -> FabricResult:
    """Carry a job out, or put back what an interrupted one began. Return its result."""
    journal = Journal(folder(system, job), system.now)
    result = journal.result(FabricResult)
    if result:
        return result
    request = journal.request(FabricRequest)
    change = _Change(system, request, journal)
    if journal.last("keep"):
        return change.keep()
    if journal.before(LinksBefore):
        return change.back("it was interrupted", "run again")
    return change.make()


def recover(system: System) -> list[str]:
    """At boot: put back what a reboot interrupted. Return the jobs."""
    found = [job for job in unfinished(system) if not _goes_on(system, job)]
    for job in found:
        run(system, job)
    return found


def follow(system: System, job: str, since: int, wait_s: float) -> list[Event]:
    """Return the events from ``since`` on; wait for news at most ``wait_s`` seconds. A result comes last."""
    here = folder(system, job)
    end = system.monotonic() + wait_s
    while True:
        events = read_events(here, since)
        if events or system.monotonic() > end:
            return events
        if not _goes_on(system, job) and not (here / "result.json").exists():
            lost = FabricResult(
                LOST,
                "the job ended without a result",
                "run again: the links are restored at the next boot",
            )
            return [Event(since, RESULT, result=lost.to_json())]
        system.sleep(0.1)


def _goes_on(system: System, job: str) -> bool:
    return systemctl(system, "is-active", unit_name(job)).out.strip() in {"active", "activating"}


def _prune(system: System) -> None:
    found = (system.paths.state / "fabric").glob("*/result.json")
    done = sorted(found, key=lambda path: path.stat().st_mtime)
    for path in done[:-KEPT]:
        files.remove(path.parent)


class _Change:
    """One change of the links, from the first look to its end."""

    def __init__(self, system: System, request: FabricRequest, journal: Journal) -> None:
        self.system, self.request, self.journal = system, request, journal

    def make(self) -> FabricResult:
        """Make the change and watch it; whatever goes wrong, everything is put back."""
        system, request = self.system, self.request
        refusal = netplan.refusal(system, request.text)
        if refusal:
            return self._end(REFUSED, f"netplan refuses the file: {refusal}", "nothing was changed")
        old, known = netplan.own_text(system), self._known()
        touched = sorted({link for link, _ in request.addresses} | set(links_of(old)))
        management = {*request.management, *known["management"], *links.of_default_routes(system)}
        before = LinksBefore(
            text=old,
            links=links.snapshot(system, touched),
            management=links.snapshot(system, sorted(management - set(touched))),
            networkd=netplan.runs(system),
            touched=tuple(touched),
            renderer=request.renderer or known["renderer"],
        )
        self.journal.keep_before(before)
        if request.text:
            self._keep_known(before, known["mtu"])
        self.journal.step("apply", f"{', '.join(touched)}: the new netplan file is in force now")
        netplan.put(system, request.text)
        declared = [link for link, _ in request.addresses]
        diagnostic = netplan.activate(system, before.renderer, touched, declared)
        if diagnostic:
            return self.back(diagnostic, "see what it says; then run again")
        self._drop(before)
        self.journal.step("watch", "waiting for a new connection, and for the other Sparks")
        cause = watch.watch(system, request, before.management, self.journal.directory)
        if cause:
            return self.back(cause, "check cables, switch and the other Spark; then run again")
        self.journal.step("keep", "everything answers")
        return self.keep()

    def keep(self) -> FabricResult:
        """Write down what was proved, and end."""
        if not self.request.text:
            files.remove(self._untouched)
            return self._end(REMOVED, "", "")
        evidence = check.as_evidence(self.system, self.request)
        path = self.system.paths.state / "evidence" / f"fabric-{self.request.cluster}.json"
        files.write_json(path, evidence)
        return self._end(LINKED, "", "")

    def back(self, cause: str, remedy: str) -> FabricResult:
        """Put back the file, the links, and the management network as they were before."""
        system, before = self.system, self.journal.before(LinksBefore)
        if before is None:
            raise FileNotFoundError(self.journal.directory / "before.json")
        self.journal.step("return", cause)
        netplan.put(system, before.text)
        renderer = before.renderer
        diagnostic = netplan.activate(system, renderer, before.touched, links_of(before.text))
        self._forget_new(before)
        diagnostics = self._put_back({**before.management, **before.links})
        if not before.networkd and not before.text and renderer == "networkd":
            systemctl(system, "stop", f"{netplan.NETWORKD.removesuffix('.service')}.socket", netplan.NETWORKD)
        left = "; ".join(([diagnostic] if diagnostic else []) + diagnostics)
        message = f"{cause}; everything was put back as it was" + (f", but: {left}" if left else "")
        return self._end(RETURNED, message, remedy)

    def _put_back(self, had: links.Snapshot) -> list[str]:
        """Give the netdevs what they had, and see that it stays; return what did not work.

        NetworkManager looks for a connection of its own for a link that lost ours, and takes addresses away
        when it has found one, a moment later.
        """
        diagnostics = links.put_back(self.system, had)
        for _ in range(SETTLE_TRIES):
            self.system.sleep(SETTLE_S)
            if links.missing(self.system, had):
                diagnostics = links.put_back(self.system, had)
        return diagnostics or links.missing(self.system, had)

    @property
    def _untouched(self) -> Path:
        """Return where it is kept what is needed to take all of it back, when nobody declares it any more."""
        return self.system.paths.state / "fabric" / "untouched.json"

    def _known(self) -> dict[str, Any]:
        """Return the MTU that links had before we touched them, the management netdevs, the renderer."""
        return {
            "mtu": {},
            "management": [],
            "renderer": "networkd",
            **(files.read_json(self._untouched) or {}),
        }

    def _keep_known(self, before: LinksBefore, mtu: dict[str, int]) -> None:
        """Keep it; a link's MTU of before is that of the first time that our file names the link."""
        ours = links_of(before.text)
        new = {link: had["mtu"] for link, had in before.links.items() if link not in ours}
        management, renderer = self.request.management, before.renderer
        kept = {"mtu": {**mtu, **new}, "management": management, "renderer": renderer}
        files.write_json(self._untouched, kept)

    def _drop(self, before: LinksBefore) -> None:
        """Take the addresses away that the plan lists as going, where the renderer left them."""
        gone = self.request.drop if self.request.text else self._given(before)
        for link, address in gone:
            if address in links.snapshot(self.system, [link]).get(link, {"addresses": ()})["addresses"]:
                self.system.run(("ip", "address", "del", address, "dev", link))
        if not self.request.text:
            for link, mtu in self._known()["mtu"].items():
                self.system.run(("ip", "link", "set", "dev", link, "mtu", str(mtu)))

    def _given(self, before: LinksBefore) -> list[tuple[str, str]]:
        """Return the addresses that our file gave, when all of it goes."""
        return [
            (link, one)
            for link, had in before.links.items()
            for one in had["addresses"]
            if f"[{one}]" in before.text
        ]

    def _forget_new(self, before: LinksBefore) -> None:
        for link, address in self.request.addresses:
            if address not in before.links.get(link, {"addresses": ()})["addresses"]:
                self.system.run(("ip", "address", "del", address, "dev", link))

    def _end(self, outcome: str, cause: str, remedy: str) -> FabricResult:
        result = FabricResult(outcome, cause, remedy, self.request.id)
        self.journal.finish(result)
        return result
