"""The plan as data."""

from __future__ import annotations

from sparkfleet.plan.artifacts import Artifact, ArtifactType
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import Action, ChangeKind, ChangeSet, FieldChange, HostPlan, Note, Step
from sparkfleet.plan.operations import EnsureDirectory, PullImage, ReplaceService, UpdateService
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import HOST, NANO


def test_a_run_of_some_steps_shows_only_what_it_does() -> None:
    pull = PullImage(Artifact(ArtifactType.IMAGE, "vllm@1", complete=False, missing=5), "vllm")
    flag = FieldChange(Action.CHANGE, "flag", "--max-model-len", "1", "2")
    rollout = ReplaceService("nano", changes=(flag,), replaces=("old",), downtime=90)
    update = UpdateService("tiny", fake_spark.generation_of(HOST, NANO), changes=(flag,))
    memory = Note(Step.SERVICE, "memory", text="fits")
    folder = EnsureDirectory("/home/u/vllm", "~/vllm", "0755", "u", "u")
    nano, tiny = ChangeSet("nano", (pull, rollout), notes=(memory,)), ChangeSet("tiny", (update,))
    plan = HostPlan("spark-01", (ChangeSet("host", (folder,)), nano, tiny))
    assert plan.within(tuple(Step)) == plan
    assert plan.within((Step.HOST,)).change_sets == (ChangeSet("host", (folder,)),)
    (staged,) = plan.within((Step.IMAGE, Step.WEIGHTS)).change_sets
    assert staged == ChangeSet("nano", (pull,))
    assert (staged.kind, staged.downtime, staged.size) == (ChangeKind.STAGE, None, 5)
    assert (nano.kind, nano.downtime) == (ChangeKind.RECREATE, 90)
    kinds = [one.kind for one in plan.within((Step.SERVICE,)).change_sets]
    assert kinds == [ChangeKind.RECREATE, ChangeKind.UPDATE]


def test_a_fingerprint_is_of_what_changes_and_not_of_free_space() -> None:
    def plan(free: int, key: str = "vllm@1") -> HostPlan:
        artifact = Artifact(ArtifactType.IMAGE, key, complete=False, missing=5, free=free)
        return HostPlan("spark-01", (ChangeSet("nano", (PullImage(artifact, "vllm"),)),))

    assert plan(100).fingerprint == plan(99).fingerprint
    assert plan(100).fingerprint != plan(100, "vllm@2").fingerprint
    assert host_plan(HOST, fake_spark.fresh(HOST)).fingerprint != HostPlan("spark-01").fingerprint
