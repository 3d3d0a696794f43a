"""The plan of a verification: what is known to be wrong, what would be read, nothing when all is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, WeightFile, Weights
from sparkfleet.plan import host_changes
from sparkfleet.plan.model import EVERY_STEP, ChangeKind, ChangeSet, HostPlan, HostState, Plan, Step
from sparkfleet.plan.operations import EnsureDirectory, VerifyWeights
from sparkfleet.plan.report import plan_text
from sparkfleet.plan.verification import verify_plan
from sparkfleet.probe.observation import Observed
from tests.unit.plan.fake_spark import fresh
from tests.unit.plan.made_fleets import DIGESTS, REPOS, REVISIONS, Pick, service

FILES = (*(WeightFile(f"w{n}", 10, blob=f"b{n}") for n in range(4)), WeightFile("unnamed", 1))
WEIGHTS = Weights(REPOS[0], REVISIONS[0], FILES, config=(("architectures", ["A"]),))
HOST = Host("spark-01", (replace(service(Pick(REPOS[0], REVISIONS[0], DIGESTS[0]), 0), weights=WEIGHTS),))
KEY = f"{REPOS[0]}@{REVISIONS[0]}"
WHOLE = {file.path: (file.size, file.blob) for file in FILES}


def seen(files: dict[str, tuple[int, str]], hashed: dict[str, tuple[str, bool]]) -> Observed:
    return replace(fresh(HOST), weights={KEY: files}, hashed={KEY: hashed})


def right(*names: str) -> dict[str, tuple[str, bool]]:
    return {file.path: (file.blob, True) for file in FILES if file.path in names}


NOTHING = HostPlan("spark-01")


def text(observed: Observed, *, again: bool = False) -> str:
    return plan_text(Plan((verify_plan(HOST, observed, NOTHING, again=again),)))


def test_nothing_is_to_be_read_when_all_was_hashed_in_its_present_state() -> None:
    observed = seen(WHOLE, right("w0", "w1", "w2", "w3"))
    assert text(observed) == "spark-01   no changes\n0 to change, 1 unchanged\n"
    assert "4 of 5 files   40 B to read" in text(observed, again=True)


@pytest.mark.provokes("weights-corrupt")
def test_partial_changed_and_foreign_files_are_distinguished() -> None:
    files = {"w0": (3, "b0"), "w1": (10, "b1"), "w2": (10, "other"), "w3": (12, "b3"), "unnamed": (1, "")}
    assert text(seen(files, {"w1": ("b1", False)})) == BROKEN


BROKEN = """\
spark-01   org/a                                                   verify
  ! blocked     spark-01: org/a: 4 of 5 files are not as locked: w0, w1, w2, w3 [weights-corrupt]
              expected: the files of commit 1111111
              do: pyinfra INVENTORY deploys/stage.py --limit spark-01 (fetches these alone)
  = partial     w0 3 of 10 bytes
  = changed     w1 hash differs
  = unexpected  w2 not part of this commit
  = changed     w3 12 instead of 10 bytes
0 to change, 0 unchanged, 1 blocked
"""


def test_what_is_wrong_does_not_keep_the_rest_from_being_read() -> None:
    plan = verify_plan(HOST, seen({**WHOLE, "w0": (3, "b0")}, right("w1")), NOTHING)
    assert plan.state is HostState.CHANGE
    (verify,) = plan.operations(Step.VERIFY)
    assert isinstance(verify, VerifyWeights)
    assert [(c.name, c.new, c.note) for c in verify.fields()] == [("hash", "2 of 5 files", "20 B to read")]
    assert (verify.weights, verify.wrong) == (WEIGHTS, ("w0",))


def test_a_file_that_was_hashed_for_another_content_is_read() -> None:
    hashed = {**right("w1", "w2", "w3"), "w0": ("another", True)}
    assert "1 of 5 files" in text(seen(WHOLE, hashed))


def test_a_spark_that_cannot_be_asked_is_unknown() -> None:
    whole = HostPlan("spark-01", unknown=Diagnostic("spark-01", "no route", code="test"))
    assert verify_plan(HOST, seen(WHOLE, {}), whole) is whole


def test_of_a_deploys_plan_our_programs_alone_are_put_in_place_and_only_if_they_are_used() -> None:
    folder = EnsureDirectory("/home/u/vllm", "~/vllm", "0755", "u", "u")
    whole = HostPlan("spark-01", (ChangeSet("host", (*host_changes.managed_files(), folder)),))
    host, models = verify_plan(HOST, seen(WHOLE, {}), whole).change_sets
    assert [change.name for change in host.fields()] == ["programs"]
    assert models.kind is ChangeKind.VERIFY
    assert verify_plan(HOST, seen(WHOLE, right("w0", "w1", "w2", "w3")), whole).change_sets == ()


def test_a_deploy_never_hashes_unless_it_is_asked_to() -> None:
    assert Step.VERIFY not in EVERY_STEP
