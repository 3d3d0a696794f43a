"""The plan as data."""

from __future__ import annotations

from sparkfleet.plan.model import Change, Entry, HostPlan, Sign, Step, Verb


def test_a_run_of_some_steps_shows_only_what_it_does() -> None:
    pull = Change(Step.IMAGE, Sign.ADD, "pull", new="vllm")
    flag = Change(Step.SERVICE, Sign.CHANGE, "flag", "--max-model-len", "1", "2")
    memory = Change(Step.SERVICE, Sign.NOTE, "memory", new="fits")
    folder = Change(Step.HOST, Sign.ADD, "directory", "~/vllm")
    plan = HostPlan(
        "spark-01",
        (
            Entry("host", Verb.PREPARE, (folder,)),
            Entry("nano", Verb.RECREATE, (flag, pull, memory), replaces=("old",), downtime_s=90),
            Entry("tiny", Verb.UPDATE, (flag, memory)),
        ),
    )
    assert plan.within(tuple(Step)) == plan
    assert plan.within((Step.HOST,)).entries == (Entry("host", Verb.PREPARE, (folder,)),)
    assert plan.within((Step.IMAGE, Step.WEIGHTS)).entries == (Entry("nano", Verb.STAGE, (pull,)),)
    assert [entry.verb for entry in plan.within((Step.SERVICE,)).entries] == [Verb.RECREATE, Verb.UPDATE]
