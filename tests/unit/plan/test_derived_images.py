"""Derived images in the plan: who builds, who copies, what is whole, and what stays on the disks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.state import StagedItem
from sparkfleet.desired_state import Host, Prepare, Stage
from sparkfleet.plan import needs
from sparkfleet.plan.artifacts import ArtifactSource as Source
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.fleet_staging import apply_sources, choose_sources
from sparkfleet.plan.model import ChangeSet, FieldChange, HostPlan, HostState, Step
from sparkfleet.plan.prune import Kind, PruneOptions, fleet_prune
from sparkfleet.plan.reclaimable import reclaimable
from sparkfleet.plan.report import field_line, note_line
from sparkfleet.probe.observation import Disk, Observed
from sparkfleet.probe.stored import Stored, StoredGeneration, StoredImage, StoredService
from tests.unit.desired_state.test_derived_packages import ADDED
from tests.unit.plan.cluster import cluster_fixtures
from tests.unit.plan.fake_spark import GIB, converged, fresh, image_seen
from tests.unit.plan.nano import HOST, NANO, NGC

IMAGE = replace(NGC, derived_packages=ADDED)
KEY = IMAGE.pull_ref
DERIVED = replace(HOST, services=(replace(NANO, image=IMAGE),))
PLAIN = HOST


def named(name: str, **more: Any) -> Host:
    return replace(DERIVED, name=name, **more)


def with_base(host: Host) -> Observed:
    return replace(fresh(host), images={KEY: None, NGC.pull_ref: image_seen(NGC)})


def only(plan: HostPlan) -> ChangeSet:
    (entry,) = (one for one in plan.change_sets if one.subject != "host")
    return entry


def lines(plan: HostPlan, *fields: str) -> list[str]:
    own = only(plan)
    found = [field_line(change).strip() for change in own.fields() if change.name in fields]
    return found + [note_line(note).strip() for note in own.notes if note.name in fields]


def changed(entry: ChangeSet, field: str) -> FieldChange:
    (change,) = (one for one in entry.fields() if one.name == field)
    return change


def test_a_look_asks_for_the_image_and_for_what_it_is_derived_from() -> None:
    assert probe_request(DERIVED).images == (KEY, NGC.pull_ref)


def test_the_plan_names_base_packages_and_what_there_is_to_fetch() -> None:
    build, packages = lines(host_plan(DERIVED, fresh(DERIVED)), "build", "packages")
    assert "nvcr.io/nvidia/vllm:26.04-py3 + ray 2.60.0" in build
    assert "9.0 GiB to build here" in build
    assert "ray 2.60.0, msgpack 1.1" in packages


def test_with_the_base_on_the_spark_only_the_packages_are_to_fetch() -> None:
    (stock, *_) = host_plan(DERIVED, with_base(DERIVED)).artifacts
    assert (stock.derived, stock.complete, stock.missing, stock.have) == (True, False, 75, NGC.size)


def test_a_converged_spark_has_an_empty_plan_and_says_which_build_it_has() -> None:
    plan = host_plan(DERIVED, converged(DERIVED))
    assert plan.change_sets == ()
    assert plan.artifacts[0].identity == image_seen(IMAGE).id


def test_the_same_build_has_another_id_in_the_other_image_store_and_the_same_identity() -> None:
    seen = converged(DERIVED)
    own = replace(image_seen(IMAGE), top_layer="sha256:top")
    found = [
        host_plan(DERIVED, replace(seen, images={**seen.images, KEY: replace(own, id=identity)}))
        for identity in ("sha256:config", "sha256:index")
    ]
    (identity,) = {plan.artifacts[0].identity for plan in found}
    other = replace(seen, images={**seen.images, KEY: replace(own, env=("A=1",))})
    assert host_plan(DERIVED, other).artifacts[0].identity != identity


@pytest.mark.parametrize("containerd", [True, False])
def test_the_store_of_an_image_is_seen_by_its_id_or_where_it_is_missing_by_docker(containerd: bool) -> None:
    digest = NGC.pull_ref.rpartition("@")[2]
    present = replace(image_seen(NGC), id=digest if containerd else "sha256:config")
    seen = converged(PLAIN)
    present_plan = host_plan(PLAIN, replace(seen, images={**seen.images, NGC.pull_ref: present}))
    missing = host_plan(PLAIN, replace(fresh(PLAIN), registry_layers=containerd))
    assert [plan.artifacts[0].registry_layers for plan in (present_plan, missing)] == [containerd, containerd]


def test_another_image_of_that_name_is_not_taken_for_it() -> None:
    seen = converged(DERIVED)
    foreign = replace(image_seen(IMAGE), labels={"io.sparkfleet.derived": "something else"})
    plan = host_plan(DERIVED, replace(seen, images={**seen.images, KEY: foreign}))
    assert changed(only(plan), "build").new == IMAGE.display


def test_packages_that_are_added_replace_the_container_and_nothing_else_of_it() -> None:
    seen = converged(PLAIN)
    present = replace(seen, images={**seen.images, KEY: image_seen(IMAGE), NGC.pull_ref: image_seen(NGC)})
    entry = only(host_plan(DERIVED, present))
    rows = entry.fields()
    assert [(one.name, one.old, one.new) for one in rows] == [
        ("image", "nvcr.io/nvidia/vllm:26.04-py3", IMAGE.display)
    ]
    assert rows[0].note.endswith(f"→ {KEY.removeprefix('localhost/')}")


def test_a_base_that_runs_is_not_the_derived_image_while_that_is_still_to_be_built() -> None:
    seen = converged(PLAIN)
    present = replace(seen, images={**seen.images, KEY: None})
    own = only(host_plan(DERIVED, present))
    assert changed(own, "image") in [change for one in own.of_step(Step.SERVICE) for change in one.fields()]


def test_one_spark_builds_and_the_others_copy_also_where_they_are_offline() -> None:
    offline = named("c", prepare=Prepare(offline=True))
    hosts = {"a": named("a"), "b": named("b"), "c": offline}
    seen = {"a": fresh(hosts["a"]), "b": with_base(hosts["b"]), "c": fresh(offline)}
    plans = [host_plan(host, seen[name]) for name, host in hosts.items()]
    found = {name: source for (name, key), source in choose_sources(hosts, plans).items() if key == KEY}
    size = NGC.size + ADDED.size  # the base goes along
    assert found == {
        "a": Source("b", size=size),
        "b": Source(),
        "c": Source("b", size=size),
    }
    applied = apply_sources(plans[0], {("a", KEY): found["a"]})
    assert "9.0 GiB from b" in changed(only(applied), "build").note


def test_containerd_gets_no_derived_image_from_another_store_and_sends_to_both() -> None:
    hosts = {"a": named("a"), "b": named("b"), "c": named("c")}
    old = host_plan(hosts["a"], converged(hosts["a"]))
    new = [host_plan(hosts[name], replace(fresh(hosts[name]), registry_layers=True)) for name in ("b", "c")]
    found = {name: source for (name, key), source in choose_sources(hosts, [old, *new]).items() if key == KEY}
    assert {name: source and source.host for name, source in found.items()} == {"b": "", "c": "b"}


def test_an_image_that_one_spark_has_is_built_nowhere_else() -> None:
    hosts = {"a": named("a"), "b": named("b")}
    plans = [host_plan(hosts["a"], fresh(hosts["a"])), host_plan(hosts["b"], converged(hosts["b"]))]
    source = choose_sources(hosts, plans)["a", KEY]
    assert source is not None
    assert source.host == "b"


def test_a_spark_that_reaches_nothing_builds_it_from_a_mirror() -> None:
    host = named("a", prepare=Prepare(offline=True), stage=Stage(mirror="carried"))
    plan = host_plan(host, fresh(host))
    sources = choose_sources({"a": host}, [plan])
    assert sources["a", KEY] == Source(mirror=True)
    assert (
        "to build here from the offline mirror" in changed(only(apply_sources(plan, sources)), "build").note
    )


def test_without_a_spark_that_may_build_it_the_plan_is_blocked_with_a_remedy() -> None:
    host = named("a", prepare=Prepare(offline=True))
    plan = host_plan(host, fresh(host))
    blocked = apply_sources(plan, {("a", KEY): None})
    assert blocked.state is HostState.BLOCKED
    diagnostic = only(blocked).blocked
    assert diagnostic is not None
    assert "may build it" in diagnostic.message


def test_a_disk_needs_room_for_base_and_packages_or_packages_alone() -> None:
    disk = Disk("/var/lib/docker", 4000 * GIB, 20 * GIB)
    for seen, fits in ((fresh(DERIVED), False), (with_base(DERIVED), True)):
        tight = replace(seen, disks={**seen.disks, "images": disk})
        assert (only(host_plan(DERIVED, tight)).blocked is None) is fits


@pytest.mark.provokes("cluster-image-differs")
def test_members_with_two_builds_of_one_image_do_not_start_as_one_cluster() -> None:
    declared = [cluster_fixtures.host(rank, image=IMAGE) for rank in (0, 1)]
    seen = [cluster_fixtures.converged(host) for host in declared]
    other = replace(image_seen(IMAGE), id="sha256:" + "9" * 64)
    stopped = tuple(replace(one, state="exited") for one in seen[1].instances)
    seen[1] = replace(seen[1], images={**seen[1].images, KEY: other}, instances=stopped)
    members = {host.name: host.member for host in declared if host.member}
    plans = [cluster_fixtures.plan(host, one) for host, one in zip(declared, seen, strict=True)]
    for plan in join_members(plans, members).values():
        diagnostic = cluster_fixtures.entry(plan).blocked
        assert diagnostic is not None
        assert any("has another build of" in one.message for one in diagnostic.each)
    same = replace(seen[1], images={**seen[1].images, KEY: image_seen(IMAGE)})
    plans[1] = cluster_fixtures.plan(declared[1], replace(same, instances=stopped))
    assert all(cluster_fixtures.entry(plan).blocked is None for plan in join_members(plans, members).values())


def stored(*services: StoredService) -> Stored:
    images = (StoredImage("sha256:1", (KEY,), 10), StoredImage("sha256:2", (NGC.pull_ref,), 9))
    return Stored(
        images=images,
        services={str(number): one for number, one in enumerate(services)},
        staged_images={KEY: StagedItem(10, 5.0), NGC.pull_ref: StagedItem(9, 5.0)},
    )


def images_to_go(host: Host, present: Stored) -> list[tuple[str, ...]]:
    (found,) = fleet_prune([(host, replace(fresh(host), stored=present))], PruneOptions(now=9.0)).hosts
    return [item.refs for item in found.items if item.kind is Kind.IMAGE]


def test_a_declared_derived_image_and_its_base_are_kept() -> None:
    assert images_to_go(DERIVED, stored()) == []


def test_a_derived_image_that_a_rollback_needs_is_kept() -> None:
    nothing = replace(HOST, services=())
    last = StoredGeneration("a", KEY)
    after_rollout = stored(StoredService(current=StoredGeneration("b", NGC.full_ref), replaced=(last,)))
    assert images_to_go(nothing, after_rollout) == []


def test_a_derived_image_that_nothing_needs_is_ours_to_remove() -> None:
    nothing = replace(HOST, services=())
    assert sorted(images_to_go(nothing, stored())) == sorted([(KEY,), (NGC.pull_ref,)])
    assert images_to_go(PLAIN, stored()) == [(KEY,)]


def test_room_that_a_prune_could_make_counts_an_old_derived_image_and_not_the_declared_one() -> None:
    fetched = {"images": {KEY: 10, KEY[:-16] + "f" * 16: 7}}
    assert reclaimable(DERIVED, replace(fresh(DERIVED), fetched=fetched))["images"] == 7


def test_what_tells_images_apart_is_found_in_every_form_of_their_names() -> None:
    tag = KEY.rpartition(":")[2]
    assert needs.digests_of([KEY, KEY.removeprefix("localhost/"), "sparkfleet/other:" + tag]) == {tag}
