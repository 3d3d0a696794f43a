"""A full disk is reported with what a prune could free, without what this Spark itself needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.contract.generation import CurrentGeneration, PromotedGeneration, convert
from sparkfleet.desired_state import Host, WeightFile, Weights
from sparkfleet.plan.reclaimable import reclaimable
from sparkfleet.plan.staging import disk_diagnostic
from sparkfleet.probe.observation import Disk, Observed
from tests.unit.plan.fake_spark import fresh
from tests.unit.plan.made_fleets import DIGESTS, REPOS, REVISIONS, Pick, image_ref, service, snapshot

DECLARED, LIVE, BEFORE, OLD = (
    Pick(repo, revision, digest)
    for repo, revision, digest in zip((*REPOS, REPOS[0]), (*REVISIONS, "9" * 40), DIGESTS[:4], strict=True)
)
WEIGHTS = Weights(DECLARED.repo, DECLARED.revision, (WeightFile("w", 50 << 30, blob="b"),))
HOST = Host("spark-01", (replace(service(DECLARED, 0), weights=WEIGHTS),))


def record(pick: Pick, *replaced: Pick) -> CurrentGeneration:
    return CurrentGeneration(
        service="s0",
        image=image_ref(pick.digest),
        model=pick.repo,
        revision=pick.revision,
        served_name="s0",
        port=8000,
        definition=(),
        runtime="docker",
        unit="",
        engine="vllm",
        argv=(pick.repo,),
        replaced=tuple(convert(PromotedGeneration, record(one)) for one in replaced),
    )


def spark() -> Observed:
    """Return a Spark with four models and images that we brought: declared, live, replaced, and needless."""
    picks = (DECLARED, LIVE, BEFORE, OLD)
    fetched = {
        "images": {image_ref(pick.digest): 10 << 30 for pick in picks},
        "revisions": {snapshot(pick.repo, pick.revision): 7 << 30 for pick in picks},
    }
    generations = {"s0": record(LIVE, BEFORE)}
    return replace(fresh(HOST), fetched=fetched, generations=generations)


def test_only_what_nothing_here_names_can_be_freed() -> None:
    assert reclaimable(HOST, spark()) == {"models": 7 << 30, "images": 10 << 30}
    assert reclaimable(HOST, fresh(HOST)) == {"models": 0, "images": 0}


@pytest.mark.provokes("disk-full")
def test_a_full_disk_names_the_bytes_that_a_prune_could_free() -> None:
    small = {name: Disk(f"/{name}", 90 << 30, 20 << 30) for name in fresh(HOST).disks}
    diagnostic = disk_diagnostic(HOST, HOST.services[0], replace(spark(), disks=small))
    assert diagnostic is not None
    assert "sparkfleet prune INVENTORY (at most 17.0 GiB that sparkfleet fetched)" in diagnostic.hint
    without = disk_diagnostic(HOST, HOST.services[0], replace(fresh(HOST), disks=small))
    assert without is not None
    assert "prune INVENTORY" not in without.hint
