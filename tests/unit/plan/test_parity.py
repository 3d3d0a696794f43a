"""What several Sparks are compared for: what differs, what is shared, and what is unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import Severity
from sparkfleet.plan import parity
from sparkfleet.plan.as_json import plan_data
from sparkfleet.plan.cluster.join import join_members
from sparkfleet.plan.model import HostPlan, HostState, Plan
from sparkfleet.plan.parity import (
    Unknown,
    machine_values,
    member_differences,
    row,
    shared_identities,
    warnings,
)
from sparkfleet.plan.report import plan_text
from sparkfleet.probe.machine import (
    CMDLINE,
    DRIVER,
    HOST_KEYS,
    KERNEL,
    MACHINE_ID,
    ObservedMachine,
    unknown_machine,
)
from tests.unit.plan.cluster.cluster_fixtures import NAMES, converged, fresh, host, plan

MEMBERS = {name: member for rank, name in enumerate(NAMES) if (member := host(rank).member)}
SPARK = ObservedMachine(
    name="spark-01", kernel="7.0.0-19-nvidia", machine_id="a" * 32, boot_id="1", parameters=("kho=off", "ro"),
    driver="580.178.04", flavour="open", firmware=("28.45.4028",), host_keys=(("ssh-ed25519", "SHA256:a"),),
)  # fmt: skip
OTHER = replace(
    SPARK, name="spark-02", machine_id="b" * 32, boot_id="2", host_keys=(("ssh-ed25519", "SHA256:b"),)
)


GOLDEN = Path(__file__).parents[2] / "golden" / "plan"


def plans(first: ObservedMachine | None, second: ObservedMachine | None) -> tuple[HostPlan, ...]:
    return HostPlan("spark-01", machine=first), HostPlan("spark-02", machine=second)


def messages(first: ObservedMachine, second: ObservedMachine) -> list[str]:
    return [one.message for one in warnings(plans(first, second), MEMBERS)]


def test_a_host_that_cannot_be_compared_is_named_and_the_others_are() -> None:
    odd = replace(SPARK, parameters=3)  # type: ignore[arg-type]
    third = HostPlan("spark-03", machine=OTHER)
    found = warnings((*plans(odd, OTHER), third), MEMBERS)
    assert [(one.location, one.code) for one in found] == [
        ("spark-01", "host-state-unreadable"),
        ("spark-02, spark-03", "host-address-duplicate"),
    ]
    assert {one.severity for one in found} == {Severity.WARNING}


def test_members_that_are_alike_give_no_warning() -> None:
    assert messages(SPARK, OTHER) == []


OLD = "6.17.0-1032-nvidia"
DIFFERENT = {
    "kernel": (replace(OTHER, kernel=OLD), f"kernel: 7.0.0-19-nvidia on spark-01, {OLD} on spark-02"),
    "boot parameters": (
        replace(OTHER, parameters=("ro",)), "boot parameters: kho=off on spark-01, none on spark-02",
    ),
    "GPU driver": (
        replace(OTHER, driver="580.95.05"), "GPU driver: 580.178.04 on spark-01, 580.95.05 on spark-02",
    ),
    "GPU driver flavour": (
        replace(OTHER, flavour="proprietary"), "flavour: open on spark-01, proprietary on spark-02",
    ),
    "firmware": (
        replace(OTHER, firmware=("28.40.1000",)), "firmware: 28.45.4028 on spark-01, 28.40.1000 on spark-02",
    ),
    "no driver": (replace(OTHER, driver=""), "GPU driver: 580.178.04 on spark-01, none on spark-02"),
}  # fmt: skip


@pytest.mark.provokes("cluster-members-differ")
@pytest.mark.parametrize("second, text", DIFFERENT.values(), ids=DIFFERENT)
def test_what_members_should_have_in_common_is_a_warning_with_its_remedy(
    second: ObservedMachine, text: str
) -> None:
    (found,) = warnings(plans(SPARK, second), MEMBERS)
    assert text in found.message
    assert (found.location, found.code) == ("cluster pair", "cluster-members-differ")
    assert found.severity is Severity.WARNING
    assert found.hint


@pytest.mark.parametrize("path", [KERNEL, CMDLINE, DRIVER])
def test_what_cannot_be_read_neither_differs_nor_is_equal(path: str) -> None:
    second = replace(OTHER, kernel="", parameters=(), driver="", flavour="", unread={path: "no permission"})
    names = [one.name for one in parity.PROPERTIES if one.path == path]
    assert names
    for name in names:
        found = row(name, machine_values({"spark-01": SPARK, "spark-02": second})[name])
        assert (found.differs, found.is_equal) == (False, False)
        assert found.text.endswith(" on spark-01, unknown on spark-02")
        assert not any(text.startswith(f"{name}: ") for text in messages(SPARK, second))


def test_a_spark_of_which_nothing_is_known_is_not_compared() -> None:
    assert messages(SPARK, unknown_machine("x")) == messages(unknown_machine("x"), unknown_machine("x")) == []
    assert warnings(plans(SPARK, None), MEMBERS) == ()


def test_a_member_without_a_card_is_for_the_fabric_to_report() -> None:
    assert messages(SPARK, replace(OTHER, firmware=())) == []


def test_hosts_outside_of_a_cluster_may_differ() -> None:
    assert warnings(plans(SPARK, replace(OTHER, kernel="6.17.0-1032-nvidia")), {}) == ()


def test_a_row_omits_the_parts_of_a_value_that_all_hosts_have() -> None:
    found = row("x", {"a-1": ("p", "q"), "a-2": ("q",), "a-3": ("p", "q"), "a-4": Unknown("y")})
    assert found.values == (("p", ("a-1", "a-3")), ("none", ("a-2",)))
    assert found.text == "p on a-1, a-3, none on a-2, unknown on a-4"
    order = row("x", {"a": ("k=1", "k=2"), "b": ("k=2", "k=1")})
    assert order.text == "k=1 k=2 on a, k=2 k=1 on b"


def test_the_value_of_a_secret_parameter_is_compared_and_not_shown() -> None:
    first, second = (
        replace(one, parameters=(f"x.password=canary{n}",)) for n, one in enumerate((SPARK, OTHER))
    )
    (text,) = messages(first, second)
    assert "x.password=*** on spark-01, x.password=*** on spark-02" in text
    assert "canary" not in text


@pytest.mark.provokes("machine-id-shared", "ssh-host-key-shared")
def test_hosts_with_one_identity_are_named_with_the_commands_that_end_it() -> None:
    twin = replace(OTHER, machine_id=SPARK.machine_id, host_keys=SPARK.host_keys)
    found = warnings(plans(SPARK, twin), {})
    assert [one.code for one in found] == ["machine-id-shared", "ssh-host-key-shared"]
    assert {one.location for one in found} == {"spark-01, spark-02"}
    assert {one.severity for one in found} == {Severity.WARNING}
    assert "systemd-machine-id-setup" in found[0].hint
    assert "ssh-keygen -A" in found[1].hint
    assert "ssh-keygen -R" in found[1].hint
    assert not any(SPARK.machine_id in str(one) for one in found)


def test_one_key_of_several_is_enough_and_is_named_once() -> None:
    keys = (("ssh-rsa", "SHA256:c"), ("ecdsa", "SHA256:d"))
    first, second = (replace(one, host_keys=(*one.host_keys, *keys)) for one in (SPARK, OTHER))
    assert [one.name for one in shared_identities({"spark-01": first, "spark-02": second})] == [
        "SSH host key"
    ]


def test_an_identity_that_is_empty_or_unread_is_not_shared() -> None:
    empty = replace(SPARK, machine_id="", host_keys=())
    unread = replace(SPARK, machine_id="", host_keys=(), unread={MACHINE_ID: "x", HOST_KEYS: "x"})
    for one in (empty, unread):
        assert shared_identities({"spark-01": one, "spark-02": one}) == ()


def test_two_names_of_one_spark_are_no_two_sparks_with_one_identity() -> None:
    (found,) = shared_identities({"spark-01": SPARK, "desk": SPARK})
    assert found.diagnostic.code == "host-address-duplicate"
    assert found.diagnostic.location == "spark-01, desk"


def test_a_warning_is_in_report_and_json_and_changes_no_exit_code() -> None:
    found = Plan(plans(SPARK, OTHER), warnings=warnings(plans(SPARK, replace(OTHER, parameters=())), MEMBERS))
    assert found.exit_code == 0
    assert plan_text(found) == (GOLDEN / "parity.txt").read_text()
    (one,) = json.loads(json.dumps(plan_data(found)))["warnings"]
    assert (one["severity"], one["code"]) == ("warning", "cluster-members-differ")


def test_a_plan_has_what_its_probe_read() -> None:
    one = plan(host(0), replace(converged(host(0)), machine=SPARK))
    assert one.machine == SPARK


@pytest.mark.provokes("cluster-image-differs")
def test_an_image_with_other_content_on_one_member_blocks_all_before_anything_stops() -> None:
    found = []
    for rank in (0, 1):
        declared = host(rank, flags=(("tensor-parallel-size", 2), ("max-model-len", 1024)))
        seen = converged(host(rank))
        images = {
            name: replace(image, id="sha256:other") if image and rank else image
            for name, image in seen.images.items()
        }
        found.append(plan(declared, replace(seen, images=images)))
    joined = join_members(found, MEMBERS)
    for one in joined.values():
        assert one.state is HostState.BLOCKED
        reasons = [reason for own in one.change_sets if own.blocked for reason in own.blocked.each]
        assert any("spark-02 has other content of " in reason.message for reason in reasons)


def test_an_image_that_one_member_lacks_does_not_block() -> None:
    first = plan(host(0), converged(host(0)))
    joined = join_members((first, plan(host(1), fresh(host(1)))), MEMBERS)
    assert {one.state for one in joined.values()} == {HostState.CHANGE}


def test_all_rules_are_for_rows_that_exist() -> None:
    known = {one.name for one in parity.PROPERTIES} | {parity.CLOCKS_ROW}
    assert set(parity.DIFFERENCES) == known
    assert list(member_differences("pair", {})) == []
