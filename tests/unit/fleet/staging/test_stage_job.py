"""A staging job: what it is asked for, whose answer it was, and where the token goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.config import secret
from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.rollout import CommandRefused
from sparkfleet.contract.stage import StageResult
from sparkfleet.desired_state import Host, ImageRef, Paths, Service, WeightFile, Weights
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.staging import stage_job
from sparkfleet.fleet.staging.stage_job import Download
from sparkfleet.plan.artifacts import ArtifactSource as Source
from sparkfleet.plan.model import EVERY_STEP, Step
from sparkfleet.plan.staging import weights_key
from tests.unit.fleet.sparks import Sparks, patched, refused

MODEL = Weights("org/a", "1" * 40, (WeightFile("w.safetensors", 9, blob="w"),))
DRAFTER = Weights("org/d", "2" * 40)
IMAGE = ImageRef("nvcr.io/nvidia/vllm", "26.04", "sha256:" + "c" * 64)
SERVICE = Service("nano", "", 8000, IMAGE, MODEL, "nano", drafters=(DRAFTER,))
HOST = Host("spark-01", (SERVICE,), paths=Paths(models="~/vllm"), hf_endpoint="https://hub.example")
TOKEN = "hf_canary"


@pytest.fixture
def sparks(monkeypatch: pytest.MonkeyPatch) -> Sparks:
    monkeypatch.setattr(secret, "read", lambda _: TOKEN)
    made = patched(monkeypatch, Sparks({"spark-01": HOST}))
    made.run.steps = EVERY_STEP
    return made


def download(sparks: Sparks, *weights: Weights) -> dict[str, Any]:
    stage_job.download(sparks.act("spark-01"), Download(SERVICE, weights))
    return dict(sparks.requests("stage")[-1])


def test_a_model_is_asked_for_with_its_files_by_the_pinned_image_as_the_login_user(sparks: Sparks) -> None:
    request = download(sparks, MODEL)
    assert request["images"] == [IMAGE.pull_ref]
    assert request["weights"] == request["access_checks"] == [
        {
            "image": IMAGE.pull_ref, "repo": "org/a", "revision": "1" * 40,
            "models_dir": "/home/nvidia/vllm", "endpoint": "https://hub.example",
            "files": [{"path": "w.safetensors", "size": 9, "blob": "w", "number": 0}], "hub_client": "hf",
        }
    ]  # fmt: skip
    assert request["user"] == {"name": "nvidia", "uid": 1000, "gid": 1000, "home": "/home/nvidia"}


def test_the_token_goes_by_itself_and_never_into_the_args_of_a_program(sparks: Sparks) -> None:
    request = download(sparks, MODEL)
    assert request.pop("hub_token") == TOKEN
    assert TOKEN not in repr(request)
    assert TOKEN not in repr(sparks.calls)


def test_before_an_image_is_pulled_the_hub_is_asked_for_what_this_spark_downloads_later(
    sparks: Sparks,
) -> None:
    sparks.run.sources = {
        ("spark-01", weights_key(MODEL)): Source(),
        ("spark-01", weights_key(DRAFTER)): Source("spark-02"),
        ("spark-02", weights_key(DRAFTER)): Source(),
    }
    request = download(sparks)
    assert [one["repo"] for one in request["access_checks"]] == ["org/a"]
    assert request["weights"] == []


@pytest.mark.parametrize("source", [None, Source("spark-02"), Source(mirror=True)])
def test_what_does_not_come_from_the_hub_is_not_asked_for_and_needs_no_token(
    sparks: Sparks, source: Source | None
) -> None:
    sparks.run.sources = {("spark-01", weights_key(MODEL)): source}
    request = download(sparks)
    assert request["access_checks"] == []
    assert request["hub_token"] == ""


def test_a_run_that_brings_images_alone_asks_no_hub(sparks: Sparks) -> None:
    sparks.run.steps = (Step.IMAGE,)
    sparks.run.sources = {("spark-01", weights_key(MODEL)): Source()}
    assert download(sparks)["access_checks"] == []


def test_without_a_token_none_is_sent(sparks: Sparks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "read", lambda _: "")
    assert download(sparks, MODEL)["hub_token"] == ""


def test_each_job_has_an_id_of_its_own(sparks: Sparks) -> None:
    assert download(sparks, MODEL)["id"] != download(sparks, MODEL)["id"]


def test_a_job_that_does_not_start_is_reported_with_the_sparks_own_message(sparks: Sparks) -> None:
    sparks.replies["stage"] = refused("Traceback\nOSError: no such thing\n")
    with pytest.raises(SparkfleetError, match="fetching could not start: OSError: no such thing") as failed:
        download(sparks, MODEL)
    assert [one.code for one in failed.value.diagnostics] == ["staging-failed"]


def test_a_job_that_a_spark_refuses_keeps_the_sparks_code_and_remedy(sparks: Sparks) -> None:
    newer = Diagnostic("/var/staged.json", "version 99", hint="update sparkfleet", code="contract-newer")
    sparks.replies["stage"] = remote.CommandOutput(
        False, codec.dumps(CommandRefused(newer)), "sparkfleet: version 99"
    )
    with pytest.raises(SparkfleetError) as failed:
        download(sparks, MODEL)
    message = "fetching could not start: version 99"
    assert failed.value.diagnostics == (
        Diagnostic("spark-01: /var/staged.json", message, hint="update sparkfleet", code="contract-newer"),
    )


def test_a_lost_connection_is_none_of_the_jobs_ends(sparks: Sparks) -> None:
    sparks.replies["stage"] = remote.ConnectionLostError("gone")
    with pytest.raises(remote.ConnectionLostError):
        download(sparks, MODEL)


def test_a_failed_job_reports_its_cause_its_output_and_that_running_engines_were_not_touched(
    sparks: Sparks,
) -> None:
    sparks.results = [{"outcome": "failed", "cause": "no room", "line": "ENOSPC", "remedy": "df -h"}]
    with pytest.raises(executor.FailedError) as raised:
        download(sparks, MODEL)
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.location == "spark-01"
    assert "no room" in diagnostic.message
    assert "log: ENOSPC" in diagnostic.message
    assert "running engines were not touched" in diagnostic.message
    assert diagnostic.hint == "df -h"
    assert diagnostic.code == "staging-failed"


def test_what_the_hub_would_refuse_every_spark_is_distinguished(sparks: Sparks) -> None:
    sparks.results = [{"outcome": "failed", "cause": "gated", "refused": True}]
    with pytest.raises(executor.FailedError, match="gated") as raised:
        download(sparks, MODEL)
    assert raised.value.diagnostics[0].code == "hub-refused"


def test_an_end_without_output_is_still_reported() -> None:
    (diagnostic,) = stage_job.failure("spark-01", StageResult("lost")).diagnostics
    assert "fetching failed" in diagnostic.message
    assert diagnostic.hint == "run again"


def test_two_services_with_one_model_ask_for_the_same(sparks: Sparks) -> None:
    other = replace(SERVICE, name="other", drafters=())
    sparks.declared["spark-01"] = replace(HOST, services=(SERVICE, other))
    assert download(sparks, MODEL)["weights"] == download(sparks, MODEL)["weights"]
