"""Cluster files: who is in which, what they share, and each way to get it wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.cli import cli
from sparkfleet.config import clusters
from sparkfleet.contract import codec
from sparkfleet.desired_state import Fabric, Member, host_from_json
from sparkfleet.engines.vllm import rules
from sparkfleet.plan.fabric.environment import environment
from tests.unit.config import fleet_files
from tests.unit.config.fleet_files import SMALL, FleetFiles
from tests.unit.plan.fabric import fabric_fixtures

PAIR = "hosts: [spark-01, spark-02]\n"
IDLE = {"spark-01.yaml": "serve: null\n", "spark-02.yaml": "serve: null\n"}


def cluster(text: str, **more: str) -> dict[str, str]:
    return {**IDLE, "clusters/pair.yaml": text, **more}


def recipe(**lines: str) -> dict[str, str]:
    content = "".join(f"{key}: {value}\n" for key, value in lines.items())
    return {"recipes/wide.yaml": f"recipe: wide\nextends: {SMALL}\n{content}"}


def test_each_member_has_its_place_and_the_one_service(fleet: Callable[..., FleetFiles]) -> None:
    first, second = fleet(cluster(f"{PAIR}serve: {SMALL}\n")).load().hosts
    assert first.member == Member("pair", 0, ("spark-01", "spark-02"), "ray", Fabric(), SMALL)
    assert second.member == Member("pair", 1, ("spark-01", "spark-02"), "ray", Fabric(), SMALL)
    assert first.services == second.services
    assert first.services[0].name == SMALL


def test_the_order_of_hosts_is_the_order_of_ranks(fleet: Callable[..., FleetFiles]) -> None:
    first, second = fleet(cluster(f"hosts: [spark-02, spark-01]\nserve: {SMALL}\n")).load().hosts
    assert first.member is not None
    assert second.member is not None
    assert (first.member.rank, second.member.rank) == (1, 0)


def test_executor_and_fabric_are_set_in_the_file(fleet: Callable[..., FleetFiles]) -> None:
    fabric = "{network: 10.9.0.0/16, mtu: 1500, rendezvous: management, tcp: true}"
    text = f"{PAIR}executor: mp\nfabric: {fabric}\n"
    first, _ = fleet(cluster(text)).load().hosts
    assert first.member is not None
    assert first.member.executor == "mp"
    assert first.member.fabric == Fabric("10.9.0.0/16", 1500, "management", True)
    assert first.member.service == ""
    assert first.services == ()


def test_a_member_survives_the_way_through_json(fleet: Callable[..., FleetFiles]) -> None:
    first, _ = fleet(cluster(f"{PAIR}serve: {SMALL}\n")).load().hosts
    assert host_from_json(codec.plain(first)) == first


def test_the_model_is_split_over_all_sparks_by_default(fleet: Callable[..., FleetFiles]) -> None:
    first, _ = fleet(cluster(f"{PAIR}serve: {SMALL}\n")).load().hosts
    assert dict(first.services[0].flags)["tensor-parallel-size"] == 2
    assert dict(first.services[0].origin)["flags.tensor-parallel-size"].endswith("clusters/pair.yaml:1")


def test_sizes_that_are_written_stay(fleet: Callable[..., FleetFiles]) -> None:
    text = f"{PAIR}serve: {{recipe: {SMALL}, flags: {{pipeline-parallel-size: 2}}}}\n"
    first, _ = fleet(cluster(text)).load().hosts
    flags = dict(first.services[0].flags)
    assert flags["pipeline-parallel-size"] == 2
    assert "tensor-parallel-size" not in flags


def test_the_cluster_wins_over_group_data_and_group_data_over_the_recipe(
    fleet: Callable[..., FleetFiles],
) -> None:
    text = f"{PAIR}serve: {{recipe: {SMALL}, flags: {{max-model-len: 1024}}}}\n"
    data = {"group_data/all.py": "sparkfleet = {'flags': {'max-model-len': 2048, 'max-num-seqs': 2}}"}
    first, _ = fleet({**cluster(text), **data}).load().hosts
    flags = dict(first.services[0].flags)
    assert (flags["max-model-len"], flags["max-num-seqs"]) == (1024, 2)


def test_the_reserve_of_a_host_file_wins_over_the_clusters(fleet: Callable[..., FleetFiles]) -> None:
    text = f"{PAIR}serve: {{recipe: {SMALL}, reserve_gib: 20}}\n"
    files = fleet({**cluster(text), "spark-02.yaml": "reserve_gib: 30\n"})
    assert [host.reserve_gib for host in files.load().hosts] == [20, 30]


def test_a_recipes_flag_for_a_single_spark_is_no_flag_of_the_cluster(
    fleet: Callable[..., FleetFiles],
) -> None:
    own = recipe(flags="{distributed-executor-backend: mp, tensor-parallel-size: 1}")
    first, _ = fleet({**cluster(f"{PAIR}serve: wide\n"), **own}).load().hosts
    flags = dict(first.services[0].flags)
    assert "distributed-executor-backend" not in flags
    assert flags["tensor-parallel-size"] == 2


def test_members_may_serve_other_models_of_their_own_beside(fleet: Callable[..., FleetFiles]) -> None:
    share = "{gpu-memory-utilization: 0.4}"
    text = f"{PAIR}serve: {{recipe: {SMALL}, name: wide, flags: {share}}}\n"
    own = {"spark-02.yaml": f"serve: {{recipe: {SMALL}, name: own, flags: {share}}}\n"}
    first, second = fleet({**cluster(text), **own}).load().hosts
    assert [service.name for service in first.services] == ["wide"]
    assert [(service.name, service.port) for service in second.services] == [("own", 8000), ("wide", 8001)]
    assert first.services[0].port == 8001


def test_own_services_keep_off_the_port_that_the_cluster_file_writes(
    fleet: Callable[..., FleetFiles],
) -> None:
    share = "{gpu-memory-utilization: 0.4}"
    text = f"{PAIR}serve: {{recipe: {SMALL}, name: wide, port: 8000, flags: {share}}}\n"
    own = {"spark-02.yaml": f"serve: {{recipe: {SMALL}, name: own, flags: {share}}}\n"}
    _, second = fleet({**cluster(text), **own}).load().hosts
    assert [service.port for service in second.services] == [8001, 8000]


def test_a_fleet_has_several_clusters_and_single_sparks(fleet: Callable[..., FleetFiles]) -> None:
    files = {f"spark-0{number}.yaml": "serve: null\n" for number in range(1, 5)}
    files["spark-05.yaml"] = f"serve: {SMALL}\n"
    files["clusters/a.yaml"] = f"hosts: [spark-01, spark-02]\nserve: {SMALL}\n"
    files["clusters/b.yaml"] = f"hosts: [spark-03, spark-04]\nserve: {SMALL}\n"
    hosts = fleet(files).load().hosts
    assert [host.member.cluster if host.member else "" for host in hosts] == ["a", "a", "b", "b", ""]


@pytest.mark.provokes("host-unknown")
def test_an_unknown_host_is_reported_with_the_nearest(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet(
        cluster(f"executor: mp\nhosts:\n  - spark-01\n  - spark-2\nserve: {SMALL}\n")
    ).diagnostic()
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:4"
    assert diagnostic.message == "unknown host 'spark-2'"
    assert diagnostic.hint == "did you mean 'spark-02'?"


def test_an_unknown_host_like_no_other_asks_for_its_file(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet(cluster("hosts: [spark-01, spark-02, zzz]\n")).diagnostic()
    assert diagnostic.hint == "write the host file zzz.yaml"


def test_a_spark_twice_in_one_cluster_is_an_error(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet(cluster("hosts: [spark-01, spark-01]\n")).diagnostic()
    assert diagnostic.message == "duplicate host 'spark-01'"


def test_a_spark_in_two_clusters_is_an_error(fleet: Callable[..., FleetFiles]) -> None:
    files = {**cluster(PAIR), "spark-03.yaml": "", "clusters/other.yaml": "hosts: [spark-03, spark-02]\n"}
    files["spark-03.yaml"] = "serve: null\n"
    diagnostic = fleet(files).diagnostic()
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:1"
    assert diagnostic.message == "'spark-02' is already in the cluster 'other'"


def at_a_switch(fleet: Callable[..., FleetFiles], more_of_three: str = "", more_of_pair: str = "") -> Any:
    files = {f"spark-0{number}.yaml": "serve: null\n" for number in range(1, 6)}
    files["clusters/three.yaml"] = f"hosts: [spark-03, spark-04, spark-05]\n{more_of_three}"
    files["clusters/pair.yaml"] = f"{PAIR}{more_of_pair}"
    return fleet(files).load().warnings


def test_clusters_with_the_same_addresses_at_a_switch_are_reported(
    fleet: Callable[..., FleetFiles],
) -> None:
    (warning,) = at_a_switch(fleet)
    assert warning.startswith("inventories/lab/clusters/three.yaml:1: the clusters 'pair' and 'three' have ")
    assert len(at_a_switch(fleet, more_of_pair="fabric: {network: 192.168.184.0/21}\n")) == 1


def test_networks_of_their_own_or_cables_between_them_alone_are_nothing_to_tell(
    fleet: Callable[..., FleetFiles],
) -> None:
    assert at_a_switch(fleet, more_of_pair="fabric: {network: 10.9.0.0/16}\n") == ()
    assert at_a_switch(fleet, more_of_three="fabric: {ring: true}\n") == ()


@pytest.mark.provokes("cluster-hosts-invalid")
@pytest.mark.parametrize(("hosts", "message"), [("[]", "no hosts"), ("[spark-01]", "only one host")])
def test_less_than_two_sparks_are_no_cluster(
    fleet: Callable[..., FleetFiles], hosts: str, message: str
) -> None:
    assert fleet(cluster(f"hosts: {hosts}\n")).diagnostic().message == f"the cluster has {message}"


@pytest.mark.provokes("cluster-too-small")
def test_a_cluster_smaller_than_the_recipe_needs_is_an_error(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet({**cluster(f"{PAIR}serve: wide\n"), **recipe(requires="{sparks: 4}")}).diagnostic()
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:1"
    assert (diagnostic.message, diagnostic.expected) == ("2 Sparks for the recipe 'wide'", "at least 4")


def test_a_recipe_for_several_sparks_is_refused_for_one(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet({"spark-01.yaml": "serve: wide\n", **recipe(requires="{sparks: 2}")}).diagnostic()
    assert diagnostic.location == "inventories/lab/spark-01.yaml:1"
    assert diagnostic.message == "the recipe 'wide' needs 2 Sparks"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("{tensor-parallel-size: 4}", "tensor-parallel-size 4: 4 GPUs on 2 Sparks"),
        ("{tensor-parallel-size: 1}", "no flag of parallelism: 1 GPUs on 2 Sparks"),
        (
            "{tensor-parallel-size: 2, pipeline-parallel-size: 2}",
            "tensor-parallel-size 2 x pipeline-parallel-size 2: 4 GPUs on 2 Sparks",
        ),
        ("{data-parallel-size: 3}", "data-parallel-size 3: 3 GPUs on 2 Sparks"),
    ],
)
def test_sizes_that_do_not_come_to_the_number_of_sparks_are_errors(
    fleet: Callable[..., FleetFiles], flags: str, found: str
) -> None:
    diagnostic = fleet(cluster(f"{PAIR}serve:\n  recipe: {SMALL}\n  flags: {flags}\n")).diagnostic()
    assert diagnostic.message == found


def locked_with(files: FleetFiles, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> FleetFiles:
    """Pin the fleet to a model with this config."""
    made = fleet_files._model

    def with_config(repo: str, revision: str) -> Any:
        locked = made(repo, revision)
        return replace(locked, weights=replace(locked.weights, config=tuple(config.items())))

    monkeypatch.setattr(fleet_files, "_model", with_config)
    files.pin()
    return files


@pytest.mark.provokes("parallelism-invalid")
@pytest.mark.parametrize("config", [{"num_attention_heads": 3}, {"text_config": {"num_attention_heads": 3}}])
def test_tensor_parallelism_that_does_not_divide_the_heads_is_an_error(
    fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch, config: Any
) -> None:
    files = locked_with(fleet(cluster(f"{PAIR}serve: {SMALL}\n")), monkeypatch, config)
    diagnostic = files.diagnostic(need_lock=True)
    assert diagnostic.message == "tensor-parallel-size 2 does not divide the model's 3 attention heads"
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:1"


SIXTEEN = {"num_attention_heads": 16, "num_hidden_layers": 4}


@pytest.mark.parametrize(
    ("config", "flags", "found"),
    [
        (
            {**SIXTEEN, "num_key_value_heads": 3},
            "{tensor-parallel-size: 2}",
            "tensor-parallel-size 2 for a model with 3 heads of keys and values",
        ),
        (
            {"num_attention_heads": 16, "num_hidden_layers": 1},
            "{pipeline-parallel-size: 2}",
            "pipeline-parallel-size 2 for a model of 1 layers",
        ),
        (
            SIXTEEN,
            "{tensor-parallel-size: 2, enable-expert-parallel: true}",
            "enable-expert-parallel for a model without experts",
        ),
    ],
)
def test_a_split_that_the_model_does_not_bear_is_an_error_at_its_flag(
    fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch, config: Any, flags: str, found: str
) -> None:
    text = f"{PAIR}serve:\n  recipe: {SMALL}\n  flags: {flags}\n"
    diagnostic = locked_with(fleet(cluster(text)), monkeypatch, config).diagnostic(need_lock=True)
    assert diagnostic.message == found
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:4"


def test_a_size_of_nothing_is_an_error_also_for_a_model_that_is_known(
    fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = locked_with(fleet(cluster(f"{PAIR}serve: {SMALL}\n")), monkeypatch, SIXTEEN)
    flags = "{tensor-parallel-size: 0}"
    (files.directory / "clusters" / "pair.yaml").write_text(
        f"{PAIR}serve: {{recipe: {SMALL}, flags: {flags}}}\n"
    )
    assert files.diagnostic(need_lock=True).message == "tensor-parallel-size 0: 0 GPUs on 2 Sparks"


@pytest.mark.parametrize(
    "config",
    [
        {**SIXTEEN, "num_key_value_heads": 8, "num_experts": 128},
        {**SIXTEEN, "num_key_value_heads": 1, "text_config": {"n_routed_experts": 64}},
        {**SIXTEEN, "num_key_value_heads": [2, 4], "moe_num_experts": [0, 64]},
        {"num_local_experts": 8},
        {},
    ],
)
def test_a_split_that_the_model_bears_or_of_which_nothing_is_known_passes(
    fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch, config: Any
) -> None:
    flags = "{tensor-parallel-size: 2, enable-expert-parallel: true}"
    text = f"{PAIR}serve:\n  recipe: {SMALL}\n  flags: {flags}\n"
    first, _ = locked_with(fleet(cluster(text)), monkeypatch, config).load(need_lock=True).hosts
    assert dict(first.services[0].flags)["enable-expert-parallel"] is True


@pytest.mark.provokes("flag-reserved")
@pytest.mark.parametrize("flag", ["nnodes", "node_rank", "distributed-executor-backend"])
def test_flags_that_the_cluster_file_decides_are_refused(fleet: Callable[..., FleetFiles], flag: str) -> None:
    diagnostic = fleet(cluster(f"{PAIR}serve:\n  recipe: {SMALL}\n  flags:\n    {flag}: 1\n")).diagnostic()
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:5"
    assert diagnostic.message == f"flag '{flag}' is set by sparkfleet in a cluster"


@pytest.mark.provokes("port-conflict")
def test_a_port_that_a_members_own_service_has_is_an_error_at_the_cluster(
    fleet: Callable[..., FleetFiles],
) -> None:
    share = "{gpu-memory-utilization: 0.4}"
    text = f"{PAIR}serve: {{recipe: {SMALL}, name: wide, port: 8000, flags: {share}}}\n"
    own = {"spark-02.yaml": f"serve: {{recipe: {SMALL}, name: own, port: 8000, flags: {share}}}\n"}
    diagnostic = fleet({**cluster(text), **own}).diagnostic()
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:2"
    assert diagnostic.message == "port 8000 is already used by the service 'own'"


@pytest.mark.provokes("memory-overcommitted")
def test_memory_of_the_cluster_and_of_own_services_is_added_up(fleet: Callable[..., FleetFiles]) -> None:
    text = f"{PAIR}serve: {{recipe: {SMALL}, name: wide}}\n"
    own = {"spark-02.yaml": f"serve: {{recipe: {SMALL}, name: own}}\n"}
    diagnostic = fleet({**cluster(text), **own}).diagnostic()
    assert diagnostic.location == "inventories/lab/spark-02.yaml:1"
    assert "85 % (own) + 85 % (wide)" in diagnostic.message


def test_a_list_of_services_is_refused_for_a_cluster(fleet: Callable[..., FleetFiles]) -> None:
    diagnostic = fleet(cluster(f"{PAIR}serve: [{SMALL}]\n")).diagnostic()
    assert diagnostic.message == "'serve' is a list"


@pytest.mark.parametrize("network", ["10.0.0.0/24", "10.0.0.1/16", "fd00::/64", "here"])
def test_a_network_without_room_for_two_rails_is_refused(
    fleet: Callable[..., FleetFiles], network: str
) -> None:
    diagnostic = fleet(cluster(f"{PAIR}fabric:\n  network: '{network}'\n")).diagnostic()
    assert diagnostic.location == "inventories/lab/clusters/pair.yaml:3"
    assert diagnostic.message == f"'fabric.network' is '{network}'"


def three(text: str) -> dict[str, str]:
    more = {f"spark-0{number}.yaml": "serve: null\n" for number in (3, 4)}
    return cluster(text, **more)


def test_three_sparks_without_a_switch_are_a_ring(fleet: Callable[..., FleetFiles]) -> None:
    hosts = fleet(three("hosts: [spark-01, spark-02, spark-03]\nfabric: {ring: true}\n")).load().hosts
    assert [host.member.fabric.ring for host in hosts if host.member] == [True] * 3


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        ("spark-01, spark-02", "two Sparks are connected by one cable"),
        ("spark-01, spark-02, spark-03, spark-04", "to a switch"),
    ],
)
def test_a_ring_of_another_number_is_an_error_with_the_way_out(
    fleet: Callable[..., FleetFiles], names: str, remedy: str
) -> None:
    diagnostic = fleet(three(f"hosts: [{names}]\nfabric:\n  ring: true\n")).diagnostic()
    assert diagnostic.location.endswith("clusters/pair.yaml:3")
    assert diagnostic.message == f"a ring of {names.count('spark')} Sparks"
    assert remedy in diagnostic.hint


def test_a_ring_needs_a_network_with_room_for_six_subnets(fleet: Callable[..., FleetFiles]) -> None:
    text = "hosts: [spark-01, spark-02, spark-03]\nfabric: {ring: true, network: 10.9.0.0/22}\n"
    assert "at least a /21" in fleet(three(text)).diagnostic().expected


@pytest.mark.provokes("yaml-unknown-key")
def test_unknown_keys_and_a_wrong_service_are_reported_in_one_run(fleet: Callable[..., FleetFiles]) -> None:
    text = f"{PAIR}excutor: mp\nserve:\n  recip: {SMALL}\n"
    found = {diagnostic.message for diagnostic in fleet(cluster(text)).diagnostics()}
    assert found == {"unknown key 'excutor'", "unknown key 'serve.recip'"}


@pytest.mark.provokes("yaml-invalid-value")
def test_a_cluster_file_without_keys_is_reported(fleet: Callable[..., FleetFiles]) -> None:
    assert fleet(cluster("- spark-01\n")).diagnostic().message == "the file is a list"


def test_a_cluster_whose_recipe_is_wrong_hides_no_other_mistake(fleet: Callable[..., FleetFiles]) -> None:
    found = {
        diagnostic.message
        for diagnostic in fleet(cluster("hosts: [spark-01]\nserve: nosuch\n")).diagnostics()
    }
    assert found == {"unknown recipe 'nosuch'", "the cluster has only one host"}


def test_a_wrong_service_of_a_members_own_is_reported_once(fleet: Callable[..., FleetFiles]) -> None:
    files = {**cluster(f"{PAIR}serve: {SMALL}\n"), "spark-02.yaml": "serve: nosuch\n"}
    assert fleet(files).diagnostic().message == "unknown recipe 'nosuch'"


@pytest.mark.provokes("file-name-invalid")
def test_the_files_name_is_the_clusters(fleet: Callable[..., FleetFiles]) -> None:
    found = {diagnostic.message for diagnostic in fleet({**IDLE, "clusters/Pair.yml": PAIR}).diagnostics()}
    assert found == {"the file name ends with '.yml'", "'Pair' is not a valid cluster name"}


def test_a_lock_is_requested_once_for_all_members(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(cluster(f"{PAIR}serve: {SMALL}\n"))
    assert len(files.pin().images) == 1
    assert len(files.pin().models) == 1


def test_check_counts_the_service_of_a_cluster_once(
    fleet: Callable[..., FleetFiles], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet(cluster(f"{PAIR}serve: {SMALL}\n")).pin()
    with pytest.raises(SystemExit):
        cli.main(["check", "inventories/lab.py"])
    assert "2 Sparks, 1 cluster, 1 service:" in capsys.readouterr().out


def test_no_rule_of_a_single_spark_applies_to_a_cluster(fleet: Callable[..., FleetFiles]) -> None:
    first, _ = fleet(cluster(f"{PAIR}serve: {SMALL}\n")).load().hosts
    service = first.services[0]
    assert "BK-04" in {found.code for found in rules.check(service, replace(first, member=None))}
    assert "BK-04" not in {found.code for found in rules.check(service, first)}


def test_an_alias_of_a_flag_is_the_flag(fleet: Callable[..., FleetFiles]) -> None:
    first, _ = fleet(cluster(f"{PAIR}serve: {{recipe: {SMALL}, flags: {{tp: 1, pp: 2}}}}\n")).load().hosts
    flags = dict(first.services[0].flags)
    assert (flags["tensor-parallel-size"], flags["pipeline-parallel-size"]) == (1, 2)
    found = fleet(cluster(f"{PAIR}serve: {{recipe: {SMALL}, flags: {{n: 2}}}}\n")).diagnostic()
    assert found.code == "flag-reserved"


def test_variables_that_differ_between_sparks_are_those_that_the_fabric_sets(
    fleet: Callable[..., FleetFiles],
) -> None:
    set_by_fabric = {
        name for name, _ in environment(fabric_fixtures.member(0), fabric_fixtures.seen(), "VLLM_HOST_IP")
    }
    assert set_by_fabric - clusters.OF_EACH_SPARK == {
        "VLLM_HOST_IP",
        "NCCL_IB_ROCE_VERSION_NUM",
        "NCCL_IB_ADDR_FAMILY",
        "NCCL_CROSS_NIC",
        "NCCL_NVLS_ENABLE",
        "NCCL_IGNORE_CPU_AFFINITY",
        "NCCL_DEBUG",
        "NCCL_DEBUG_SUBSYS",
    }
    files = fleet(cluster(f"{PAIR}serve: {{recipe: {SMALL}, env: {{NCCL_DEBUG: WARN}}}}\n"))
    assert files.load().warnings == ()
