"""A cluster's service, rank by rank: what is the same on all, and what is not."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.contract.generation import Generation
from sparkfleet.desired_state import Host, ImageRef
from sparkfleet.plan.cluster import render
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.fabric.environment import GID_CHOICE
from sparkfleet.probe.observation import Listener, Observed
from sparkfleet.runtimes import Container, Mount
from tests.unit.plan import fake_spark
from tests.unit.plan.cluster import cluster_fixtures
from tests.unit.plan.cluster.cluster_fixtures import (
    NAMES,
    converged,
    entry,
    fresh,
    generation,
    host,
    linked,
    plan,
    rollouts,
)
from tests.unit.plan.nano import STOCK

RAY = ImageRef(
    "nvcr.io/nvidia/vllm", "26.03-py3", "sha256:" + "3" * 64, ("/opt/nvidia/nvidia_entrypoint.sh",), "0.17.1"
)
OLD_STOCK = replace(STOCK, tag="v0.17.1", engine_version="0.17.1")
OWN = {"--node-rank", "--headless"}
HOST = "network='host', ipc='host'"
DEFAULTS, UNSET = "shm_size='', gpus='all', user='', memory=''", "devices=(), cap_add=()"
MOUNT = "Mount(source='~/x', target='/x', read_only=True)"


def flags(args: tuple[str, ...]) -> dict[str, str]:
    """Return flag -> value of a rendered line."""
    found: dict[str, str] = {}
    for word in args:
        if word.startswith("--"):
            found[word] = ""
            last = word
        elif found:
            found[last] = word
    return found


def test_ranks_have_the_same_args_but_for_their_number() -> None:
    first, second = (flags(generation(host(rank)).argv) for rank in (0, 1))
    assert first["--nnodes"] == "2"
    assert (first["--node-rank"], second["--node-rank"]) == ("0", "1")
    assert first["--master-addr"] == second["--master-addr"] == "192.168.176.1"
    assert "--headless" in second
    assert "--headless" not in first
    shared = [{key: one[key] for key in one.keys() - OWN} for one in (first, second)]
    assert shared[0] == shared[1]


def test_ranks_have_the_same_variables_but_for_what_their_links_need() -> None:
    first, second = (dict(generation(host(rank)).env) for rank in (0, 1))
    assert (first.pop("VLLM_HOST_IP"), second.pop("VLLM_HOST_IP")) == ("192.168.176.1", "192.168.176.2")
    assert first == second
    assert first["VLLM_LOGGING_LEVEL"] == "INFO"


def test_a_cable_in_the_other_cage_gives_a_rank_other_interfaces() -> None:
    declared = host(1)
    seen = replace(fake_spark.fresh(declared), fabric=linked(1, cabled=0))
    assert dict(generation(declared, seen).env)["GLOO_SOCKET_IFNAME"] == "enp1s0f0np0"


def test_what_the_user_writes_wins() -> None:
    declared = host(0, env=(("NCCL_DEBUG", "WARN"),), container=Container(ulimits={"memlock": 65536}))
    made = generation(declared)
    assert dict(made.env)["NCCL_DEBUG"] == "WARN"
    assert "memlock=65536" in made.definition
    assert "memlock=-1" not in made.definition


def test_rdma_needs_its_device_and_pinned_memory() -> None:
    made = generation(host(0)).definition
    assert made[made.index("--device") + 1] == "/dev/infiniband"
    assert made[made.index("--ulimit") + 1] == "memlock=-1"


def test_without_rdma_there_is_no_device() -> None:
    seen = replace(fake_spark.fresh(host(0)), fabric=replace(linked(0), verbs=False))
    assert "--device" not in generation(host(0), seen).definition


def test_both_ranks_are_of_one_make_and_know_each_other() -> None:
    first, second = (generation(host(rank)).rank for rank in (0, 1))
    assert first
    assert second
    assert first.fingerprint == second.fingerprint
    assert first.hosts == second.hosts == NAMES
    assert first.addresses == ("192.168.176.1", "192.168.176.2")
    assert (first.rank, second.rank) == (0, 1)
    assert first.clear == ("/home/nvidia/vllm-compile-cache/111111111111/vllm/flashinfer_autotune_cache",)


@pytest.mark.parametrize(
    "change",
    [
        {"flags": (("tensor-parallel-size", 2), ("max-model-len", 1024))},
        {"env": (("A", "1"),)},
        {"image": RAY},
        {"container": Container(shm_size="8g", ipc="private")},
    ],
)
def test_another_line_image_variable_or_setting_is_another_make(change: dict[str, Any]) -> None:
    first, second = generation(host(0)).rank, generation(host(0, **change)).rank
    assert first
    assert second
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("container", "texts"),
    [
        (
            Container(),
            [f"Container({HOST}, {DEFAULTS}, ulimits=(), {UNSET}, mounts=(), entrypoint='')"],
        ),
        (
            Container(
                ipc="private",
                ulimits={"memlock": -1},
                mounts=(Mount("~/x", "/x", True),),
                ports=("9090:9090",),
                cpuset="0-9",
            ),
            [
                (
                    f"Container(network='host', ipc='private', {DEFAULTS}, ulimits=(('memlock', -1),), "
                    f"{UNSET}, mounts=({MOUNT},), entrypoint='')"
                ),
                "(('cpuset', '0-9'), ('ports', ['9090:9090']))",
            ],
        ),
    ],
)
def test_the_settings_in_a_fingerprint_have_the_form_that_those_on_hosts_were_made_from(
    container: Container, texts: list[str]
) -> None:
    assert list(render.container_texts(container)) == texts


def test_with_ray_every_rank_has_the_engines_args_and_the_head_runs_them() -> None:
    for rank in (0, 1):
        made = generation(host(rank, "ray", image=RAY))
        command = made.definition[made.definition.index(made.image) + 1 :]
        assert command[:2] == ("python3", "-c")
        assert command[3:6] == ("192.168.176.1,192.168.176.2", "spark-01,spark-02", str(rank))
        assert command[6:8] == ("vllm", "serve")
        assert command[8:] == made.argv
        assert flags(made.argv)["--distributed-executor-backend"] == "ray"
        assert "--nnodes" not in made.argv


def test_ranks_use_the_port_that_the_rollout_expects_to_be_free() -> None:
    starts = engines.on_host(engines.DEFAULT).cluster_starts
    assert str(starts["mp"].head_port) == flags(generation(host(1, "mp")).argv)["--master-port"]
    assert f'PORT = "{starts["ray"].head_port}"' in " ".join(generation(host(1, "ray", image=RAY)).definition)


def test_with_ray_memory_is_supervised_by_us_alone_and_each_spark_has_one_placement() -> None:
    env = dict(generation(host(1, "ray", image=RAY)).env)
    assert env["RAY_memory_monitor_refresh_ms"] == "0"
    assert '"SPREAD"' in env["VLLM_DISTRIBUTED_EXECUTOR_CONFIG"]
    assert env["VLLM_HOST_IP"] == "192.168.176.2"


def test_an_image_that_runs_vllm_by_itself_is_made_to_run_ray() -> None:
    made = generation(host(0, "ray", image=OLD_STOCK))
    assert made.definition[made.definition.index("--entrypoint") + 1] == "python3"
    assert made.definition[made.definition.index(made.image) + 1] == "-c"


@pytest.mark.parametrize(("executor", "image"), [("mp", None), ("ray", RAY), ("ray", OLD_STOCK)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_converged_member_has_an_empty_plan(executor: str, image: ImageRef | None, rank: int) -> None:
    declared = host(rank, executor, **({"image": image} if image else {}))
    assert plan(declared, converged(declared)).change_sets == ()


def test_an_image_whose_vllm_is_not_known_is_tried() -> None:
    nightly = replace(RAY, tag="nightly", engine_version="")
    declared = host(0, "ray", image=nightly)
    assert entry(plan(declared, fresh(declared))).blocked is None


def unlinked(declared: Host) -> Observed:
    seen = linked(0)
    return replace(
        fresh(declared),
        fabric=replace(seen, links=tuple(replace(link, carrier=False) for link in seen.links)),
    )


def test_without_a_cable_nothing_is_started() -> None:
    diagnostic = entry(plan(host(0), unlinked(host(0)))).blocked
    assert diagnostic is not None
    assert any("no cabled link" in one.message for one in diagnostic.each)


def test_a_members_own_service_is_no_matter_of_the_cluster() -> None:
    member = replace(host(1).member, service="other")  # type: ignore[type-var]
    own = replace(host(1), member=member)
    (service,) = (one for one in host_plan(own, fresh(own)).change_sets if rollouts(one))
    assert service.cluster == ""
    (rollout,) = rollouts(service)
    assert rollout.generation is not None
    assert rollout.generation.rank is None


def test_a_rank_that_leaves_its_cluster_is_replaced() -> None:
    seen = converged(host(1))
    alone = replace(host(1), member=None)
    (service,) = (one for one in host_plan(alone, seen).change_sets if one.subject == "wide")
    assert ("cluster", "pair (spark-01, spark-02) by mp, rank 1") in [
        (c.name, c.old) for c in service.fields()
    ]


def test_another_order_of_members_is_a_change_of_the_cluster() -> None:
    seen = converged(host(0))
    hosts = ("spark-01", "spark-03")
    other = replace(host(0), member=replace(host(0).member, hosts=hosts))  # type: ignore[type-var]
    (change,) = (c for c in entry(plan(other, seen)).fields() if c.name == "cluster")
    assert (change.old, change.new) == (
        "pair (spark-01, spark-02) by mp, rank 0",
        "pair (spark-01, spark-03) by mp, rank 0",
    )


def test_a_difference_that_all_ranks_share_is_a_change_even_if_no_field_shows_it() -> None:
    declared = host(0)
    seen = converged(declared)
    record = seen.generations["wide"]
    assert record.rank is not None
    promoted = replace(record, rank=replace(record.rank, fingerprint="another"))
    (change,) = entry(plan(declared, replace(seen, generations={"wide": promoted}))).fields()
    assert (change.name, change.key, change.old) == ("cluster", "fingerprint", "another")


def without_gid_choice(found: Generation) -> Generation:
    """Return a rank as versions without the variables of the GID choice rendered it."""
    later = {f"{name}={value}" for name, value in found.env if name in GID_CHOICE}
    parts = list(found.definition)
    for entry_text in later:
        place = parts.index(entry_text)
        del parts[place - 1 : place + 1]
    env = tuple(pair for pair in found.env if pair[0] not in GID_CHOICE)
    return replace(found, env=env, definition=tuple(parts))


@pytest.mark.parametrize(
    ("executor", "rank", "identity", "fingerprint"),
    [
        ("mp", 0, "4b204f8fad31", "08a3105921c8"),
        ("mp", 1, "1411268b0c7a", "08a3105921c8"),
        ("ray", 0, "1fc79e447b05", "a8ad33798d2e"),
        ("ray", 1, "11180b5719b7", "a8ad33798d2e"),
    ],
)
def test_a_cluster_that_an_older_version_made_is_not_recreated(
    executor: str, rank: int, identity: str, fingerprint: str
) -> None:
    """Values of the code at f014667, whose units differ in a few words: a unit is replaced in place.

    It did not have the variables that are deferred to the next new container.
    """
    found = without_gid_choice(cluster_fixtures.generation(cluster_fixtures.host(rank, executor)))
    assert found.rank is not None
    unit = found.unit.replace(" supervise wide ", " guard wide ").replace("reverted.", "put back.")
    unit = re.sub(r"^(Memory\w+|OOMPolicy)=.*\n", "", unit, flags=re.MULTILINE)
    assert (replace(found, unit=unit).id, found.rank.fingerprint) == (identity, fingerprint)


def test_a_leftover_process_at_the_heads_rendezvous_blocks_the_rollout_of_the_head_alone() -> None:
    start = engines.on_host("vllm").cluster_starts["mp"]
    left = {start.head_port: Listener(77, "vllm serve", "0::/user.slice")}
    head, worker = (plan(host(rank), replace(fresh(host(rank)), listeners=left)) for rank in (0, 1))
    blocked = entry(head).blocked
    assert blocked is not None
    assert (blocked.location, blocked.code) == (f"spark-01: port {start.head_port}", "port-in-use")
    assert entry(worker).blocked is None
    assert start.head_port in probe_request(host(0)).ports
    assert start.head_port not in probe_request(host(1)).ports


def of_the_former_version(declared: Host) -> Observed:
    """Return a member whose container was created before the variables of the GID choice existed."""
    seen = converged(declared)
    instances = tuple(
        replace(one, env=tuple(entry for entry in one.env if entry.partition("=")[0] not in GID_CHOICE))
        for one in seen.instances
    )
    assert instances != seen.instances
    return replace(seen, instances=instances)


def test_a_rank_of_the_former_version_keeps_its_container() -> None:
    assert plan(host(0), of_the_former_version(host(0))).change_sets == ()


def test_its_next_new_container_leaves_the_gid_index_to_nccl() -> None:
    declared = host(0, flags=(("tensor-parallel-size", 2), ("max-model-len", 1024)))
    fields = entry(plan(declared, of_the_former_version(host(0)))).fields()
    added = {(one.key, one.new) for one in fields if one.name == "env"}
    assert added == {("NCCL_IB_GID_INDEX", "-1"), ("NCCL_IB_ADDR_RANGE", "192.168.176.0/23")}


def test_another_index_than_declared_needs_a_new_container() -> None:
    seen = converged(host(0))
    instances = tuple(
        replace(one, env=tuple(entry.replace("GID_INDEX=-1", "GID_INDEX=3") for entry in one.env))
        for one in seen.instances
    )
    assert entry(plan(host(0), replace(seen, instances=instances))).operations
