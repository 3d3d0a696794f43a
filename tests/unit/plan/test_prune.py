"""What a prune may remove: never what is needed, never what is not ours, and all the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.state import StagedItem
from sparkfleet.desired_state import Host
from sparkfleet.plan.prune import FleetPrune, Item, Kind, PruneOptions, fleet_prune, limit_to
from sparkfleet.plan.prune_report import prune_data, prune_text
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.stored import (
    Stored,
    StoredBlob,
    StoredCache,
    StoredContainer,
    StoredEvidence,
    StoredGeneration,
    StoredImage,
    StoredRepository,
    StoredRevision,
    StoredService,
)
from tests.unit.config.fleet_files import image_of
from tests.unit.plan.fake_spark import fresh
from tests.unit.plan.made_fleets import (
    CACHES,
    DIGESTS,
    REPOS,
    REVISIONS,
    Pick,
    fleets,
    generation,
    image_ref,
    root,
    service,
    snapshot,
)

Observations = list[tuple[Host, Observed | Diagnostic]]
NOW = 2000.0
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def disks(seen: Observations) -> Iterator[tuple[Host, Stored]]:
    for host, observed in seen:
        if isinstance(observed, Observed):
            assert observed.stored
            yield host, observed.stored


def good(stored: Stored) -> list[StoredGeneration]:
    """Return all that serves or is gone back to: written from the promise, not the code."""
    found: list[StoredGeneration] = []
    for one in stored.services.values():
        if one.current is None:
            continue
        targets = one.replaced or [g for g in one.generations if g.id != one.current.id][-1:]
        found += [one.current, *targets]
    return found


def needed_models(seen: Observations) -> set[tuple[str, str]]:
    declared = {(s.weights.repo, s.weights.revision) for host, _ in seen for s in host.services}
    in_state = {(g.model, g.revision) for _, stored in disks(seen) for g in good(stored)}
    paths = {path for _, stored in disks(seen) for c in stored.containers for path in c.uses}
    used = {(r.repo, one.revision) for _, s in disks(seen) for r in s.repositories for one in r.revisions
            if one.path in paths}  # fmt: skip
    return declared | in_state | used


def needed_digests(seen: Observations) -> set[str]:
    in_use = [image_of(s).digest for host, _ in seen for s in host.services]
    in_use += [g.image for _, stored in disks(seen) for g in good(stored)]
    for _, stored in disks(seen):
        ids = {c.image_id for c in stored.containers}
        in_use += [ref for image in stored.images if image.id in ids for ref in image.refs]
    return {word[word.index("sha256:") :] for word in in_use if "sha256:" in word}


def stored_of(seen: Observations, name: str) -> Stored:
    return next(stored for host, stored in disks(seen) if host.name == name)


def listed(plan: FleetPrune, kind: Kind) -> Iterator[tuple[str, Item]]:
    for host in plan.hosts:
        yield from ((host.host, item) for item in host.items if item.kind is kind)


names = st.lists(
    st.sampled_from([*REPOS, "mine:latest", *(image_ref(digest) for digest in DIGESTS)]), max_size=3
)
wishes = st.builds(
    PruneOptions,
    st.just(NOW),
    st.sampled_from([0.0, 1000.0]),
    st.integers(0, 3),
    names.map(tuple),
    st.just(frozenset()),
)


@many
@given(fleets(), wishes)
def test_nothing_needed_is_ever_in_the_list(seen: Observations, options: PruneOptions) -> None:
    plan = fleet_prune(seen, options)
    models, digests = needed_models(seen), needed_digests(seen)
    for _, item in listed(plan, Kind.MODEL):
        repo, _, revision = item.refs[0].partition("@")
        assert (repo, revision) not in models
    for name, item in listed(plan, Kind.IMAGE):
        assert not {ref.partition("@")[2] for ref in item.refs} & digests
        assert item.key not in {c.image_id for c in stored_of(seen, name).containers}
    for host, stored in disks(seen):
        local = {image_of(s).digest[7:19] for s in host.services}
        local |= {g.image[g.image.index("sha256:") + 7 :][:12] for g in good(stored)}
        gone = {item.name for name, item in listed(plan, Kind.CACHE) if name == host.name}
        assert not gone & local
        remaining = {g for one in stored.services.values() if one.current
                for g in [one.current.id, *(r.id for r in one.replaced)]}  # fmt: skip
        assert (
            not {item.name.split()[1] for name, item in listed(plan, Kind.GENERATION) if name == host.name}
            & remaining
        )


@settings(many, max_examples=40)
@given(fleets(), wishes)
def test_a_generation_that_stays_for_a_rollback_keeps_its_image_and_its_model(
    seen: Observations, options: PruneOptions
) -> None:
    plan = fleet_prune(seen, options)
    for host, stored in disks(seen):
        gone = {item.key for name, item in listed(plan, Kind.GENERATION) if name == host.name}
        stays = [g for one in stored.services.values() for g in one.generations if g.path not in gone]
        images = {ref for name, item in listed(plan, Kind.IMAGE) if name == host.name for ref in item.refs}
        models = {item.refs[0] for name, item in listed(plan, Kind.MODEL) if name == host.name}
        for generation_ in stays:
            assert not any(generation_.image.partition("@")[2] in ref for ref in images), generation_
            assert f"{generation_.model}@{generation_.revision}" not in models, generation_


@many
@given(fleets(), wishes)
def test_unmanaged_items_are_not_in_the_list_unless_named(seen: Observations, options: PruneOptions) -> None:
    for name, item in [
        *listed(fleet_prune(seen, options), Kind.MODEL),
        *listed(fleet_prune(seen, options), Kind.IMAGE),
    ]:
        stored = stored_of(seen, name)
        ours = item.key in stored.staged_revisions or set(item.refs) <= stored.staged_images.keys()
        repo = item.refs[0].partition("@")[0]
        assert ours or repo in options.include_unmanaged or set(item.refs) & set(options.include_unmanaged)


@many
@given(fleets(unknown=False))
def test_everything_that_is_ours_and_not_needed_is_in_the_list(seen: Observations) -> None:
    plan = fleet_prune(seen, PruneOptions(NOW))
    models, digests = needed_models(seen), needed_digests(seen)
    for host, stored in disks(seen):
        gone = {item.key for one in plan.hosts if one.host == host.name for item in one.items}
        stays = [g for one in stored.services.values() for g in one.generations if g.path not in gone]
        for_rollbacks = {(g.model, g.revision) for g in stays}
        images_of_these = {g.image.partition("@")[2] for g in stays}
        ours = {
            one.path
            for repository in stored.repositories
            for one in repository.revisions
            if (repository.repo, one.revision) not in models | for_rollbacks
            and one.path in stored.staged_revisions
        }
        used = {container.image_id for container in stored.containers}
        ours |= {
            image.id
            for image in stored.images
            if set(image.refs) <= stored.staged_images.keys()
            and image.id not in used
            and not {ref.partition("@")[2] for ref in image.refs} & (digests | images_of_these)
        }
        ours |= {one.path for one in stored.evidence}
        assert ours <= gone


@many
@given(fleets())
def test_what_is_left_of_a_model_still_has_every_content_that_it_links_to(seen: Observations) -> None:
    plan = fleet_prune(seen, PruneOptions(NOW))
    for host, stored in disks(seen):
        gone = {item.key: item.bytes for one in plan.hosts if one.host == host.name for item in one.items}
        for repository in stored.repositories:
            remaining = {name for one in repository.revisions if one.path not in gone for name in one.blobs}
            freed = sum(gone.get(one.path, 0) for one in repository.revisions)
            assert freed <= sum(
                blob.bytes for name, blob in repository.blobs.items() if name not in remaining
            )


@many
@given(fleets())
def test_while_a_spark_is_unknown_no_image_and_no_model_goes_anywhere(seen: Observations) -> None:
    plan = fleet_prune(
        [*seen, (Host("gone"), Diagnostic("gone", "no route", code="test"))], PruneOptions(NOW)
    )
    assert plan.unknown[-1] == "gone"
    assert not list(listed(plan, Kind.MODEL))
    assert not list(listed(plan, Kind.IMAGE))


@many
@given(fleets(unknown=False), wishes)
def test_after_a_removal_the_list_is_empty(seen: Observations, options: PruneOptions) -> None:
    plan = fleet_prune(seen, options)
    left: Observations = [
        (host, replace(observed, stored=without(observed.stored, gone_of(plan, host.name))))
        for host, observed in seen
        if isinstance(observed, Observed) and observed.stored
    ]
    assert all(not host.items for host in fleet_prune(left, options).hosts)


def gone_of(plan: FleetPrune, name: str) -> set[str]:
    return {item.key for host in plan.hosts if host.host == name for item in host.items}


def without(stored: Stored, gone: Iterable[str]) -> Stored:
    """Return the disks after the removal, as the Spark's program leaves them."""
    keys = set(gone)
    repos = [
        replace(r, revisions=tuple(o for o in r.revisions if o.path not in keys)) for r in stored.repositories
    ]
    return replace(
        stored,
        images=tuple(one for one in stored.images if one.id not in keys),
        repositories=tuple(one for one in repos if one.revisions),
        caches=tuple(one for one in stored.caches if one.path not in keys),
        services={
            name: replace(one, generations=tuple(g for g in one.generations if g.path not in keys))
            for name, one in stored.services.items()
        },
        evidence=tuple(one for one in stored.evidence if one.path not in keys),
    )


OLD, NEW = Pick(REPOS[0], REVISIONS[0], DIGESTS[0]), Pick(REPOS[1], REVISIONS[1], DIGESTS[1])
HOST = Host("spark-01", (service(NEW, 0),))


def disk(**changes: object) -> Stored:
    """Return a Spark's disk after a model was changed twice: OLD is needed by nothing any more."""
    present = [(OLD, 8 << 30), (NEW, 9 << 30)]
    base = Stored(
        images=tuple(
            StoredImage(f"sha256:id{p.digest[7]}", (image_ref(p.digest),), 20 << 30) for p, _ in present
        ),
        repositories=tuple(
            StoredRepository(
                p.repo,
                root(p.repo),
                (StoredRevision(p.revision, snapshot(p.repo, p.revision), ("w",), changed=1000.0),),
                {"w": StoredBlob(count)},
            )
            for p, count in present
        ),
        caches=tuple(
            StoredCache(p.digest[7:19], f"{CACHES}/{p.digest[7:19]}", 1 << 20, 1000.0) for p, _ in present
        ),
        containers=(StoredContainer("c1", "s0", f"sha256:id{NEW.digest[7]}"),),
        services={"s0": StoredService("b", generation(NEW, 2), (generation(NEW, 1),))},
        evidence=(StoredEvidence("s0-1", "/var/lib/sparkfleet/rollouts/s0-1/evidence", 2048, 1000.0),),
        staged_images={image_ref(p.digest): StagedItem(20 << 30, 900.0) for p, _ in present},
        staged_revisions={snapshot(p.repo, p.revision): StagedItem(count, 900.0) for p, count in present},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def plan_of(stored: Stored, host: Host = HOST, **options: object) -> FleetPrune:
    return fleet_prune([(host, replace(fresh(host), stored=stored))], PruneOptions(NOW, **options))  # type: ignore[arg-type]


def test_the_list_for_people() -> None:
    theirs = StoredImage("sha256:theirs", ("open-webui:latest",), 3 << 30)
    stored = disk(images=(*disk().images, theirs))
    assert prune_text(plan_of(stored), {"spark-01"}) == LIST


LIST = """\
spark-01   4 to remove, up to 28.0 GiB
  ~ programs       updated first
  - model          org/a@111111111111                                         8.0 GiB
  - image          registry.example/vllm@sha256:444444444444                  20.0 GiB
  - compile cache  444444444444                                               1 MiB
  - evidence       s0-1                                                       2 KiB
  = not managed by sparkfleet, and not needed (--include-unmanaged NAME removes it):
  = image          open-webui:latest                                          3.0 GiB
4 to remove, up to 28.0 GiB
"""


def test_the_list_when_a_spark_is_unknown() -> None:
    gone = Diagnostic("spark-02", "SSH connection refused", hint="ssh spark-02 true", code="test")
    seen: Observations = [
        (HOST, replace(fresh(HOST), stored=disk(caches=(), evidence=()))),
        (Host("spark-02"), gone),
    ]
    assert prune_text(fleet_prune(seen, PruneOptions(NOW))) == (
        "spark-01   nothing to remove\n"
        "spark-02   unknown: SSH connection refused [test]\n"
        "              do: ssh spark-02 true\n"
        "no images or models are removed: spark-02 may need them\n"
        "    do: make them reachable, or --exclude-host spark-02 if it is decommissioned\n"
        "nothing to remove\n"
    )
    plan = fleet_prune(seen, PruneOptions(NOW, exclude_hosts=frozenset({"spark-02"})))
    assert [item.kind for item in plan.hosts[0].items] == [Kind.MODEL, Kind.IMAGE]


def test_many_things_of_others_are_counted() -> None:
    theirs = tuple(StoredImage(f"sha256:{n}", (f"theirs-{n}:1",), 1 << 30) for n in range(8))
    assert "and 3 more, 3.0 GiB" in prune_text(plan_of(disk(images=theirs)))


def test_a_model_that_another_spark_serves_stays_here_as_well() -> None:
    seen: Observations = [(HOST, replace(fresh(HOST), stored=disk())),
                  (Host("spark-02", (service(OLD, 0),)), replace(fresh(HOST), stored=Stored()))]  # fmt: skip
    kinds = {item.kind for item in fleet_prune(seen, PruneOptions(NOW)).hosts[0].items}
    assert kinds == {Kind.CACHE, Kind.EVIDENCE}  # compiled for that Spark alone


def serving(pick: Pick, **more: Any) -> Stored:
    """Return a disk whose records have this service, but none of its artifacts."""
    return Stored(services={"s0": StoredService("b", replace(generation(pick, 1), uses=(), **more))})


def test_what_a_spark_serves_and_has_lost_stays_where_it_still_is() -> None:
    seen: Observations = [(HOST, replace(fresh(HOST), stored=disk())),
                  (Host("spark-02"), replace(fresh(HOST), stored=serving(OLD)))]  # fmt: skip
    assert not list(listed(fleet_prune(seen, PruneOptions(NOW)), Kind.MODEL))


def test_every_commit_of_a_lost_drafter_is_kept_since_the_used_one_is_unknown() -> None:
    drafted = serving(NEW, names=(OLD.repo,))
    seen: Observations = [(HOST, replace(fresh(HOST), stored=disk())),
                  (Host("spark-02"), replace(fresh(HOST), stored=drafted))]  # fmt: skip
    assert not list(listed(fleet_prune(seen, PruneOptions(NOW)), Kind.MODEL))


def test_a_change_that_goes_on_makes_a_spark_unknown() -> None:
    plan = fleet_prune([(HOST, replace(fresh(HOST), stored=disk(), rollout="s0-9"))], PruneOptions(NOW))
    assert plan.hosts[0].diagnostic
    assert plan.unknown == ("spark-01",)


def test_what_was_used_lately_stays_when_only_older_is_asked_for() -> None:
    assert plan_of(disk(), older_than_s=1500.0).hosts[0].items == ()
    assert len(plan_of(disk(), older_than_s=900.0).hosts[0].items) == 4


def test_items_of_unknown_age_never_count_as_old() -> None:
    stored = disk(images=(StoredImage("sha256:x", ("x:1",)),), staged_images={})
    assert plan_of(stored, include_unmanaged=("x:1",)).hosts[0].items[1].name == "x:1"
    assert "x:1" not in [
        item.name for item in plan_of(stored, include_unmanaged=("x:1",), older_than_s=1.0).hosts[0].items
    ]


def test_an_image_with_a_name_of_another_owner_is_unmanaged() -> None:
    images = (StoredImage("sha256:id4", (image_ref(OLD.digest), "mine:latest"), 1),)
    assert Kind.IMAGE not in {item.kind for item in plan_of(disk(images=images)).hosts[0].items}


def test_the_digest_that_containerds_image_store_gives_a_derived_image_is_no_name_of_another_owner() -> None:
    name, digest = "localhost/sparkfleet/derived:0123456789abcdef", "sha256:" + "e" * 64
    refs = (name, f"{name.rpartition(':')[0]}@{digest}")
    images = (StoredImage(digest, refs, 1),)
    staged = {name: StagedItem(1, 1.0)}
    ((_, item),) = listed(plan_of(disk(images=images, staged_images=staged)), Kind.IMAGE)
    assert (item.ours, item.refs) == (True, refs)
    theirs = (StoredImage(digest, (*refs, "mine:latest", f"mine@{digest}"), 1),)
    assert not list(listed(plan_of(disk(images=theirs, staged_images=staged)), Kind.IMAGE))


def test_an_image_from_a_mirror_is_ours_by_the_name_that_it_got_on_the_way() -> None:
    carried = f"127.0.0.1:7355/sparkfleet/{image_ref(OLD.digest)}"
    images = (StoredImage("sha256:id4", (carried,), 1),)
    ((_, item),) = listed(plan_of(disk(images=images)), Kind.IMAGE)
    assert (item.ours, item.refs) == (True, (carried,))
    assert item.name.startswith("registry.example/vllm@sha256:")
    theirs = (StoredImage("sha256:id4", (carried.replace("sparkfleet/", ""),), 1),)
    assert not list(listed(plan_of(disk(images=theirs)), Kind.IMAGE))


def test_generations_beside_the_rollbacks_target_go_and_as_many_stay_as_asked() -> None:
    history = tuple(generation(NEW, number, "s0") for number in (1, 2, 3, 4))
    in_state = {"s0": StoredService("b", replace(history[-1], path=""), (), history)}
    stored = disk(services=in_state)
    assert gone_generations(plan_of(stored)) == ["s0 g1", "s0 g2"]
    assert gone_generations(plan_of(stored, keep=2)) == ["s0 g1"]
    assert gone_generations(plan_of(stored, keep=9)) == []


def test_generations_of_a_service_that_is_gone_go_all() -> None:
    in_state = {"s9": StoredService("", None, (), (generation(OLD, 1, "s9"),))}
    assert gone_generations(plan_of(disk(services=in_state))) == ["s9 g1"]


def gone_generations(plan: FleetPrune) -> list[str]:
    return [item.name for _, item in listed(plan, Kind.GENERATION)]


@pytest.mark.parametrize("blobs", [("w",), ("w", "part.incomplete")])
def test_with_the_last_revision_all_of_its_repository_goes(blobs: tuple[str, ...]) -> None:
    at = disk().repositories[0]
    repository = replace(at, blobs={name: StoredBlob(5) for name in blobs})
    plan = plan_of(disk(repositories=(repository,)))
    assert next(listed(plan, Kind.MODEL))[1].bytes == 5 * len(blobs)


def test_a_recorded_revision_of_which_nothing_is_there_is_not_listed_beside_others() -> None:
    at = disk().repositories[0]
    empty = StoredRevision(REVISIONS[2], snapshot(REPOS[0], REVISIONS[2]))
    theirs = {snapshot(REPOS[0], REVISIONS[2]): StagedItem(1, 1.0)}
    plan = plan_of(
        disk(repositories=(replace(at, revisions=(*at.revisions, empty)),), staged_revisions=theirs)
    )
    assert not list(listed(plan, Kind.MODEL))


def test_a_content_that_a_staying_repository_shares_frees_nothing() -> None:
    shared = {"w": StoredBlob(8, "/hub/blobs/aa/w")}
    stored = disk(repositories=tuple(replace(one, blobs=shared) for one in disk().repositories))
    assert next(listed(plan_of(stored), Kind.MODEL))[1].bytes == 0


def test_only_the_named_sparks_are_shown_but_all_are_asked() -> None:
    assert limit_to(plan_of(disk()), ["spark-07"]).hosts == ()


def test_the_list_for_programs() -> None:
    (host,) = prune_data(plan_of(disk()))["hosts"]
    assert host["bytes"] == sum(item["bytes"] for item in host["items"])
    assert host["items"][0] == {
        "kind": "model", "name": "org/a@111111111111", "path": snapshot(REPOS[0], REVISIONS[0]),
        "bytes": 8 << 30, "used": 1000.0,
    }  # fmt: skip


def test_services_without_pins_keep_images_and_models_and_are_named() -> None:
    declared = replace(HOST.services[0], image=replace(image_of(HOST.services[0]), digest=""))
    host = replace(HOST, services=(declared,))
    seen: Observations = [(host, replace(fresh(HOST), stored=disk()))]
    plan = fleet_prune(seen, PruneOptions(NOW))
    assert plan.unpinned == (f"spark-01: {declared.name}",)
    assert not {item.kind for item in plan.hosts[0].items} & {Kind.IMAGE, Kind.MODEL}
    assert f"these services are not pinned: spark-01: {declared.name}" in prune_text(plan)
    gone = fleet_prune(seen, PruneOptions(NOW, exclude_hosts=frozenset({"spark-01"})))
    assert gone.unpinned == ()
