"""Who gets what from whom: from outside once, and everything arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, Member, Prepare, Stage
from sparkfleet.plan.artifacts import Artifact, ArtifactType
from sparkfleet.plan.artifacts import ArtifactSource as Source
from sparkfleet.plan.fleet_staging import apply_sources, choose_sources
from sparkfleet.plan.model import ChangeSet, HostPlan, HostState
from sparkfleet.plan.operations import FetchWeights, FileToFetch, PullImage

GIB = 1 << 30
KEY = "nvidia/Nano@" + "a" * 40


def plan(name: str, have: int, *keys: str, blocked: bool = False, total: int = 18) -> HostPlan:
    """Return the plan of a Spark that has ``have`` of the 18 GiB of each model."""
    artifacts = tuple(
        Artifact(ArtifactType.MODEL, key, have == total, have * GIB, (total - have) * GIB, 400 * GIB)
        for key in keys or (KEY,)
    )
    fetches = tuple(
        FetchWeights(one, "nvidia/Nano", "a" * 40, (), 1, nothing_present=True)
        for one in artifacts
        if not one.complete
    )
    diagnostic = Diagnostic(name, "no room", code="test") if blocked else None
    change_sets = (ChangeSet("nano", fetches, blocked=diagnostic),) if fetches or blocked else ()
    return HostPlan(name, change_sets, artifacts=artifacts)


def hosts(*plans: HostPlan, **more: Host) -> dict[str, Host]:
    return {one.host: more.get(one.host.replace("-", "_"), Host(one.host)) for one in plans}


def sources(*plans: HostPlan, **more: Host) -> dict[str, Source | None]:
    found = choose_sources(hosts(*plans, **more), plans)
    return {name: source for (name, _), source in found.items()}


def test_the_first_downloads_and_the_others_copy_two_from_each() -> None:
    plans = [plan(f"spark-{n}", 0) for n in range(1, 8)]
    assert {name: source.host for name, source in sources(*plans).items() if source} == {
        "spark-1": "",
        "spark-2": "spark-1",
        "spark-3": "spark-1",
        "spark-4": "spark-2",
        "spark-5": "spark-2",
        "spark-6": "spark-3",
        "spark-7": "spark-3",
    }


def test_the_spark_that_has_most_of_it_downloads_the_rest() -> None:
    found = sources(plan("a", 0), plan("b", 11), plan("c", 7))
    assert found == {"b": Source(), "a": Source("b"), "c": Source("b")}


def test_what_a_spark_has_whole_is_not_downloaded_at_all() -> None:
    found = sources(plan("a", 0), plan("b", 18))
    assert found == {"a": Source("b")}


def test_the_declared_seed_downloads_when_it_needs_the_model_too() -> None:
    seeded = Host("a", stage=Stage(seed="b"))
    assert sources(plan("a", 0), plan("b", 0), a=seeded)["b"] == Source()


def test_the_plan_says_why_the_declared_seed_is_not_the_one_that_downloads() -> None:
    seeded = Host("a", stage=Stage(seed="b"))
    found = choose_sources({"a": seeded, "c": Host("c")}, [plan("a", 0), plan("c", 0)])
    (entry,) = apply_sources(plan("a", 0), found).change_sets
    assert entry.fields()[0].note.endswith("; the seed b does not need it, or cannot be changed now")
    (entry,) = apply_sources(plan("c", 0), found).change_sets
    assert "seed" not in entry.fields()[0].note
    offline = sources(plan("a", 0), plan("b", 0), a=seeded, b=Host("b", prepare=Prepare(offline=True)))
    assert offline["a"] == Source(not_seed="the seed b is offline")
    full = sources(image("a", local=False), image("b", local=False, free=47), a=seeded)
    assert full["a"] == Source(not_seed="the seed b has no space to send it")


def test_with_no_seed_each_downloads_for_itself() -> None:
    alone = Host("a", stage=Stage(seed="none"))
    assert sources(plan("a", 0), plan("b", 18), plan("c", 0), a=alone) == {
        "a": Source(),
        "c": Source(),
    }


def test_an_offline_spark_never_downloads() -> None:
    offline = Host("a", prepare=Prepare(offline=True))
    assert sources(plan("a", 9), plan("b", 0), a=offline) == {"b": Source(), "a": Source("b")}
    assert sources(plan("a", 9), a=offline) == {"a": None}
    assert sources(plan("a", 9), a=replace(offline, stage=Stage(seed="none"))) == {"a": None}


def test_with_a_mirror_models_come_from_it_once_to_offline_sparks_too() -> None:
    offline = Host("a", prepare=Prepare(offline=True), stage=Stage(mirror="carried"))
    found = sources(plan("a", 9), plan("b", 0), a=offline, b=replace(offline, name="b"))
    assert found == {"a": Source(mirror=True), "b": Source("a")}
    shown = apply_sources(plan("a", 9), {("a", KEY): Source(mirror=True)})
    assert any("from the offline mirror" in change.note for change in shown.change_sets[0].fields())
    assert shown.state is HostState.CHANGE
    lacks = {
        ("a", KEY): Diagnostic("a", "the offline mirror lacks it", code="test"),
        ("b", KEY): Diagnostic("b", "another's", code="test"),
    }
    lacking = apply_sources(plan("a", 9), {("a", KEY): Source(mirror=True)}, lacks)
    assert str(lacking.change_sets[0].blocked) == "a: the offline mirror lacks it"


def test_what_no_spark_has_and_none_may_download_blocks_the_plan() -> None:
    one = plan("a", 0)
    shown = apply_sources(one, {("a", KEY): None})
    assert shown.state is HostState.BLOCKED
    assert "no Spark of this run has it" in str(shown.change_sets[0].blocked)


def test_a_blocked_or_unknown_spark_neither_sends_nor_downloads() -> None:
    unknown = HostPlan("c", unknown=Diagnostic("c", "off", code="test"), artifacts=plan("c", 18).artifacts)
    found = sources(plan("a", 11, blocked=True), unknown, plan("b", 0))
    assert found == {"b": Source()}


def member(name: str, cluster: str) -> Host:
    return Host(name, member=Member(cluster, 0, (), "ray"))


def test_members_of_a_cluster_copy_over_the_fabric_and_the_nearest_is_taken() -> None:
    more = {"a": member("a", "x"), "b": member("b", "y"), "c": member("c", "y"), "d": member("d", "x")}
    found = sources(plan("a", 18), plan("b", 0), plan("c", 0), plan("d", 0), **more)
    assert found == {
        "b": Source("a"),
        "c": Source("b", near=True),
        "d": Source("a", near=True),
    }


def test_each_model_has_a_source_of_its_own() -> None:
    drafter = "nvidia/Drafter@" + "b" * 40
    one, other = plan("a", 18, KEY), plan("a", 0, drafter)
    first = replace(other, artifacts=(*one.artifacts, *other.artifacts))
    second = plan("b", 0, KEY, drafter)
    found = choose_sources(hosts(first, second), [first, second])
    assert found == {
        ("a", drafter): Source(),
        ("b", KEY): Source("a"),
        ("b", drafter): Source("a"),
    }


def test_the_plan_says_how_much_comes_from_where() -> None:
    found = {("a", KEY): Source("b", near=True)}
    (entry,) = apply_sources(plan("a", 6), found).change_sets
    assert entry.fields()[0].note == "12.0 GiB from b over the fabric, 400.0 GiB free, 388.0 GiB after"
    (entry,) = apply_sources(plan("a", 6), {("a", KEY): Source()}).change_sets
    assert entry.fields()[0].note == "12.0 GiB to download, 400.0 GiB free, 388.0 GiB after"


def test_the_plan_says_how_long_it_takes_where_the_spark_knows_its_rate() -> None:
    one = plan("a", 6)
    (entry,) = one.change_sets
    (fetch,) = entry.operations
    assert isinstance(fetch, FetchWeights)
    fetch = replace(fetch, artifact=replace(fetch.artifact, rate=20 << 20, copy_rate=1 << 30))
    known = replace(one, change_sets=(replace(entry, operations=(fetch,)),))
    (entry,) = apply_sources(known, {("a", KEY): Source()}).change_sets
    assert "12.0 GiB to download (about 10 min), 400.0 GiB free" in entry.fields()[0].note
    (entry,) = apply_sources(known, {("a", KEY): Source("b")}).change_sets
    assert "12.0 GiB from b (about 12 s), 400.0 GiB free" in entry.fields()[0].note


def test_a_single_file_says_only_where_it_comes_from() -> None:
    one = plan("a", 6)
    (entry,) = one.change_sets
    (fetch,) = entry.operations
    assert isinstance(fetch, FetchWeights)
    files = (FileToFetch("w0", 5, "missing"),)
    single = replace(
        one, change_sets=(replace(entry, operations=(replace(fetch, files=files, nothing_present=False),)),)
    )
    assert apply_sources(single, {("a", KEY): Source("b")}).change_sets[0].fields()[0].note == "from b"
    assert apply_sources(single, {("a", KEY): Source()}) == single


def test_a_plan_without_anything_to_fetch_stays_as_it_is() -> None:
    one = plan("a", 18)
    assert apply_sources(one, {("b", KEY): Source()}) is one


IMAGE = "nvcr.io/nvidia/vllm@sha256:" + "c" * 64


def image(name: str, *, local: bool, free: int = 400, containerd: bool = False) -> HostPlan:
    """Return the plan of a Spark that has or lacks an image of 8 GiB, 20 unpacked."""
    have, missing = (20 * GIB, 0) if local else (0, 8 * GIB)
    artifact = Artifact(
        ArtifactType.IMAGE, IMAGE, local, have, missing, free * GIB, registry_layers=containerd
    )
    change_sets = () if local else (ChangeSet("nano", (PullImage(artifact, "vllm"),)),)
    return HostPlan(name, change_sets, artifacts=(artifact,))


def test_an_image_is_pulled_once_and_copied_and_the_plan_says_its_bytes_unpacked() -> None:
    assert sources(image("a", local=False), image("b", local=False)) == {
        "a": Source(),
        "b": Source("a"),
    }
    found = {("b", IMAGE): Source("a", size=20 * GIB)}
    assert sources(image("a", local=True), image("b", local=False)) == {"b": found["b", IMAGE]}
    (entry,) = apply_sources(image("b", local=False), found).change_sets
    assert entry.fields()[0].note == "20.0 GiB from a, 400.0 GiB free"


def test_without_room_for_an_images_file_each_pulls_for_itself() -> None:
    alone = {"a": Source(), "b": Source()}
    assert sources(image("a", local=False), image("b", local=False, free=71)) == alone
    assert sources(image("a", local=False, free=47), image("b", local=False, free=47)) == alone
    assert sources(image("a", local=True, free=39), image("b", local=False)) == {"b": Source()}


@pytest.mark.provokes("artifact-source-missing")
def test_an_offline_spark_cannot_take_an_image_and_the_reason_is_reported() -> None:
    offline = Host("b", prepare=Prepare(offline=True))
    found = sources(image("a", local=True), image("b", local=False), b=offline)
    assert found == {"b": None}
    (entry,) = apply_sources(image("b", local=False), {("b", IMAGE): None}).change_sets
    assert "docker gets a digest only from a registry" in str(entry.blocked)
    assert "sparkfleet mirror INVENTORY DIR" in str(entry.blocked)


def test_with_a_mirror_one_offline_spark_gets_the_image_from_it_and_the_others_from_that_one() -> None:
    offline = {name: Host(name, stage=Stage(mirror="b"), prepare=Prepare(offline=True)) for name in "ab"}
    found = choose_sources(offline, [image("a", local=False), image("b", local=False)])
    assert found["a", IMAGE] == Source(mirror=True)
    assert found["b", IMAGE] == Source("a")
    (entry,) = apply_sources(image("a", local=False), found).change_sets
    assert "from the offline mirror" in entry.fields()[0].note


def copied(*plans: HostPlan) -> dict[str, str]:
    """Return who gets the image from whom; "" = the registry."""
    return {name: source.host for name, source in sources(*plans).items() if source}


def test_a_host_with_the_containerd_image_store_gets_no_image_from_one_without() -> None:
    old, new = image("a", local=True), image("b", local=False, containerd=True)
    assert copied(old, new) == {"b": ""}
    assert copied(old, new, image("c", local=False, containerd=True)) == {"b": "", "c": "b"}
    assert copied(image("a", local=True, containerd=True), image("b", local=False)) == {"b": "a"}


def test_one_pull_serves_both_image_stores() -> None:
    new = [image(name, local=False, containerd=True) for name in ("c", "d", "e", "f")]
    assert copied(image("a", local=False), image("b", local=False), *new) == {
        "c": "", "d": "c", "e": "c", "f": "d", "a": "d", "b": "e",
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 18), st.sampled_from(["", "x", "y"]), st.booleans()), max_size=30),
    st.integers(1, 4),
)
def test_everything_is_downloaded_once_and_no_spark_sends_to_too_many(
    sparks: list[tuple[int, str, bool]], parallel: int
) -> None:
    plans = [plan(f"s{n}", have) for n, (have, _, _) in enumerate(sparks)]
    declared = {
        f"s{n}": Host(
            f"s{n}",
            stage=Stage(parallel=parallel),
            prepare=Prepare(offline=offline),
            member=Member(cluster, 0, (), "ray") if cluster else None,
        )
        for n, (_, cluster, offline) in enumerate(sparks)
    }
    found = sources(*plans, **declared)
    needing = {one.host for one in plans if not one.artifacts[0].complete}
    assert found.keys() == needing
    downloads = [name for name, source in found.items() if source == Source()]
    port_owners = {one.host for one in plans} - needing
    if needing and not port_owners and all(declared[name].prepare.offline for name in needing):
        assert set(found.values()) == {None}
        return
    assert len(downloads) == (1 if needing and not port_owners else 0)
    assert not any(declared[name].prepare.offline for name in downloads)
    have = port_owners | set(downloads)
    waiting = {name: source for name, source in found.items() if source and source.host}
    while waiting:  # copies in waves: each from a Spark that has it by then
        wave = {name for name, source in waiting.items() if source.host in have}
        assert wave
        have |= wave
        waiting = {name: source for name, source in waiting.items() if name not in wave}
    assert have >= needing
    sent = [source.host for source in found.values() if source and source.host]
    assert all(sent.count(name) <= parallel for name in sent)
