"""What a Spark says of a rollout or a repair becomes the operator's diagnostic, with the Spark's own code."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.rollout import CommandRefused, RolloutResult, RolloutStarted
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.connection.remote import CommandOutput
from sparkfleet.fleet.operations import service
from sparkfleet.fleet.run import executor
from tests.unit.plan import fake_spark, nano

REJECTED = '{"ok": false, "error": "unrecognized arguments: --max-modle-len", "version": "0.19.0"}'
HOST: Any = SimpleNamespace(host=SimpleNamespace(name="spark-01"))
PORT = Diagnostic("port 8000", "held by x", hint="stop it", code="port-in-use")


def test_a_refusal_of_a_rollout_keeps_place_and_code_and_says_that_nothing_was_touched() -> None:
    result = RolloutResult("refused", service="nano", diagnostic=PORT)
    found = service.rollout_diagnostic("spark-01", "nano", result)
    assert found == Diagnostic(
        "spark-01: port 8000", "held by x; nothing was touched", hint="stop it", code="port-in-use"
    )


@pytest.mark.provokes("flags-rejected-by-image")
def test_flags_that_the_images_own_parser_rejects_end_the_rollout_before_anything_is_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(_: Any, argv: tuple[str, ...], **__: Any) -> CommandOutput:
        ran.append(argv)
        return CommandOutput(True, f"INFO loading\n{REJECTED}", "")

    monkeypatch.setattr(remote, "run", run)
    made = fake_spark.generation_of(nano.HOST, nano.NANO)
    act: Any = SimpleNamespace(host=HOST.host, progress=lambda *_: None, log=lambda *_: None)
    with pytest.raises(executor.FailedError) as failed:
        service._check_args(act, "nano", made)
    (found,) = failed.value.diagnostics
    assert found.location == "spark-01: nano"
    assert "0.19.0 in the image refuses the flags: unrecognized arguments: --max-modle-len" in found.message
    assert "nothing was touched" in found.message
    assert "serv" not in str(found)  # whether the service serves is not known here
    assert [argv[len(remote.PROGRAM)] for argv in ran] == ["run-program"]


def test_log_and_evidence_of_a_failed_start_are_shown_with_it() -> None:
    ended = Diagnostic("nano", "the engine ended", hint="buy memory", code="out-of-memory")
    result = RolloutResult("restored", service="nano", diagnostic=ended, line="CUDA OOM", evidence="/var/x")
    found = service.rollout_diagnostic("spark-01", "nano", result)
    assert (found.location, found.code, found.hint) == ("spark-01: nano", "out-of-memory", "buy memory")
    assert found.message.splitlines()[1:] == [
        "    engine log: CUDA OOM",
        "    evidence on the Spark: /var/x",
    ]


@pytest.mark.provokes("job-lost")
def test_a_result_that_is_lost_has_a_code_and_the_next_command() -> None:
    result = RolloutResult.from_json({"outcome": "lost", "cause": "the job ended without a result"})
    found = service.rollout_diagnostic("spark-01", "nano", result)
    assert found.code == "job-lost"
    assert found.hint == "run again to follow the rollout to its end"


def test_a_result_of_an_earlier_version_has_the_code_of_its_outcome() -> None:
    result = RolloutResult.from_json({"outcome": "stale", "service": "nano", "cause": "it is gone"})
    assert result.diagnostic == Diagnostic("nano", "it is gone", code="host-changed-since-plan")


def test_a_rollout_that_could_not_start_has_the_cause_and_code_of_the_spark() -> None:
    failed = Diagnostic("sparkfleet-rollout-x.service", "no bus", hint="run again", code="unit-failed")
    output = CommandOutput(False, json.dumps(RolloutStarted(diagnostic=failed).to_json()), "")
    found = service.not_started(HOST, "spark-01: nano", output)
    assert found == Diagnostic(
        "spark-01: nano", "the rollout could not start: no bus", hint="run again", code="unit-failed"
    )


def test_a_unit_that_was_not_updated_has_the_cause_and_code_of_the_spark() -> None:
    output = CommandOutput(
        False, json.dumps(CommandRefused(PORT).to_json()), "sparkfleet: port 8000: held by x"
    )
    found = service.not_updated("spark-01: nano", output)
    assert (found.message, found.code) == ("the unit could not be updated: held by x", "port-in-use")


def test_a_unit_that_was_not_updated_for_an_unknown_reason_shows_the_last_line() -> None:
    found = service.not_updated("spark-01: nano", CommandOutput(False, "", "one\ntwo\n"))
    assert (found.message, found.code) == ("the unit could not be updated: two", "operation-failed")
    assert found.hint == "on spark-01: systemctl status sparkfleet-nano"
