"""The rollout: the transaction that replaces a generation. It ends promoted, or is undone completely.

Every step is in the journal before it begins: after a kill or a reboot the same program can finish it.

- nothing stopped yet: the candidate is discarded; ``interrupted``
- stopped, not promoted: the previous generation is restored, started and gated; ``restored``, or ``failed``
- the gate had passed: the promotion is finished; ``promoted``

``refused`` and ``stale`` mean that nothing changed, ``removed`` is the end of a rollout without a candidate.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from sparkfleet.contract.generation import Generation, RolloutRequest
from sparkfleet.onhost.cluster import coordination
from sparkfleet.onhost.cluster.coordination import Coordinator
from sparkfleet.onhost.cluster.messages import CoordinationError
from sparkfleet.onhost.gate import candidate_start, evidence
from sparkfleet.onhost.gate.candidate_start import CandidateFailedError, Failure
from sparkfleet.onhost.gate.gate import Passed
from sparkfleet.onhost.machine import runtime_wait, valve
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.rollout import changeover, checks, snapshot
from sparkfleet.onhost.rollout.outcome import FAILED, INTERRUPTED, PROMOTED, REMOVED, RESTORED, sentence
from sparkfleet.onhost.rollout.restore import restart_previous
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Role, RuntimeRefusedError, RuntimeUnavailableError

MAX_TRIES = 8
"""Attempts after which an interrupted rollout is given up."""


def run(system: System, rollout_id: str) -> dict[str, Any]:
    """Run the rollout, or finish it; return its result. The caller holds the lock."""
    journal = Journal(store.rollout_directory(system.paths.state, rollout_id), system.now)
    result = journal.result
    if result is not None:
        return result
    request = journal.request
    rollout = Rollout(system, journal, request, coordination.coordinator(system, journal, request))
    if journal.count("begin") >= MAX_TRIES:
        return rollout.finish(
            FAILED, cause=f"given up after {MAX_TRIES} tries", remedy="see its events.jsonl"
        )
    again = journal.last("begin") is not None
    journal.step("begin", "continuing after an interruption" if again else "begins")
    try:
        rollout.coordinator.open(again=again)
        return rollout.resume() if again else rollout.forward()
    except CoordinationError as error:
        return rollout.finish(checks.REFUSED, cause=str(error), remedy=error.remedy)
    finally:
        rollout.coordinator.close()


def settle(system: System, rollout_id: str) -> None:
    """At boot, before any service starts: restore the containers, units and records of interrupted rollouts.

    Nothing is started here: systemd starts what is enabled, and ``run`` does the rest.
    """
    journal = Journal(store.rollout_directory(system.paths.state, rollout_id), system.now)
    if journal.result is not None:
        return
    request = journal.request
    rollout = Rollout(system, journal, request, coordination.coordinator(system, journal, request))
    if request.candidate is None or not journal.last("stop"):
        return
    if rollout.goes_forward() or rollout.others_went_forward():
        changeover.place(system, rollout.record(), rollout.request.cluster_key)
    else:
        if not journal.last("restore"):
            journal.step("restore", REBOOTED, cause=REBOOTED)
        candidate = changeover.find_candidate(system, journal, request.candidate)
        if candidate:
            evidence.save(system, journal.directory / "evidence", candidate.id, Failure(REBOOTED))
        changeover.revert(system, journal, request.candidate)


REBOOTED = "interrupted by a restart of the Spark or of this program before the gate had passed"


@dataclass(frozen=True)
class Rollout:
    """One rollout: request, journal and clients of the host."""

    system: System
    journal: Journal
    request: RolloutRequest
    coordinator: Coordinator

    def forward(self) -> dict[str, Any]:
        """Run all steps."""
        self.journal.step("check", "checking the host before any change")
        refusal = checks.refusal(self.system, self.request)
        if refusal:
            return self.finish(refusal.outcome, cause=refusal.cause, remedy=refusal.remedy)
        generation = self.request.candidate
        if generation is None:
            return self.remove()
        try:
            candidate_id = self.create(generation)
        except (RuntimeRefusedError, RuntimeUnavailableError) as error:
            changeover.discard(self.system, self.journal, generation)
            return self.finish(checks.REFUSED, cause=self.cannot_create(error))
        try:
            self.coordinator.prepared(self.image_of(candidate_id))
        except CoordinationError:
            changeover.discard(self.system, self.journal, generation)
            raise
        # Drop caches now, while the old engine serves: after its stop there is little left to flush.
        self.journal.log("note", valve.flush(self.system).text, phase="valve")
        self.journal.keep_before(snapshot.look(self.system, self.request))
        self.journal.step("stop", "stopping the old engine; a failure from here on rolls back")
        try:
            changeover.switch_over(self.system, self.journal, generation, candidate_id)
            self.coordinator.stopped()
            passed = candidate_start.run(
                self.system, self.journal, generation, candidate_id, self.coordinator
            )
            self.journal.step("promote", "the gate has passed", record=self.new_record(candidate_id, passed))
            return self.promote()
        except CandidateFailedError as error:
            return self.restore(error.failure)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"
            return self.restore(Failure(text))

    def resume(self) -> dict[str, Any]:
        """Continue from the step at which it was killed."""
        self.wait_for_runtime()
        generation = self.request.candidate
        if generation is None:
            return self.remove() if self.journal.last("remove") else self.finish(INTERRUPTED)
        if not self.journal.last("stop"):
            changeover.discard(self.system, self.journal, generation)
            return self.finish(INTERRUPTED, cause="interrupted before anything was stopped")
        if not self.goes_forward() and not self.others_went_forward():
            return self.restore(None)
        try:
            return self.promote()
        except CandidateFailedError as error:
            return self.restore(error.failure)

    def wait_for_runtime(self) -> None:
        """Return when the runtime's daemon answers, however long that takes."""
        runtime_wait.wait(
            self.system,
            lambda text: self.journal.log("waiting", text, phase=self.system.runtime.daemon),
        )

    def goes_forward(self) -> bool:
        """Return whether the gate had passed and no restore began since."""
        return bool(self.journal.last("promote")) and not self.journal.last("restore")

    def others_went_forward(self) -> bool:
        """Return whether the cluster's head promoted while this rank was interrupted; record it then."""
        created = self.journal.last("created")
        if self.journal.last("restore") or not created or not self.coordinator.was_committed():
            return False
        passed = Passed(0.0, 0.0, 0.0, "", 0.0, serving_at=self.system.now())
        self.journal.step(
            "promote", "the head promoted the rollout", record=self.new_record(created["container"], passed)
        )
        return True

    def image_of(self, container_id: str) -> str:
        """Return the id of what the container runs from."""
        container = self.system.runtime.inspect(container_id)
        return container.artifact if container else ""

    def create(self, generation: Generation) -> str:
        """Create the candidate's container beside the running one."""
        runtime = self.system.runtime
        name = runtime.name(generation.service, Role.CANDIDATE)
        self.journal.step("create", f"{runtime.noun} {name}")
        changeover.tidy(self.system, checks.touched(self.request))
        workload = runtime.workload(generation)
        container_id = runtime.create(generation.service, Role.CANDIDATE, workload)
        container = self.system.runtime.inspect(container_id)
        if container is None or (container.service, container.generation) != (
            generation.service,
            generation.id,
        ):
            self.system.runtime.remove(container_id)
            raise RuntimeRefusedError(
                f"the {runtime.noun} does not have the labels of {generation.service} {generation.id}"
            )
        runtime.adopt(container_id)
        self.journal.step("created", container=container.id)
        return container.id

    def cannot_create(self, error: Exception) -> str:
        """Return why there is no candidate."""
        runtime = self.system.runtime
        return f"{runtime.daemon} did not create the {runtime.noun}: {error}"

    def new_record(self, container_id: str, passed: Passed) -> dict[str, Any]:
        """Return the content of the new ``current.json``."""
        generation = self.request.candidate
        replaced = [entry["current"] for entry in self.journal.before.values() if entry["current"]]
        return {
            **(generation.to_json() if generation else {}),
            "promoted_at": round(self.system.now(), 3),
            "operator": self.request.operator,
            "swap": self.request.id,
            "gate_result": passed.to_json(),
            "container": {"id": container_id, "generation": generation.id if generation else ""},
            "replaced": [{k: v for k, v in one.items() if k != "replaced"} for one in replaced],
        }

    def record(self) -> dict[str, Any]:
        """Return the record that was written when the gate had passed."""
        step = self.journal.last("promote") or {}
        return dict(step["record"])

    def promote(self) -> dict[str, Any]:
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
        gate = record["gate_result"]
        return self.finish(PROMOTED, gate_result=gate, downtime_s=self.downtime(gate["serving_at"]))

    def restore(self, failure: Failure | None) -> dict[str, Any]:
        """Restore, start and gate the previous generation; ``failure`` None: this program was interrupted."""
        generation = self.request.candidate
        if generation is None:
            raise ValueError("a rollout without a candidate has nothing to restore")
        known = self.journal.last("restore")
        if known:
            kept = {key: known.get(key, "") for key in ("cause", "remedy", "line")}
            failure = Failure(**kept, exit_code=known.get("exit_code"))
        else:
            failure = self.coordinator.explain(failure or Failure(REBOOTED))
            kept = {"cause": failure.cause, "remedy": failure.remedy, "line": failure.line}
            self.journal.step("restore", failure.cause, **kept, exit_code=failure.exit_code)
        self.coordinator.abort(failure)
        self.wait_for_runtime()
        candidate = changeover.find_candidate(self.system, self.journal, generation)
        folder = self.journal.directory / "evidence"
        if candidate:
            evidence.save(self.system, folder, candidate.id, failure)
        changeover.revert(self.system, self.journal, generation)
        back = restart_previous(self.system, self.journal)
        details = {
            "cause": failure.cause,
            "remedy": failure.remedy,
            "line": failure.line,
            "exit_code": failure.exit_code,
            "evidence": str(folder) if folder.exists() else "",
            "serving": list(back.serving),
            "restore_problems": list(back.diagnostics),
            "downtime_s": self.downtime(back.serving_at),
        }
        return self.finish(RESTORED if back.serving and not back.diagnostics else FAILED, **details)

    def remove(self) -> dict[str, Any]:
        """Stop and remove services for good; may be repeated."""
        if not self.journal.last("remove"):
            self.journal.keep_before(snapshot.look(self.system, self.request))
            self.journal.step("remove", f"{', '.join(self.request.replaces)} are removed")
        for service, entry in self.journal.before.items():
            changeover.stop(self.system, service, entry)
            if entry["container"]:
                self.system.runtime.remove(entry["container"])
            changeover.forget(self.system, service)
        return self.finish(REMOVED)

    def downtime(self, until: float) -> float | None:
        """Return the seconds without a serving engine; 0: none served before, None: none serves now."""
        if not any(entry["running"] for entry in self.journal.before.values()):
            return 0.0
        stop = self.journal.last("stop")
        return round(until - stop["at"], 2) if stop and until else None

    def finish(self, outcome: str, **details: Any) -> dict[str, Any]:
        """Write the result and return it."""
        generation = self.request.candidate
        begin = self.journal.first("begin")
        others = self.coordinator.settle(outcome == PROMOTED, str(details.get("cause", "")))
        if others:
            details = {**details, "cause": "; ".join(others), "remedy": "run again"}
            outcome = FAILED
        result = {
            "schema": 1,
            "id": self.request.id,
            "outcome": outcome,
            "service": generation.service if generation else ", ".join(self.request.replaces),
            "generation": generation.id if generation else "",
            "replaced": list(self.request.replaces),
            "began_at": begin["at"] if begin else None,
            "ended_at": round(self.system.now(), 3),
            **details,
        }
        result["text"] = sentence(result)
        self.journal.finish(result)
        store.prune_rollouts(self.system.paths.state)
        return result
