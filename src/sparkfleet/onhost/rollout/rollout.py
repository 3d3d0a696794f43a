"""The rollout: the transaction that replaces a generation. It ends promoted, or is undone completely.

Every step is in the journal before it begins: after a kill or a reboot the same program can finish it.

- nothing stopped yet: the candidate is discarded; ``interrupted``
- stopped, not promoted: the previous generation is restored, started and gated; ``restored``, or ``failed``
- the gate had passed: the promotion is finished; ``promoted``

``refused`` and ``stale`` mean that nothing changed, ``removed`` is the end of a rollout without a candidate.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sparkfleet.contract.codec import NEWER, ContractError
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import (
    ContainerOf,
    CurrentGeneration,
    GateResult,
    Generation,
    PromotedGeneration,
    RolloutRequest,
    convert,
)
from sparkfleet.contract.history import HistoryEntry
from sparkfleet.contract.rollout import (
    FAILED,
    INTERRUPTED,
    PROMOTED,
    REFUSED,
    REMOVED,
    RESTORED,
    STALE,
    UNREADABLE,
    RolloutResult,
    StateBefore,
)
from sparkfleet.onhost.cluster import coordination
from sparkfleet.onhost.cluster.coordination import Coordinator, SingleHost
from sparkfleet.onhost.cluster.messages import CoordinationError
from sparkfleet.onhost.gate import candidate_start, evidence
from sparkfleet.onhost.gate.failure import Failure, StartFailedError
from sparkfleet.onhost.gate.gate import listed_names
from sparkfleet.onhost.machine import files, redact, runtime_wait, valve
from sparkfleet.onhost.machine.system import System, runtime_of, systemctl
from sparkfleet.onhost.rollout import changeover, checks, snapshot
from sparkfleet.onhost.rollout.outcome import sentence
from sparkfleet.onhost.rollout.restore import restart_previous
from sparkfleet.onhost.state import history, store, units
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Role, Runtime, RuntimeRefusedError, RuntimeUnavailableError

MAX_TRIES = 8
"""Attempts after which an interrupted rollout is given up."""
PROGRAM_ERROR = "error"
"""Phase of a note with what ended an attempt."""


def run(system: System, rollout_id: str) -> RolloutResult:
    """Run the rollout, or finish it; return its result. The caller holds the lock.

    Raise ContractError for one of a newer version: it stays unfinished until newer programs continue it.
    """
    try:
        return _run(system, rollout_id)
    except ContractError as error:
        return quarantine(system, rollout_id, error)


def journal_of(system: System, rollout_id: str) -> Journal:
    """Return the journal of a rollout. Raise ContractError."""
    directory = store.rollout_directory(system.paths.state, rollout_id)
    return Journal(directory, system.now, store.rollout_fallback(system.paths.run, rollout_id))


def require_readable(system: System, rollout_id: str) -> None:
    """Raise ContractError when these programs cannot read the files that a rollout is continued from."""
    journal = journal_of(system, rollout_id)
    journal.request(RolloutRequest)
    journal.before(StateBefore)


def _run(system: System, rollout_id: str) -> RolloutResult:
    journal = journal_of(system, rollout_id)
    result = journal.result(RolloutResult)
    if result is not None:
        return result
    rollout = Rollout(system, journal, journal.request(RolloutRequest))
    tries = journal.count("begin")
    if tries >= MAX_TRIES:
        return rollout.give_up()
    try:
        # Before anything that can fail, so that every attempt counts.
        journal.step("begin", "continuing after an interruption" if tries else "starting the rollout")
        rollout = rollout.coordinated()
        rollout.coordinator.open(again=bool(tries))
        return rollout.resume() if tries else rollout.forward()
    except CoordinationError as error:
        return rollout.finish(REFUSED, diagnostic=error.diagnostic)
    except OSError as error:
        if journal.has_changed:
            journal.log("note", _described(error), phase=PROGRAM_ERROR)
            raise
        return rollout.finish(REFUSED, diagnostic=unwritable(journal.directory, error))
    except Exception as error:
        journal.log("note", _described(error), phase=PROGRAM_ERROR)
        raise
    finally:
        rollout.coordinator.close()


def unwritable(path: Path, error: OSError) -> Diagnostic:
    """Return the diagnostic of a state directory that cannot be written."""
    hint = "make its file system writable (df -h, mount, dmesg), then run again"
    return Diagnostic(str(path), f"it cannot be written: {error}", hint=hint, code="journal-unwritable")


def _described(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"


def settle(system: System, rollout_id: str) -> None:
    """At boot, before any service starts: restore the containers, units and records of interrupted rollouts.

    Nothing is started here: systemd starts what is enabled, and ``run`` does the rest.
    """
    journal = journal_of(system, rollout_id)
    if journal.result(RolloutResult) is not None:
        return
    request = journal.request(RolloutRequest)
    if request.candidate is None or not journal.last("stop"):
        return
    rollout = Rollout(system, journal, request).coordinated()
    if rollout.goes_forward() or rollout.others_went_forward():
        changeover.place(system, rollout.record(), rollout.request.cluster_key)
    else:
        rebooted = rollout.interrupted(REBOOTED)
        if not journal.last("restore"):
            journal.step("restore", REBOOTED, diagnostic=rebooted)
        candidate = changeover.find_candidate(system, journal, request.candidate)
        if candidate:
            runtime = runtime_of(system, request.candidate)
            evidence.save(system, runtime, journal.directory / "evidence", candidate.id, Failure(rebooted))
        for service, wrong in changeover.revert(system, journal, request.candidate).items():
            journal.log("note", f"{service}: {wrong.message}", phase="restore")


def runtimes(system: System, rollout_ids: Sequence[str]) -> tuple[Runtime, ...]:
    """Return the runtimes of the services that these rollouts affect, as far as their files can be read."""
    found: dict[Runtime, None] = {}
    for rollout_id in rollout_ids:
        with suppress(ContractError, RuntimeRefusedError):
            journal = journal_of(system, rollout_id)
            found |= dict.fromkeys(Rollout(system, journal, journal.request(RolloutRequest)).runtimes())
    return tuple(found)


def quarantine(system: System, rollout_id: str, error: ContractError) -> RolloutResult:
    """End a rollout whose files cannot be read: no program retries it, and no run waits for it.

    Its directory stays as evidence. Raise the error for files of a newer version: an update can read them.
    """
    if error.diagnostic.code == NEWER:
        raise error
    directory, wrong = store.rollout_directory(system.paths.state, rollout_id), error.diagnostic
    line = replace(wrong, hint="").line
    again = "run again: pyinfra INVENTORY deploys/serve.py; the plan shows the current state"
    result = RolloutResult(
        UNREADABLE,
        id=rollout_id,
        ended_at=round(system.now(), 3),
        text=f"rollout {rollout_id} cannot be continued: {line}; its files stay in {directory}",
        diagnostic=replace(wrong, hint=wrong.hint or again),
    )
    events = directory / "events.jsonl"
    try:
        if wrong.location == str(events):
            events.rename(f"{events}.unreadable")
        if not (directory / "result.json").exists():
            files.write_document(directory / "result.json", result)
    except OSError:  # it cannot be written either
        fallback = store.rollout_fallback(system.paths.run, rollout_id)
        files.write_document(fallback / "result.json", result)
    return result


REBOOTED = "interrupted by a restart of the Spark or of this program before the gate had passed"


@dataclass(frozen=True)
class Rollout:
    """One rollout: request, journal and clients of the host."""

    system: System
    journal: Journal
    request: RolloutRequest
    coordinator: Coordinator = field(default_factory=SingleHost)

    def coordinated(self) -> Rollout:
        """Return the rollout with the coordinator of its candidate. Raise CoordinationError."""
        coordinator = coordination.coordinator(self.system, self.journal, self.request)
        return replace(self, coordinator=coordinator)

    def forward(self) -> RolloutResult:
        """Run all steps."""
        self.journal.step("check", "checking the host before any change")
        refusal = checks.refusal(self.system, self.request)
        if refusal:
            outcome = STALE if refusal.code == "host-changed-since-plan" else REFUSED
            return self.finish(outcome, diagnostic=refusal)
        generation = self.request.candidate
        if generation is None:
            return self.remove()
        try:
            candidate_id = self.create(generation)
        except (RuntimeRefusedError, RuntimeUnavailableError) as error:
            changeover.discard(self.system, self.journal, generation)
            return self.finish(REFUSED, diagnostic=self.cannot_create(error))
        try:
            self.coordinator.prepared(self.image_of(candidate_id))
        except CoordinationError:
            changeover.discard(self.system, self.journal, generation)
            raise
        # Drop caches now, while the old engine serves: after its stop there is little left to flush.
        self.journal.log("note", valve.flush(self.system).text, phase="valve")
        before = snapshot.take(self.system, self.request)
        self.journal.keep_before(before)
        serving = [name for name, seen in before.services.items() if seen.running or seen.active]
        text = f"stopping {', '.join(serving)}; a failure from now on rolls back"
        self.journal.step("stop", text if serving else "no engine to stop")
        try:
            changeover.switch_over(
                self.system, self.journal, generation, candidate_id, self.coordinator.check
            )
            self.coordinator.stopped()
            passed = candidate_start.run(
                self.system, self.journal, generation, candidate_id, self.coordinator
            )
            self.journal.step("promote", "the gate has passed", record=self.new_record(candidate_id, passed))
            return self.promote()
        except StartFailedError as error:
            return self.restore(error.failure)
        except Exception as error:
            hint = "run again with SPARKFLEET_DEBUG=1 and report it"
            return self.restore(Failure(self.failed(_described(error), hint)))

    def resume(self) -> RolloutResult:
        """Continue from the step at which it was killed."""
        self.wait_for_runtime()
        generation = self.request.candidate
        if generation is None:
            if self.journal.last("remove"):
                return self.remove()
            return self.finish(
                INTERRUPTED, diagnostic=self.interrupted("interrupted before anything was removed")
            )
        if not self.journal.last("stop"):
            changeover.discard(self.system, self.journal, generation)
            return self.finish(
                INTERRUPTED, diagnostic=self.interrupted("interrupted before anything was stopped")
            )
        if not self.goes_forward() and not self.others_went_forward():
            return self.restore(None)
        try:
            return self.promote()
        except StartFailedError as error:
            return self.restore(error.failure)
        except RuntimeRefusedError as error:
            message = f"{runtime_of(self.system, generation).daemon}: {error}"
            return self.restore(Failure(self.failed(message, "run again")))

    def wait_for_runtime(self) -> None:
        """Return when the daemons of the affected services' runtimes answer, however long that takes."""
        for runtime in self.runtimes():

            def report(text: str, daemon: str = runtime.daemon) -> None:
                self.journal.log("waiting", text, phase=daemon)

            runtime_wait.wait(self.system, runtime, report)

    def runtimes(self) -> tuple[Runtime, ...]:
        """Return the runtimes of the candidate and of what ran before."""
        before = snapshot.recorded(self.journal).values()
        candidate = self.request.candidate
        found = [runtime_of(self.system, candidate)] if candidate else []
        return tuple(
            dict.fromkeys([*found, *(runtime_of(self.system, one.current, candidate) for one in before)])
        )

    def goes_forward(self) -> bool:
        """Return whether the gate had passed and no restore began since."""
        return bool(self.journal.last("promote")) and not self.journal.last("restore")

    def others_went_forward(self) -> bool:
        """Return whether the cluster's head promoted while this rank was interrupted; record it then."""
        created = self.journal.last("created")
        if self.journal.last("restore") or not created or not self.coordinator.was_committed():
            return False
        passed = GateResult(serving_at=round(self.system.now(), 3))
        self.journal.step(
            "promote", "the head promoted the rollout", record=self.new_record(created.container, passed)
        )
        return True

    def image_of(self, container_id: str) -> str:
        """Return what identifies the content that the container runs from on every host."""
        runtime = runtime_of(self.system, self.request.candidate)
        container = runtime.inspect(container_id)
        return runtime.content_of(container.artifact) if container else ""

    def create(self, generation: Generation) -> str:
        """Create the candidate's container beside the running one."""
        runtime = runtime_of(self.system, generation)
        name = runtime.name(generation.service, Role.CANDIDATE)
        self.journal.step("create", f"{runtime.noun} {name}")
        changeover.tidy(self.system, self.request)
        workload = runtime.workload(generation)
        container_id = runtime.create(generation.service, Role.CANDIDATE, workload)
        container = runtime.inspect(container_id)
        if container is None or (container.service, container.generation) != (
            generation.service,
            generation.id,
        ):
            runtime.remove(container_id)
            raise RuntimeRefusedError(
                f"the {runtime.noun} does not have the labels of {generation.service} {generation.id}"
            )
        runtime.adopt(container_id)
        self.journal.step("created", container=container.id)
        return container.id

    def cannot_create(self, error: Exception) -> Diagnostic:
        """Return why there is no candidate."""
        runtime = runtime_of(self.system, self.request.candidate)
        message = f"{runtime.daemon} did not create the {runtime.noun}: {error}"
        return Diagnostic(
            self.subject, message, hint="correct `container:` of the service", code="runtime-refused"
        )

    def failed(self, found: str, hint: str) -> Diagnostic:
        """Return the diagnostic of a failure without a code of its own."""
        return Diagnostic(self.subject, found, hint=hint, code="rollout-failed")

    def interrupted(self, found: str) -> Diagnostic:
        """Return the diagnostic of an interruption."""
        return Diagnostic(self.subject, found, hint="run again", code="rollout-interrupted")

    @property
    def subject(self) -> str:
        """Return the candidate's service; without one those that are removed."""
        candidate = self.request.candidate
        return candidate.service if candidate else ", ".join(self.request.replaces)

    def new_record(self, container_id: str, passed: GateResult) -> CurrentGeneration:
        """Return the new record of the service."""
        generation = self.request.candidate
        if generation is None:
            raise ValueError("a rollout without a candidate has no record")
        before = snapshot.recorded(self.journal).values()
        return convert(
            CurrentGeneration,
            generation,
            promoted_at=round(self.system.now(), 3),
            operator=self.request.operator,
            rollout=self.request.id,
            gate_result=passed,
            container=ContainerOf(container_id, generation.id),
            replaced=tuple(convert(PromotedGeneration, one.current) for one in before if one.current),
        )

    def record(self) -> CurrentGeneration:
        """Return the record that was written when the gate had passed."""
        step = self.journal.last("promote")
        if step is None or step.record is None:
            raise ValueError("the promotion has no record")
        return step.record

    def promote(self) -> RolloutResult:
        """Make the candidate the service; may be repeated."""
        record = self.record()
        self.coordinator.commit()
        while True:
            try:
                changeover.place(self.system, record, self.request.cluster_key)
                changeover.hand_over(self.system, self.journal, record)
                changeover.retire(self.system, self.journal, record)
                break
            except RuntimeUnavailableError:
                self.wait_for_runtime()
        gate = record.gate_result
        return self.finish(PROMOTED, gate_result=gate, downtime_s=self.downtime(gate.serving_at))

    def restore(self, failure: Failure | None) -> RolloutResult:
        """Restore, start and gate the previous generation; ``failure`` None: this program was interrupted."""
        generation = self.request.candidate
        if generation is None:
            raise ValueError("a rollout without a candidate has nothing to restore")
        event = self.journal.last("restore")
        if event:
            cause = event.diagnostic or self.interrupted(REBOOTED)
            # Events of earlier versions had no location.
            cause = replace(cause, location=cause.location or self.subject)
            failure = Failure(cause, event.line, event.exit_code)
        else:
            failure = self.coordinator.explain(failure or Failure(self.interrupted(REBOOTED)))
            self.journal.step("restore", failure.diagnostic.message, **_reason(failure))
        self.coordinator.abort(failure)
        folder = self.journal.directory / "evidence"
        while True:
            self.wait_for_runtime()
            try:
                candidate = changeover.find_candidate(self.system, self.journal, generation)
                if candidate:
                    evidence.save(
                        self.system, runtime_of(self.system, generation), folder, candidate.id, failure
                    )
                problems = changeover.revert(self.system, self.journal, generation)
                restarted = restart_previous(self.system, self.journal, generation)
                break
            except RuntimeUnavailableError as error:
                self.journal.log("note", str(error), phase="restore")
        failed = {**restarted.failed, **problems}  # where both are known, the first problem caused the other
        back = restarted.serving or restarted.unproven
        return self.finish(
            RESTORED if back and not restarted.failed else FAILED,
            **_reason(failure),
            evidence=str(folder) if folder.exists() else "",
            serving=restarted.serving,
            restore_problems=(*failed.values(), *restarted.unproven),
            downtime_s=self.downtime(restarted.serving_at),
        )

    def give_up(self) -> RolloutResult:
        """Start what ran before, unproven, and end: every attempt ended with an error."""
        for service, before in snapshot.recorded(self.journal).items():
            if before.active:
                systemctl(self.system, "reset-failed", units.unit_name(service))
                systemctl(self.system, "start", units.unit_name(service), timeout_s=600)
        last = self.journal.last_note(PROGRAM_ERROR) or "the program was ended each time"
        message = f"given up after {MAX_TRIES} tries: {last}"
        hint = f"read {self.journal.directory}/events.jsonl, then run again: the plan shows what runs"
        try:
            ended = self.coordinated()
        except Exception:  # what ended every attempt, perhaps
            ended = self
        return ended.finish(FAILED, diagnostic=self.failed(message, hint))

    def remove(self) -> RolloutResult:
        """Stop and remove services for good; may be repeated."""
        if not self.journal.last("remove"):
            self.journal.keep_before(snapshot.take(self.system, self.request))
            self.journal.step("remove", f"{', '.join(self.request.replaces)} are removed")
        for service, before in snapshot.recorded(self.journal).items():
            runtime = runtime_of(self.system, before.current)
            changeover.stop(self.system, runtime, service, before)
            if before.container:
                runtime.remove(before.container)
            changeover.forget(self.system, service)
        return self.finish(REMOVED)

    def downtime(self, until: float) -> float | None:
        """Return the seconds without a serving engine; 0: none served before, None: none serves now.

        None also where the clock was set back meanwhile.
        """
        if not any(before.running for before in snapshot.recorded(self.journal).values()):
            return 0.0
        stop = self.journal.last("stop")
        return round(until - stop.at, 2) if stop and until >= stop.at else None

    def finish(self, outcome: str, **details: Any) -> RolloutResult:
        """Write the result and return it."""
        generation = self.request.candidate
        begin, retried = self.journal.first("begin"), self.journal.last(candidate_start.RETRY)
        if outcome == FAILED and generation:
            details = {**details, "answering": listed_names(self.system, generation)}
        other_ranks = self.coordinator.settle(outcome == PROMOTED, details.get("diagnostic"))
        if other_ranks:
            serving = (generation.service,) if generation else ()
            outcome, details = FAILED, {**details, "diagnostic": other_ranks, "serving": serving}
        result = RolloutResult(
            outcome,
            id=self.request.id,
            service=self.subject,
            generation=generation.id if generation else "",
            replaced=self.request.replaces,
            began_at=begin.at if begin else None,
            ended_at=round(self.system.now(), 3),
            first_failure=retried.diagnostic if retried else None,
            **details,
        )
        result = replace(result, text=sentence(result))
        self.keep_in_history(result)
        self.journal.finish(result)
        store.prune_rollouts(self.system.paths.state)
        return result

    def keep_in_history(self, result: RolloutResult) -> None:
        """Add a rollout that changed something to the history. A failure here must not stop it."""
        if result.outcome not in {PROMOTED, RESTORED, REMOVED, FAILED}:
            return
        context = self.request.context
        changes = tuple(redact.redact(one) for one in context.changes)
        with suppress(OSError, ContractError):
            before = snapshot.recorded(self.journal).get(result.service)
            entry = HistoryEntry(
                result.ended_at,
                result.service,
                result.outcome,
                redact.redact(result.text),
                self.request.operator,
                replace(context, changes=changes),
                result.id,
                result.generation,
                before.current.id if before and before.current else "",
                round(result.ended_at - result.began_at, 3) if result.began_at else None,
                result.downtime_s,
            )
            history.append(self.system.paths.state, entry)


def _reason(failure: Failure) -> dict[str, Any]:
    """Return the fields of an event or a result that say why a candidate failed."""
    return {"diagnostic": failure.diagnostic, "line": failure.line, "exit_code": failure.exit_code}
