"""The candidate start: no restart policy, a watchdog, the gate. The caller promotes or rolls back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult, Generation
from sparkfleet.onhost.gate import diagnosis, log_lines, transport
from sparkfleet.onhost.gate.failure import Failure, StartFailedError
from sparkfleet.onhost.gate.gate import EngineEndedError, Gate
from sparkfleet.onhost.machine import (
    gpu,
    kernel_log,
    memory,
    mounts,
    rdma,
    redact,
    runtime_wait,
    valve,
)
from sparkfleet.onhost.machine.system import System, runtime_of
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError

REPORT_S = 30.0
"""Seconds without progress until a ``waiting`` event."""
RETRY = "retry"
"""Step of the second start of the same candidate; its diagnostic says why the first one failed."""
GPU_IDLE_S, GPU_POLL_S = 10.0, 1.0
"""Seconds for the processes of an engine that ended to leave the GPU, and between two queries."""
CACHE_GROWTH_MIB = 4096
"""Growth of the page cache (MiB) that justifies another flush between stop and start."""
NO_PAGES = "driver-no-memory"
"""Id of the failure pattern that the driver got no memory."""
MEMORY_LINES, MEMORY_WIDTH = 8, 400
LOG_LINES = 5000
"""Last lines of the engine's log for diagnosis and evidence."""


@dataclass
class Progress:
    """Writes the progress of an engine's start to the journal, read from its log."""

    system: System
    journal: Journal
    engine: str
    secrets: tuple[str, ...] = ()
    started: float = 0.0
    awaited: str = ""
    memory_log: list[str] = field(default_factory=list)
    _last: tuple[str, str] = ("", "")
    _reported_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def line(self, text: str) -> None:
        """Process a line of the log."""
        text = log_lines.plain(text)  # of limited length: patterns may be slow on long lines
        if engines.on_host(self.engine).log.memory.search(text) and len(self.memory_log) < MEMORY_LINES:
            self.memory_log.append(redact.redact(text, self.secrets)[:MEMORY_WIDTH])
        phase = diagnosis.reader(self.engine).phase_of(text)
        if phase is None:
            return
        with self._lock:
            if phase == self._last:
                return
            self._last, self._reported_at = phase, self.system.monotonic()
        text = redact.redact(phase[1], self.secrets)
        self.journal.log("phase", text, phase=phase[0], seconds=self._seconds())

    def wait_for(self, what: str) -> None:
        """Record the next condition."""
        self.awaited = what
        self._reported_at = self.system.monotonic()
        self.journal.log("waiting", what, phase="gate", seconds=self._seconds())

    def tick(self) -> None:
        """Write a ``waiting`` event when there was no progress for a while."""
        if self.system.monotonic() - self._reported_at >= REPORT_S:
            self._reported_at = self.system.monotonic()
            progress = f" ({': '.join(part for part in self._last if part)})" if self._last[0] else ""
            text = redact.redact(f"{self.awaited}{progress}", self.secrets)
            self.journal.log("waiting", text, phase=self._last[0] or "start", seconds=self._seconds())

    def _seconds(self) -> float:
        return round(self.system.monotonic() - self.started, 1)


class OtherRanks(Protocol):
    """The other ranks of a cluster (``coordination.Coordinator``)."""

    def check(self) -> None:
        """Raise StartFailedError when one of them failed or is silent."""

    def prove(self, gate: Gate) -> GateResult:
        """Wait until the gate has passed."""


def run(
    system: System, journal: Journal, generation: Generation, container_id: str, other_ranks: OtherRanks
) -> GateResult:
    """Start the candidate and gate it. Return the gate's measurements, or raise StartFailedError.

    A failure that the engine calls transient is retried once, where nobody else uses the GPU.
    """
    if generation.rank:
        sources = [mount.source for mount in runtime_of(system, generation).workload(generation).mounts]
        mounts.clear_caches(sources, generation.rank.clear)
    rdma.wait_for_gids(
        system, generation, lambda text: journal.log("note", text, phase="rdma"), other_ranks.check
    )
    # The cache was flushed before the stop; another flush only when it grew much since: it takes time.
    journal.log("note", valve.before_start(system, CACHE_GROWTH_MIB), phase="valve")
    journal.step("start", f"starting {generation.service}", container=container_id)
    try:
        return _start(system, journal, generation, container_id, other_ranks)
    except StartFailedError as error:
        if not _may_retry(system, journal, generation, error.failure):
            raise
        first = error.failure
    text = f"starting {generation.service} once more: {first.diagnostic.message}"
    journal.step(RETRY, text, diagnostic=first.diagnostic, line=first.line, exit_code=first.exit_code)
    journal.log("note", valve.before_start(system), phase="valve")
    return _start(system, journal, generation, container_id, other_ranks, since=system.now())


def _may_retry(system: System, journal: Journal, generation: Generation, failure: Failure) -> bool:
    """Return whether a second start may pass where the first one failed.

    Not in a cluster: its other ranks have ended with this one.
    """
    if (
        generation.rank
        or failure.diagnostic.code not in engines.on_host(generation.engine).transient_failures
    ):
        return False
    deadline = system.monotonic() + GPU_IDLE_S
    while (users := gpu.processes(system)) and system.monotonic() < deadline:
        system.sleep(GPU_POLL_S)
    if users is None:
        journal.log("note", "no second start: what else uses the GPU is unknown", phase=RETRY)
    elif users:
        journal.log("note", f"no second start: the GPU is also used by {'; '.join(users)}", phase=RETRY)
    return users == ()


def _start(
    system: System,
    journal: Journal,
    generation: Generation,
    container_id: str,
    other_ranks: OtherRanks,
    *,
    since: float = 0.0,
) -> GateResult:
    """Start the container and gate it. ``since``: unix time from which on its log belongs to this start."""
    runtime = runtime_of(system, generation)
    obstacle = mounts.obstacle(system, runtime.workload(generation))
    if obstacle:
        raise StartFailedError(
            Diagnostic(generation.service, obstacle, hint=mounts.REMEDY, code="mount-missing")
        )
    try:
        runtime.start(container_id)
    except RuntimeRefusedError as error:
        cause = diagnosis.reader(generation.engine).diagnose(str(error), None)
        explanation = cause or Failure(Diagnostic("", str(error), code="container-start-failed"))
        failure = explanation.of(generation.service, f"{runtime.daemon} could not start it")
        raise StartFailedError(replace(failure, line=str(error))) from error
    return _watch(system, journal, generation, container_id, other_ranks, since=since)


def _watch(
    system: System,
    journal: Journal,
    generation: Generation,
    container_id: str,
    other_ranks: OtherRanks,
    *,
    since: float,
) -> GateResult:
    runtime = runtime_of(system, generation)
    container = runtime.inspect(container_id)
    if container is None:
        gone = f"the {runtime.noun} disappeared right after the start"
        raise StartFailedError(Diagnostic(generation.service, gone, code="container-disappeared"))
    daemon_was = runtime.daemon_identity()
    progress = Progress(system, journal, generation.engine, redact.secrets_of(container), system.monotonic())
    watchdog = memory.MemoryWatchdog(
        system, generation.floor_mib, lambda: system.kill_now(runtime, container)
    )
    gate = Gate(system, generation, lambda: None, progress.wait_for)
    gate.find_api_key(container)

    def check_alive() -> None:
        progress.tick()
        if watchdog.struck is not None:
            raise EngineEndedError
        try:
            now = runtime.inspect(container_id)
        except RuntimeUnavailableError:
            return  # no response from dockerd; the engine's own responses count
        if now is None or not now.running:
            raise EngineEndedError
        other_ranks.check()

    def ended() -> Failure:
        return _ended(system, container_id, watchdog, gate, (progress.started, since))

    gate.check_alive = check_alive
    stop_watchdog = watchdog.start(container)
    stop_log = runtime.follow(container_id, since, progress.line)
    try:
        journal.step("gate", f"verifying {generation.served_name} on port {generation.port}")
        passed = other_ranks.prove(gate)
        _check_transport(system, journal, generation, container_id)
        return replace(passed, memory_log=tuple(progress.memory_log))
    except EngineEndedError:
        if watchdog.struck is None and runtime_wait.was_restarted(system, runtime, daemon_was):
            restarted = Diagnostic(
                generation.service,
                f"{runtime.daemon} was restarted while the engine started, and ended it",
                hint=f"run again; on the Spark: {runtime.check_command}",
                code="runtime-restarted",
            )
            raise StartFailedError(
                Failure(restarted, trace=watchdog.csv(), transcript=tuple(gate.transcript))
            ) from None
        raise StartFailedError(ended()) from None
    except StartFailedError as error:
        if watchdog.struck is not None:
            raise StartFailedError(ended()) from None
        failure = replace(error.failure, trace=watchdog.csv(), transcript=tuple(gate.transcript))
        raise StartFailedError(failure) from None
    finally:
        stop_watchdog()
        stop_log()


def _check_transport(system: System, journal: Journal, generation: Generation, container_id: str) -> None:
    """Record the transport of a cluster's ranks; raise StartFailedError for TCP where RDMA is declared."""
    if generation.rank is None or not generation.rank.is_head:
        return  # the head's log has all of its channels
    used = transport.transport(runtime_of(system, generation).log(container_id, LOG_LINES).splitlines())
    if used.kind:
        journal.log("note", f"ranks use {used.kind.upper()}: {used.line}", phase="transport")
    if used.kind == transport.TCP and ("NCCL_NET", "IB") in generation.env:
        raise StartFailedError(
            Diagnostic(
                generation.service,
                f"the ranks exchange data by TCP, not RDMA: {used.line}",
                hint="measure the links with sparkfleet fabric bench, or accept TCP in the cluster file: "
                "fabric: {tcp: true}",
                code="rdma-not-used",
            )
        )


def _ended(
    system: System,
    container_id: str,
    watchdog: memory.MemoryWatchdog,
    gate: Gate,
    began: tuple[float, float],
) -> Failure:
    """Return why the engine's process ended, from watchdog, logs of engine and kernel, and exit code.

    ``began``: start of this attempt by the clock of the kernel's log, and by that of the engine's.
    """
    started, since = began
    details: dict[str, Any] = {"trace": watchdog.csv(), "transcript": tuple(gate.transcript)}
    service, runtime = gate.generation.service, runtime_of(system, gate.generation)
    low = watchdog.diagnostic(service)
    container = runtime.inspect(container_id)
    if container is None:
        gone = f"its {runtime.noun} was removed by another process"
        return Failure(low or Diagnostic(service, gone, code="container-disappeared"), **details)
    log = redact.redact(runtime.log(container_id, LOG_LINES, since), redact.secrets_of(container))
    reader = diagnosis.reader(gate.generation.engine)
    last = " | ".join(reader.last_meaningful_lines(log, 3))
    code = container.exit_code
    if low:
        return Failure(low, last, code, **details)
    ended = f"the engine ended with exit code {code}"
    if container.out_of_memory:
        killed = f"{ended}, killed by the kernel for lack of memory"
        limit = Diagnostic(service, killed, hint=memory.REMEDY_KERNEL, code="killed-by-memory-limit")
        return Failure(limit, last, code, **details)
    sources = diagnosis.Sources(log, code, kernel_log.since(system, started), argv=container.command or None)
    if fragmented := _fragmented(reader, sources, watchdog, service):
        return Failure(fragmented, last, code, **details)
    found = reader.diagnose_all(sources)
    if found is None:
        unknown = Diagnostic(service, ended, hint="read its log in the evidence", code="engine-ended")
        return Failure(unknown, last, code, **details)
    return replace(found.of(service, ended), line=found.line or last, exit_code=code, **details)


def _fragmented(
    reader: diagnosis.LogReader,
    sources: diagnosis.Sources,
    watchdog: memory.MemoryWatchdog,
    service: str,
) -> Diagnostic | None:
    """Return that the driver found no memory although plenty was free: none of it in large blocks."""
    kernel = reader.diagnose(sources.kernel_log) if sources.kernel_log else None
    lowest = watchdog.lowest()
    if (
        kernel is None
        or kernel.diagnostic.code != NO_PAGES
        or lowest is None
        or not valve.is_fragmented(lowest)
    ):
        return None
    return Diagnostic(
        service,
        f"the engine ended with exit code {sources.exit_code}: the driver got no memory (NV_ERR_NO_MEMORY) "
        f"with {lowest.free} MiB free: only {lowest.large_free} MiB of it were in large blocks",
        hint=memory.REMEDY_FRAGMENTED,
        code="memory-fragmented",
    )
