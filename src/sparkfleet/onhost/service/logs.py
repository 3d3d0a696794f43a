"""The logs of a service: of its engine, its supervisor, and its last rollout. Secrets are masked.

While a log is followed, an empty line is printed every few seconds: writing it fails when nobody reads any
more, and that ends the program.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError, stored_as
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import RolloutRequest
from sparkfleet.contract.logs import MAX_LINES, ROLLOUT, SUPERVISOR, LogLine
from sparkfleet.contract.rollout import RESULT, RolloutResult
from sparkfleet.onhost.machine import files, redact
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.rollout import checks, snapshot
from sparkfleet.onhost.state import journal, store, units
from sparkfleet.runtimes.base import Instance, RuntimeRefusedError, RuntimeUnavailableError

POLL_S = 1.0
FOLLOW_S = 0.2
"""Seconds between two reads of the output of an instance."""
JOURNAL_S = 30
ALIVE_S = 5.0
"""Seconds between two empty lines."""
LONGEST = 8192
"""Characters of a line; the rest is cut."""


@dataclass(frozen=True)
class LogQuery:
    """What is requested of a log."""

    source: str
    service: str = ""
    """"" = the only one; of rollouts: the last one of any service."""
    tail: int = MAX_LINES
    since: float = 0.0
    """Unix time; 0: from the beginning."""
    follow: bool = False


class Printer:
    """Prints lines of a log; ``write`` gets None for an empty line."""

    def __init__(
        self, system: System, write: Callable[[LogLine | None], None], secrets: tuple[str, ...]
    ) -> None:
        """Mask ``secrets`` in every line."""
        self._system, self._write, self._secrets = system, write, secrets
        self._last = system.monotonic()

    def mask(self, secrets: tuple[str, ...]) -> None:
        """Mask these secrets, too: a new instance may have others."""
        self._secrets = tuple(dict.fromkeys((*self._secrets, *secrets)))

    def line(self, text: str, at: float = 0.0) -> None:
        """Print one line."""
        masked = redact.redact(text, self._secrets)
        cut = masked if len(masked) <= LONGEST else f"{masked[:LONGEST]} ..."
        self._last = self._system.monotonic()
        self._write(LogLine(cut, at))

    def alive(self) -> None:
        """Print an empty line if none was printed for some seconds."""
        if self._system.monotonic() - self._last >= ALIVE_S:
            self._last = self._system.monotonic()
            self._write(None)


def show(system: System, query: LogQuery, write: Callable[[LogLine | None], None]) -> None:
    """Print the lines of a log; with ``follow`` until the reader leaves, of a rollout until its end.

    Raise SparkfleetError when there is no such log.
    """
    if query.source == ROLLOUT:
        _rollout(system, query, write)
        return
    service = query.service or only_service(system)
    instance = _instance(system, service)
    printer = Printer(system, write, redact.secrets_of(instance))
    if query.source == SUPERVISOR:
        _supervisor(system, service, query, printer)
    elif instance is None:
        message = "it has no instance here, so its engine has no log"
        hint = f"sparkfleet logs INVENTORY HOST/{service} --source {ROLLOUT} shows its last rollout"
        raise SparkfleetError(Diagnostic(service, message, hint=hint, code="log-missing"))
    else:
        _engine(system, instance, query, printer)


def only_service(system: System) -> str:
    """Return the one service of this host. Raise SparkfleetError for none or several."""
    found = store.services(system.paths.state)
    if len(found) == 1:
        return found[0]
    message = "several services are here" if found else "no service is here"
    expected = f"one of: {', '.join(found)}" if found else ""
    hint = (
        f"sparkfleet logs INVENTORY HOST/{found[0]}"
        if found
        else f"--source {ROLLOUT} shows the last rollout"
    )
    raise SparkfleetError(Diagnostic("", message, expected, hint, code="service-unknown"))


def _instance(system: System, service: str) -> Instance | None:
    """Return the instance of a service. Raise SparkfleetError for a service that is not known here."""
    runtime = snapshot.current_runtime(system, store.check_service(service))
    instance = runtime.find(service)
    if instance is not None and instance.service != service:
        message = f"not managed by sparkfleet: no {runtime.mark}"
        raise SparkfleetError(
            Diagnostic(
                f"{runtime.noun} {service}",
                message,
                hint="read its log yourself",
                code="container-name-taken",
            )
        )
    if instance is None and service not in store.services(system.paths.state):
        raise unknown_service(system, service)
    return instance


def unknown_service(system: System, service: str) -> SparkfleetError:
    """Return the error of a service that is not known here."""
    known = store.services(system.paths.state)
    expected = f"one of: {', '.join(known)}" if known else "a service that serves here"
    hint = "sparkfleet status INVENTORY lists the running services"
    return SparkfleetError(
        Diagnostic(service, "no such service is here", expected, hint, code="service-unknown")
    )


def _engine(system: System, instance: Instance, query: LogQuery, printer: Printer) -> None:
    runtime = snapshot.current_runtime(system, instance.service)
    if not query.follow:
        for text in runtime.log(instance.id, query.tail, query.since).splitlines():
            printer.line(text)
        return
    since, tail, last = query.since, query.tail, ""
    while True:
        with suppress(RuntimeRefusedError, RuntimeUnavailableError):
            found = runtime.find(instance.service)
            if found and (found.running or f"{found.id} {found.started_at}" != last):
                printer.mask(redact.secrets_of(found))
                last = f"{found.id} {found.started_at}"
                _follow_instance(system, found, since, tail, printer)
                since, tail = system.now(), MAX_LINES
        printer.alive()
        system.sleep(POLL_S)


def _follow_instance(system: System, instance: Instance, since: float, tail: int, printer: Printer) -> None:
    """Print the output of an instance until it ends."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    runtime = snapshot.current_runtime(system, instance.service)
    stop = runtime.follow(instance.id, since, lines.put, lambda: lines.put(None), tail)
    try:
        while True:
            try:
                text = lines.get_nowait()
            except queue.Empty:
                printer.alive()
                system.sleep(FOLLOW_S)
                continue
            if text is None:
                return
            printer.line(text)
    finally:
        stop()


def _supervisor(system: System, service: str, query: LogQuery, printer: Printer) -> None:
    place = (f"--lines={query.tail}", *((f"--since=@{query.since:.6f}",) if query.since else ()))
    while True:
        cursor = ""
        for entry in _entries(system, service, place):
            printer.line(entry.text, entry.at)
            cursor = entry.cursor
        if not query.follow:
            return
        place = (f"--after-cursor={cursor}",) if cursor else place
        printer.alive()
        system.sleep(POLL_S)


@dataclass(frozen=True)
class _Entry:
    """An entry of systemd's journal."""

    at_us: str = stored_as("__REALTIME_TIMESTAMP")
    cursor: str = stored_as("__CURSOR")
    message: str | tuple[int, ...] | None = stored_as("MESSAGE", default=None)
    """Bytes where it is not UTF-8."""

    @property
    def text(self) -> str:
        """Return the message as text."""
        if isinstance(self.message, tuple):
            return bytes(one & 0xFF for one in self.message).decode("utf-8", "replace")
        return self.message or ""

    @property
    def at(self) -> float:
        """Return the unix time."""
        return int(self.at_us) / 1e6 if self.at_us.isdecimal() else 0.0


def _entries(system: System, service: str, place: tuple[str, ...]) -> Iterator[_Entry]:
    """Yield the entries of a service's unit. Raise SparkfleetError when there is no journal."""
    unit = units.unit_name(service)
    options = (f"--unit={unit}", "--output=json", "--output-fields=MESSAGE", "--no-pager", "--quiet")
    ran = system.run(("journalctl", *options, *place), JOURNAL_S)
    if ran.code:
        raise SparkfleetError(
            Diagnostic(unit, f"journalctl: {ran.text}", hint="run again", code="log-missing")
        )
    for text in ran.out.splitlines():
        with suppress(ContractError):
            yield codec.parse(_Entry, text, "journalctl")


def _rollout(system: System, query: LogQuery, write: Callable[[LogLine | None], None]) -> None:
    found = (one for one in reversed(store.rollouts(system.paths.state)) if _concerns(one, query.service))
    directory = next(found, None)
    if directory is None:
        message = "no rollout of it is kept" if query.service else "no rollout is kept here"
        hint = "sparkfleet history INVENTORY HOST shows older changes"
        raise SparkfleetError(Diagnostic(query.service, message, hint=hint, code="log-missing"))
    printer = Printer(system, write, ())
    printer.line(f"rollout {directory.name}")
    fallback = store.rollout_fallback(system.paths.run, directory.name)
    events = journal.read_events(directory, 0, fallback)
    following = events[-1].n + 1 if events else 0
    events = [one for one in events if one.at >= query.since][-query.tail :]
    while True:
        for event in events:
            if event.text:
                name = event.step or event.phase or event.kind
                printer.line(f"{name}: {event.text}", event.at)
            if event.kind == RESULT:
                return
        if not query.follow or journal.read_result(RolloutResult, directory, fallback):
            return
        printer.alive()
        system.sleep(POLL_S)
        events = journal.read_events(directory, following, fallback)
        following = events[-1].n + 1 if events else following


def _concerns(directory: Path, service: str) -> bool:
    """Return whether a rollout is of a service; "" is any. One that cannot be read is of none."""
    if not service:
        return True
    try:
        request = files.read_document(RolloutRequest, directory / "request.json")
    except ContractError:
        return False
    return request is not None and service in checks.affected_services(request)
