"""What is declared of the Spark itself against how it is: rows, what goes back, what stands against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract.resources import Applied
from sparkfleet.desired_state import Host, Prepare
from sparkfleet.plan import resource_changes
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import Action, ChangeKind, FieldChange, HostState
from sparkfleet.plan.report import SIGNS
from sparkfleet.probe.observation import Observed, ObservedResources
from sparkfleet.resources.base import NO_SOURCE, Resource
from tests.unit.plan import fake_spark

SYSCTL = Resource("sysctl", "vm.swappiness", (("now", "10"), ("at boot", "10")), where="group_data/all.py")
GROUP = Resource("group", "docker @login", (("member", "yes"),))
FILE = Resource(
    "file", "/etc/motd", (("sha256", "a" * 64), ("mode", "0644"), ("owner", "root")), content="aGk="
)
HOME = Resource("directory", "~/vllm", (("mode", "0755"), ("owner", "@login")), "@login 1000")
LOGIN = Resource("login", "nvcr.io", (("secret", "as declared"),), source="env:NGC", user="$oauthtoken")
GPU = Resource(
    "gpu", "gpu", (("persistence", "1"), ("power limit", "100"), ("clocks", ""), ("unit", "enabled active"))
)
SERVICE = Resource("service", "earlyoom.service", (("at boot", "disabled"), ("now", "inactive")))
RULE = Resource("sudoers", "worker", (("rule", "worker ALL=..."), ("mode", "0440"), ("owner", "root")))


def host(*resources: Resource) -> Host:
    return Host("spark-01", (), prepare=Prepare(resources=resources))


def seen(live: Mapping[str, Mapping[str, Any]], record: Mapping[str, Applied] | None = None) -> Observed:
    """Return an idle Spark with our programs, where these things are so."""
    bare = fake_spark.converged(host(SYSCTL))
    return replace(bare, resources=ObservedResources(record or {}, live), recorded=tuple(record or {}))


def entry(item: Resource, before: Mapping[str, Any], **put: str) -> Applied:
    applied = {**dict(item.fields), **{name.replace("_", " "): value for name, value in put.items()}}
    return Applied(item.kind, item.key, item.arg, dict(before), applied)


def rows(declared: Host, spark: Observed) -> list[tuple[str, str, str, str, str, str]]:
    found = []
    for one in host_plan(declared, spark).change_sets:
        found += [(SIGNS[c.action], c.name, c.key, c.old, c.new, c.note) for c in one.fields()]
        found += [("=", n.name, n.key, "", n.text, n.remark) for n in one.notes]
    return found


def test_what_is_as_declared_is_no_row() -> None:
    spark = seen({SYSCTL.id: {"now": "10", "at boot": "10"}})
    assert host_plan(host(SYSCTL), spark).state is HostState.UNCHANGED


def test_each_field_that_differs_is_a_row_with_old_and_new() -> None:
    assert rows(host(SYSCTL), seen({SYSCTL.id: {"now": "60", "at boot": ""}})) == [
        ("~", "sysctl", "vm.swappiness", "60", "10", "now"),
        ("+", "sysctl", "vm.swappiness", "", "10", "at boot"),
    ]


def test_the_login_user_stands_in_for_its_sign() -> None:
    request = probe_request(host(GROUP, HOME))
    assert request.resources == (("group", "docker @login", ""), ("directory", "~/vllm", "@login 1000"))
    spark = seen({"group docker nvidia": {"member": "no"}, "directory /home/nvidia/vllm": {"is": "absent"}})
    assert rows(host(GROUP, HOME), spark) == [
        ("~", "group", "docker nvidia", "no", "yes", ""),
        ("+", "directory", "/home/nvidia/vllm", "", "0755 nvidia", ""),
    ]


def test_a_probe_does_not_request_undeclared_resources() -> None:
    assert probe_request(host()).resources is None


@pytest.mark.parametrize(
    ("item", "new"),
    [
        (FILE, "0644 root"),
        (GPU, "persistence on, power limit 100 W"),
        (LOGIN, "as $oauthtoken"),
        (replace(LOGIN, arg="pass"), "as $oauthtoken, kept by pass"),
        (RULE, "worker ALL=..."),
        (Resource("package", "htop", (("is", "installed"),)), ""),
    ],
)
def test_what_is_not_there_yet_is_one_row(item: Resource, new: str) -> None:
    spark = seen({item.id: {"is": "absent", "secret": ""}})
    assert rows(host(item), spark) == [("+", item.kind, item.key, "", new, "")]


def test_values_are_shown_as_people_know_them() -> None:
    live = {
        GPU.id: {"persistence": "", "power limit": "140", "clocks": "300,900", "unit": "disabled inactive"},
        FILE.id: {"is": "file", "sha256": "b" * 64, "mode": "0644", "owner": "root"},
        "hold nvidia-*": {"held": "", "free": "nvidia-a nvidia-b"},
        "linux_swap swap": {"now": "/dev/sda2", "at boot": ""},
    }
    hold = Resource("hold", "nvidia-*", (("free", ""),))
    linux_swap = Resource("linux_swap", "swap", (("now", ""), ("at boot", "")))
    assert rows(host(GPU, FILE, hold, linux_swap), seen(live)) == [
        ("+", "gpu", "gpu", "", "on", "persistence"),
        ("~", "gpu", "gpu", "140 W", "100 W", "power limit"),
        ("~", "gpu", "gpu", "300,900 MHz", "as before", "clocks"),
        ("~", "gpu", "gpu", "disabled inactive", "enabled active", "unit"),
        ("~", "file", "/etc/motd", "b" * 12, "a" * 12, "content"),
        ("~", "hold", "nvidia-*", "nvidia-a nvidia-b free", "held", ""),
        ("~", "linux_swap", "swap", "/dev/sda2", "off", "now"),
    ]


def test_entries_of_others_are_offered_and_not_taken() -> None:
    live = {"is": "directory", "mode": "0700", "owner": "nvidia", "others": "3", "empty": "no"}
    found = rows(host(HOME), seen({"directory /home/nvidia/vllm": live}))
    assert found[-1] == (
        "=", "directory", "/home/nvidia/vllm", "", "3 entries of other owners inside",
        "sudo chown -R nvidia /home/nvidia/vllm, or declare 'chown_contents_max:'",
    )  # fmt: skip
    many = rows(host(HOME), seen({"directory /home/nvidia/vllm": {**live, "others": "many"}}))
    assert many[-1][4] == "more than 1000 entries of other owners inside"
    alone = seen({"directory /home/nvidia/vllm": {**live, "mode": "0755"}})
    assert rows(host(HOME), alone) == []  # an offer alone is no change


def test_a_link_is_left_to_whom_made_it() -> None:
    assert rows(host(HOME), seen({"directory /home/nvidia/vllm": {"is": "link", "owner": "root"}})) == []


def test_a_resource_that_is_no_longer_declared_gets_its_previous_state() -> None:
    record = {SYSCTL.id: entry(SYSCTL, {"now": "60", "at boot": ""})}
    assert rows(host(), seen({SYSCTL.id: {"now": "10", "at boot": "10"}}, record)) == [
        ("-", "sysctl", "vm.swappiness", "10", "60", "now"),
        ("-", "sysctl", "vm.swappiness", "10", "", "at boot"),
    ]


def test_a_resource_that_was_changed_by_hand_is_kept_and_only_forgotten() -> None:
    record = {
        SYSCTL.id: entry(SYSCTL, {"now": "60", "at boot": ""}),
        FILE.id: entry(FILE, {"is": "absent"}),
        RULE.id: entry(RULE, {"is": "absent"}),
    }
    live = {
        SYSCTL.id: {"now": "33", "at boot": "33"},
        FILE.id: {"is": "file", "sha256": "c" * 64},
        RULE.id: {"is": "absent", "rule": ""},
    }
    stays = "changed or filled since: kept, no longer managed"
    assert rows(host(), seen(live, record)) == [
        (
            "-",
            "sysctl",
            "vm.swappiness",
            "",
            "",
            "unchanged or changed by others since: kept, no longer managed",
        ),
        ("-", "file", "/etc/motd", "", "", stays),
        ("-", "sudoers", "worker", "", "", "already removed"),
    ]


def test_a_file_that_replaced_another_is_reverted_as_a_whole() -> None:
    record = {FILE.id: entry(FILE, {"is": "file", "sha256": "b" * 64, "mode": "0600", "owner": "root"})}
    live = {FILE.id: {"is": "file", "sha256": "a" * 64, "mode": "0644", "owner": "root"}}
    assert rows(host(), seen(live, record)) == [
        ("-", "file", "/etc/motd", "a" * 12, "b" * 12, "content"),
        ("-", "file", "/etc/motd", "0644", "0600", "mode"),
    ]


def test_a_secret_is_rotated_when_it_is_another_and_left_when_its_source_gives_nothing() -> None:
    record = {LOGIN.id: entry(LOGIN, {"is": "absent"}, hash="x")}
    another = seen({LOGIN.id: {"is": "login", "secret": "another"}}, record)
    assert rows(host(LOGIN), another) == [("~", "login", "nvcr.io", "another", "as declared", "secret")]
    unknown = seen({LOGIN.id: {"is": "login", "secret": NO_SOURCE}}, record)
    assert rows(host(LOGIN), unknown) == []


@pytest.mark.parametrize(
    ("item", "live", "message"),
    [
        (GROUP, {"member": "no", "missing": "getgrnam(): name not found: 'docker'"}, "name not found"),
        (SYSCTL, {"is": "no such setting", "now": "", "at boot": ""}, "there is no setting vm.swappiness"),
        (SYSCTL, {"now": "60", "later": "/etc/sysctl.d/99-x.conf", "set": "60"}, "at every boot, after our"),
        (FILE, {"is": "directory"}, "/etc/motd is a directory"),
        (RULE, {"is": "link", "rule": ""}, "worker is a link"),
        (HOME, {"is": "file"}, "/home/nvidia/vllm is a file"),
        (LOGIN, {"is": "login", "secret": "another"}, "not stored by sparkfleet"),
        (LOGIN, {"is": "absent", "secret": NO_SOURCE}, "env:NGC gives nothing"),
    ],
)
def test_what_cannot_be_made_so_blocks_the_host_with_its_remedy(
    item: Resource, live: Mapping[str, Any], message: str
) -> None:
    (key,) = (one.id for one in resource_changes.declared(host(item), fake_spark.USER))
    plan = host_plan(host(item), seen({key: live}))
    assert plan.state is HostState.BLOCKED
    (found,) = (one.blocked for one in plan.change_sets)
    assert found is not None
    assert message in found.message
    assert found.hint


def test_a_tree_larger_than_declared_is_not_walked_over() -> None:
    item = replace(HOME, fields=(*HOME.fields, ("others", "0")), arg="@login 5")
    live = {"is": "directory", "mode": "0755", "owner": "nvidia", "others": "many"}
    (one,) = host_plan(host(item), seen({"directory /home/nvidia/vllm": live})).change_sets
    assert one.blocked is not None
    assert "more than 5 entries" in one.blocked.message
    assert "sudo chown -R nvidia" in one.blocked.hint


@pytest.mark.provokes("resource-conflict")
def test_all_obstacles_are_reported_at_once() -> None:
    spark = seen({FILE.id: {"is": "directory"}, SYSCTL.id: {"is": "no such setting"}})
    (one,) = host_plan(host(FILE, SYSCTL), spark).change_sets
    assert one.blocked is not None
    assert len(one.blocked.each) == 2


def test_what_could_not_be_read_is_unknown_and_nothing_is_planned() -> None:
    spark = seen({FILE.id: {"error": "PermissionError: x"}, SYSCTL.id: {"error": "OSError: y"}})
    (unknown,) = host_plan(host(FILE, SYSCTL), spark).change_sets
    assert unknown.operations == ()
    assert unknown.kind is ChangeKind.UNKNOWN
    assert unknown.blocked is not None
    assert len(unknown.blocked.each) == 2
    lost = replace(seen({}), resources=ObservedResources(error="ValueError: bad record"))
    assert host_plan(host(SYSCTL), lost).state is HostState.BLOCKED


def test_an_idle_spark_on_which_nothing_is_declared_or_recorded_is_left_alone() -> None:
    assert host_plan(host(), fake_spark.fresh(host())).change_sets == ()


def test_a_directory_that_is_declared_is_not_made_by_the_services_too() -> None:
    spark = replace(
        fake_spark.fresh(host(HOME)),
        resources=ObservedResources({}, {"directory /home/nvidia/vllm": {"is": "absent"}}),
    )
    paths = [row[2] for row in rows(host(HOME), spark) if row[1] == "directory"]
    assert paths.count("/home/nvidia/vllm") == 1
    assert "~/vllm" not in paths


def test_the_rows_belong_to_the_preparation() -> None:
    (one,) = host_plan(host(SYSCTL), seen({SYSCTL.id: {"now": "60", "at boot": "10"}})).change_sets
    assert one.fields() == (
        FieldChange(Action.CHANGE, "sysctl", "vm.swappiness", old="60", new="10", note="now"),
    )
