"""The variables of a rank, from what is on its Spark."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from sparkfleet.plan.fabric.addresses import rails
from sparkfleet.plan.fabric.environment import environment, has_rdma
from tests.unit.plan.fabric.fabric_fixtures import cage, member, seen


def test_rendezvous_is_over_the_first_rail_and_data_goes_over_both_rdma_devices() -> None:
    assert environment(member(0), seen(), "VLLM_HOST_IP") == (
        ("VLLM_HOST_IP", "192.168.176.1"),
        ("NCCL_SOCKET_IFNAME", "enp1s0f1np1"),
        ("GLOO_SOCKET_IFNAME", "enp1s0f1np1"),
        ("TP_SOCKET_IFNAME", "enp1s0f1np1"),
        ("MN_IF_NAME", "enp1s0f1np1"),
        ("UCX_NET_DEVICES", "enp1s0f1np1"),
        ("OMPI_MCA_btl_tcp_if_include", "enp1s0f1np1"),
        ("NCCL_NET", "IB"),
        ("NCCL_IB_DISABLE", "0"),
        ("NCCL_IB_HCA", "=rocep1s0f1:1,roceP2p1s0f1:1"),
        ("NCCL_IB_ROCE_VERSION_NUM", "2"),
        ("NCCL_IB_ADDR_FAMILY", "AF_INET"),
        ("NCCL_IB_GID_INDEX", "-1"),
        ("NCCL_IB_ADDR_RANGE", "192.168.176.0/23"),
        ("NCCL_CROSS_NIC", "1"),
        ("NCCL_NVLS_ENABLE", "0"),
        ("NCCL_IGNORE_CPU_AFFINITY", "1"),
        ("NCCL_DEBUG", "INFO"),
        ("NCCL_DEBUG_SUBSYS", "INIT,NET"),
    )


def test_each_spark_has_the_names_of_its_own_cage() -> None:
    variables = dict(environment(member(1), seen(cabled=0), "VLLM_HOST_IP"))
    assert variables["VLLM_HOST_IP"] == "192.168.176.2"
    assert variables["NCCL_SOCKET_IFNAME"] == "enp1s0f0np0"
    assert variables["NCCL_IB_HCA"] == "=rocep1s0f0:1,roceP2p1s0f0:1"


def test_with_rendezvous_over_management_data_still_goes_over_the_fabric() -> None:
    variables = dict(environment(member(0, rendezvous="management"), seen(), "VLLM_HOST_IP"))
    assert (variables["VLLM_HOST_IP"], variables["GLOO_SOCKET_IFNAME"]) == ("192.168.1.21", "enP7s7")
    assert variables["NCCL_IB_HCA"] == "=rocep1s0f1:1,roceP2p1s0f1:1"


def test_without_rdma_data_goes_over_sockets_of_every_rail_and_never_over_management() -> None:
    no_verbs = replace(seen(), verbs=False)
    variables = dict(environment(member(0, rendezvous="management", tcp=True), no_verbs, "VLLM_HOST_IP"))
    assert variables["NCCL_SOCKET_IFNAME"] == "enp1s0f1np1,enP2p1s0f1np1"
    assert (variables["NCCL_NET"], variables["NCCL_IB_DISABLE"]) == ("Socket", "1")
    assert "NCCL_IB_HCA" not in variables


def test_with_tcp_allowed_nccl_may_fall_back_by_itself() -> None:
    assert "NCCL_NET" not in dict(environment(member(0, tcp=True), seen(), "VLLM_HOST_IP"))


def test_one_rail_without_an_rdma_device_is_no_rdma() -> None:
    first, second = cage(1)
    assert has_rdma(member(), seen())
    assert not has_rdma(member(), replace(seen(), links=(first, replace(second, rdma=""))))


def test_without_a_link_nothing_is_set() -> None:
    assert environment(member(0), replace(seen(), links=cage(1, carrier=False))) == ()


def test_the_index_of_a_gid_is_never_fixed_and_its_address_is_one_of_a_rail() -> None:
    for rank in (0, 1):
        variables = dict(environment(member(rank), seen()))
        assert variables["NCCL_IB_GID_INDEX"] == "-1"
        network = ipaddress.IPv4Network(variables["NCCL_IB_ADDR_RANGE"])
        assert all(rail.address.ip in network for rail in rails(member(rank), seen()))
        assert ipaddress.IPv4Address("169.254.7.7") not in network
