"""The plan of a rollback: which generation, what changes, and what it needs that is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation, PromotedGeneration, convert
from sparkfleet.plan import rollback
from sparkfleet.plan.model import HostPlan, HostState
from sparkfleet.plan.operations import ReplaceService, WriteFile
from sparkfleet.plan.rollback import KeptService, Selection
from sparkfleet.probe.observation import Observed, ObservedPath
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import CONVERGED, HOST, NANO, rollout, rows, with_service
from tests.unit.plan.test_stops import stopped

CURRENT = CONVERGED.generations["nano"]


def kept_generation(number: int, **changes: Any) -> PromotedGeneration:
    host = with_service(**changes)
    made = fake_spark.generation_of(host, host.services[0])
    return convert(PromotedGeneration, made, promoted_at=float(number), rollout=f"nano-{number:08x}")


SHORT = kept_generation(1, flags=(*NANO.flags[1:], ("max-model-len", 4096)))
OTHER = kept_generation(2, port=8001)
STORED = KeptService("nano", CURRENT, (SHORT, OTHER, convert(PromotedGeneration, CURRENT, promoted_at=3.0)))


def plan(
    observed: Observed = CONVERGED, stored: KeptService = STORED, *, service: str = "", to: str = ""
) -> HostPlan:
    stored_services = {stored.name: stored}
    targets = rollback.selected(HOST.name, stored_services, Selection(service, to))
    return rollback.rollback_plan(HOST, stored_services, targets, observed, named=bool(service))


def diagnostic(found: HostPlan) -> Diagnostic:
    (one,) = found.change_sets
    assert one.blocked is not None
    return one.blocked


def test_the_previous_generation_is_the_one_before_that_was_promoted() -> None:
    (one,) = plan().change_sets
    operation = rollout(one)
    assert isinstance(operation, ReplaceService)
    assert operation.generation is not None
    assert operation.generation.id == OTHER.id
    assert (operation.replaces, operation.expect) == (("nano",), (("nano", CONVERGED.owned()["nano"].id),))


def test_what_the_current_generation_replaced_comes_before_older_ones() -> None:
    replaced = replace(STORED, current=replace(CURRENT, replaced=(SHORT,)))
    (one,) = plan(stored=replaced).change_sets
    assert rollout(one).generation == convert(Generation, SHORT)


@pytest.mark.parametrize("to", [SHORT.id, SHORT.id[:5], SHORT.rollout])
def test_a_generation_is_named_by_its_id_or_by_its_rollout(to: str) -> None:
    (one,) = plan(service="nano", to=to).change_sets
    assert ("flag", "--max-model-len", "262144", "4096") in rows(one)
    assert ("generation", "", CURRENT.id, SHORT.id) in rows(one)


def test_the_fields_are_those_that_differ_from_the_current_generation() -> None:
    (one,) = plan(service="nano", to=OTHER.id).change_sets
    assert [row[0] for row in rows(one)] == ["generation", "port"]


def test_the_generation_that_serves_already_is_no_change() -> None:
    assert plan(service="nano", to=CURRENT.id).state is HostState.UNCHANGED


@pytest.mark.provokes("rollback-unavailable")
@pytest.mark.parametrize(
    ("stored", "service", "to", "message"),
    [
        (STORED, "nano", "ffffff", "generation ffffff is not kept here"),
        (KeptService("nano", CURRENT), "nano", "", "it is the first generation here: there is none"),
        (KeptService("nano"), "other", "", "no generation of it is kept here"),
    ],
)
def test_a_generation_that_is_not_kept_is_refused(
    stored: KeptService, service: str, to: str, message: str
) -> None:
    found = diagnostic(plan(stored=stored, service=service, to=to))
    assert found.message.startswith(message)
    assert found.code == "rollback-unavailable"


@pytest.mark.provokes("rollback-unavailable")
def test_a_generation_without_its_service_is_refused_with_the_command() -> None:
    refused = diagnostic(plan(to=SHORT.id))
    assert refused.code == "rollback-unavailable"
    assert "spark-01/SERVICE --to" in refused.hint


def test_without_a_name_a_service_without_an_earlier_generation_stays() -> None:
    assert plan(stored=KeptService("nano", CURRENT)).state is HostState.UNCHANGED


def test_an_image_that_is_gone_blocks_before_anything_stops() -> None:
    found = diagnostic(plan(replace(CONVERGED, images={})))
    assert (found.code, "is not on the Spark any more: nvcr.io/nvidia/vllm" in found.message) == (
        "image-missing",
        True,
    )


@pytest.mark.provokes("weights-missing")
@pytest.mark.parametrize("files", [{}, {"config.json": (700, "c1"), "model.safetensors": (-1, "f" * 64)}])
def test_a_model_that_is_gone_blocks_before_anything_stops(files: dict[str, tuple[int, str]]) -> None:
    key = f"{NANO.weights.repo}@{NANO.weights.revision}"
    assert diagnostic(plan(replace(CONVERGED, weights={key: files}))).code == "weights-missing"


def test_a_model_in_a_directory_that_is_no_longer_declared_is_left_to_the_check_on_the_spark() -> None:
    host = replace(HOST, paths=replace(HOST.paths, models="/data/models"))
    targets = rollback.selected(HOST.name, {"nano": STORED}, Selection())
    found = rollback.rollback_plan(host, {"nano": STORED}, targets, replace(CONVERGED, weights={}))
    assert found.state is HostState.CHANGE


def test_older_programs_are_replaced_first_and_nothing_else_of_the_host_is_touched() -> None:
    paths = {path: ObservedPath("absent") for path in CONVERGED.paths}
    changed = plan(replace(CONVERGED, paths=paths))
    programs, service = changed.change_sets
    assert {type(one) for one in programs.operations} == {WriteFile}
    assert service.subject == "nano"


def test_a_service_that_was_stopped_on_purpose_stays_stopped_unless_it_is_named() -> None:
    observed = stopped(CONVERGED)
    found = plan(observed)
    assert found.change_sets == ()
    assert [one.service for one in found.stops] == ["nano"]
    named = plan(observed, service="nano")
    assert [one.subject for one in named.change_sets if not one.blocked] == ["nano"]
    assert named.stops == ()


def test_a_rollout_in_progress_makes_the_host_unknown() -> None:
    found = plan(replace(CONVERGED, rollout="nano-1"))
    assert (found.state, found.rollout_in_progress) == (HostState.UNKNOWN, "nano-1")


def test_a_service_that_replaced_one_of_another_name_gives_way_to_it() -> None:
    old = replace(SHORT, service="old")
    qwen = KeptService("nano", replace(CURRENT, replaced=(old,)), ())
    gone = KeptService("old", None, (old,))
    targets = rollback.selected(HOST.name, {"nano": qwen, "old": gone}, Selection("old"))
    (one,) = rollback.rollback_plan(HOST, {"nano": qwen, "old": gone}, targets, CONVERGED).change_sets
    assert (rollout(one).service, rollout(one).replaces) == ("old", ("nano",))


def test_the_probe_reads_what_the_generations_need_instead_of_what_is_declared() -> None:
    other = replace(SHORT, image="img:1@sha256:" + "9" * 64, model="org/old", revision="b" * 40)
    request = rollback.request(HOST, [other])
    assert (request.images, request.weights) == (("img@sha256:" + "9" * 64,), (("org/old", "b" * 40),))
    assert request.resources is None


def test_a_record_is_not_taken_for_a_missing_one_when_it_cannot_be_read() -> None:
    wrong = Diagnostic("services/nano/current.json", "is not JSON", code="contract-shape")
    unreadable = replace(CONVERGED, unreadable={"services/nano/current.json": wrong})
    assert diagnostic(plan(unreadable, replace(STORED, current=None), service="nano", to=SHORT.id)) == wrong
