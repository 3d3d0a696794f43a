"""The members of a cluster go back to an earlier generation at once, or none of them does."""

from __future__ import annotations

from dataclasses import replace

from sparkfleet.contract.generation import PromotedGeneration, convert
from sparkfleet.desired_state import Host
from sparkfleet.plan import rollback
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.model import HostPlan, HostState
from sparkfleet.plan.operations import ReplaceService
from sparkfleet.plan.rollback import KeptService, Selection
from sparkfleet.probe.observation import Observed
from tests.unit.plan.cluster.cluster_fixtures import NAMES, SERVICE, converged, generation, host

SHORT = (*(one for one in SERVICE.flags if one[0] != "max-model-len"), ("max-model-len", 4096))
ROLLOUT = "wide-00000001"


def older(rank: int, executor: str = "mp") -> PromotedGeneration:
    made = generation(host(rank, executor, flags=SHORT))
    return convert(PromotedGeneration, made, promoted_at=1.0, rollout=ROLLOUT)


def plan(
    rank: int, *, to: str = "", target: PromotedGeneration | None = None, observed: Observed | None = None
) -> HostPlan:
    """Return the plan of one member, which keeps the older generation."""
    declared = host(rank)
    seen = observed or converged(declared)
    stored = {"wide": KeptService("wide", seen.generations["wide"], (target or older(rank),))}
    targets = rollback.selected(declared.name, stored, Selection("wide", to))
    return rollback.rollback_plan(declared, stored, targets, seen)


def joined(*plans: HostPlan) -> list[HostPlan]:
    members = {name: member for name in NAMES if (member := host(NAMES.index(name)).member)}
    return list(join_members(plans, members).values())


def test_all_members_roll_back_to_the_generation_of_one_rollout() -> None:
    plans = joined(plan(0, to=ROLLOUT), plan(1, to=ROLLOUT))
    assert [one.state for one in plans] == [HostState.CHANGE, HostState.CHANGE]
    for rank, one in enumerate(plans):
        (change,) = one.change_sets
        (operation,) = change.operations
        assert isinstance(operation, ReplaceService)
        assert operation.generation is not None
        assert operation.generation.id == older(rank).id
        assert change.cluster == "pair"


def test_a_member_that_has_lost_the_image_keeps_all_from_rolling_back() -> None:
    plans = joined(plan(0), plan(1, observed=replace(converged(host(1)), images={})))
    assert [one.state for one in plans] == [HostState.BLOCKED, HostState.BLOCKED]
    assert all(
        one.change_sets[0].blocked and one.change_sets[0].blocked.code == "image-missing" for one in plans
    )


def test_a_member_that_is_not_in_the_run_keeps_the_others_from_rolling_back() -> None:
    (one,) = joined(plan(0))
    assert one.state is HostState.BLOCKED


def test_a_generation_of_another_cluster_is_refused() -> None:
    made = older(0)
    assert made.rank is not None
    other = replace(made, rank=replace(made.rank, cluster="other"))
    (change,) = plan(0, target=other).change_sets
    assert change.blocked is not None
    assert change.blocked.code == "rollback-unavailable"
    alone = replace(made, rank=None)
    (change,) = plan(0, target=alone).change_sets
    assert change.blocked is not None
    assert "was served by this Spark alone" in change.blocked.message


def test_a_rollback_of_one_member_is_about_all_of_them_and_no_other_host() -> None:
    first, second = host(0), host(1)
    assert all(rollback.is_meant(one, only) for one in (first, second) for only in ("", first.name))
    assert not rollback.is_meant(Host("spark-09"), first.name)
