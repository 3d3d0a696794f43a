"""What is declared of a Spark itself, as its programs are asked for it: the plan's rows, secrets on stdin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet.config.items import Item
from sparkfleet.config.resolved import Host, Prepare
from sparkfleet.fleet.connection import secret_cache, secrets
from sparkfleet.fleet.operations import resource_request
from sparkfleet.onhost.collectors import resources
from sparkfleet.plan import resource_changes
from sparkfleet.plan.operations import ApplyResource, RemoveCompileCache, RemoveDropIn, RevertResource
from sparkfleet.probe.observed import Items
from tests.unit.plan import fake_spark

SYSCTL = Item("sysctl", "vm.swappiness", (("now", "10"),))
LOGIN = Item("login", "nvcr.io", (("secret", "as declared"),), source="env:NGC_OF_TEST", user="$oauthtoken")
TOKEN = Item("token", "/home/u/token", (("secret", "as declared"),), source="env:HF_OF_TEST")
SALT = bytes(16)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    secret_cache.forget()
    monkeypatch.setenv("NGC_OF_TEST", "nvapi-1")


def applied(item: Item) -> ApplyResource:
    return ApplyResource(item.kind, item.key, item, ())


def test_only_operations_of_the_plan_are_requested() -> None:
    operations = (applied(SYSCTL), RevertResource("package", "htop", ()))
    asked = resource_request.request((SYSCTL, LOGIN), operations)
    assert [one["key"] for one in asked["put"]] == ["vm.swappiness"]
    assert asked["take_back"] == ["package htop"]
    assert asked["stays"] == ["sysctl vm.swappiness", "login nvcr.io"]


def test_operations_of_the_script_are_not_for_the_program() -> None:
    assert resource_request.request((SYSCTL,), (RemoveDropIn("x.service", "/etc/x"),)) == {}


def test_old_caches_are_asked_for_by_their_path() -> None:
    asked = resource_request.request((), (RemoveCompileCache("/c/aaaaaaaaaaaa", 5, 9),))
    assert (asked["caches"], asked["take_back"]) == (["/c/aaaaaaaaaaaa"], [])


def test_a_secret_is_read_when_it_is_sent_and_a_login_has_its_user() -> None:
    (asked,) = resource_request.request((LOGIN,), (applied(LOGIN),))["put"]
    assert asked["secret"] == "$oauthtoken:nvapi-1"
    (plain,) = resource_request.request((SYSCTL,), (applied(SYSCTL),))["put"]
    assert plain["secret"] == ""


@pytest.mark.parametrize(
    ("kept", "told"),
    [("$oauthtoken:nvapi-1", resource_changes.CURRENT), ("$oauthtoken:nvapi-2", "another")],
)
def test_a_secret_is_compared_by_its_salted_hash(kept: str, told: str) -> None:
    live = {
        "is": "login",
        "secret": "there",
        "salt": SALT.hex(),
        "hash": resources.digest(kept.encode(), SALT),
    }
    host = Host("x", (), prepare=Prepare(items=(LOGIN, SYSCTL)))
    seen = replace(fake_spark.fresh(host), items=Items({}, {LOGIN.id: live, SYSCTL.id: {"now": "1"}}))
    assert secrets.compared(host, seen).items.live[LOGIN.id]["secret"] == told


def test_a_secret_whose_source_gives_nothing_is_not_compared() -> None:
    host = Host("x", (), prepare=Prepare(items=(TOKEN,)))
    seen = replace(fake_spark.fresh(host), items=Items({}, {TOKEN.id: {"is": "absent"}}))
    assert secrets.compared(host, seen).items.live[TOKEN.id]["secret"] == resource_changes.NOT_GIVEN


def test_what_could_not_be_read_stays_so() -> None:
    host = Host("x", (), prepare=Prepare(items=(TOKEN,)))
    seen = replace(fake_spark.fresh(host), items=Items({}, {TOKEN.id: {"error": "OSError"}}))
    assert secrets.compared(host, seen).items.live[TOKEN.id] == {"error": "OSError"}


def test_one_that_is_kept_elsewhere_or_absent_is_told_as_it_is() -> None:
    host = Host("x", (), prepare=Prepare(items=(LOGIN,)))
    for live in ({"is": "absent"}, {"is": "login", "secret": "kept by pass"}):
        seen = replace(fake_spark.fresh(host), items=Items({}, {LOGIN.id: live}))
        assert secrets.compared(host, seen).items.live[LOGIN.id] == live
