"""The plan's resource operations as the request to the Spark's program; secrets on stdin."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.contract.resources import ResourceRequest, ResourceResult
from sparkfleet.desired_state import Host, Prepare
from sparkfleet.fleet.connection import remote, secret_cache, secrets
from sparkfleet.fleet.operations import resource_request
from sparkfleet.fleet.run import spark_plan
from sparkfleet.onhost.collectors import resources
from sparkfleet.plan.model import Operation
from sparkfleet.plan.operations import ApplyResource, RemoveDropIn, RevertResource
from sparkfleet.probe.observation import ObservedResources
from sparkfleet.resources.base import CURRENT, NO_SOURCE, Resource
from tests.unit.plan import fake_spark

SYSCTL = Resource("sysctl", "vm.swappiness", (("now", "10"),))
LOGIN = Resource(
    "login", "nvcr.io", (("secret", "as declared"),), source="env:NGC_OF_TEST", user="$oauthtoken"
)
TOKEN = Resource("hub_token", "/home/u/token", (("secret", "as declared"),), source="env:HF_OF_TEST")
SALT = bytes(16)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    secret_cache.forget()
    monkeypatch.setenv("NGC_OF_TEST", "nvapi-1")


def applied(resource: Resource) -> ApplyResource:
    return ApplyResource(resource.kind, resource.key, resource, changes=())


def requested(resources: tuple[Resource, ...], *operations: Operation) -> ResourceRequest:
    host = Host("x", (), prepare=Prepare(resources=resources))
    found = resource_request.request(host, fake_spark.USER, operations)
    assert found is not None
    return found


def test_the_operations_of_the_plan_are_requested_and_all_declared_resources_are_named() -> None:
    found = requested((SYSCTL, LOGIN), applied(SYSCTL), RevertResource("package", "htop", changes=()))
    assert [one.key for one in found.apply] == ["vm.swappiness"]
    assert found.revert == ("package htop",)
    assert found.declared == ("sysctl vm.swappiness", "login nvcr.io")


def test_operations_of_the_script_are_not_for_the_program() -> None:
    operations = (RemoveDropIn("x.service", "/etc/x"),)
    assert resource_request.request(Host("x", ()), fake_spark.USER, operations) is None


def test_a_secret_is_read_when_it_is_sent_and_a_login_has_its_user() -> None:
    (login,) = requested((LOGIN,), applied(LOGIN)).apply
    assert (login.user, login.registry_password, login.hub_token) == ("$oauthtoken", "nvapi-1", "")
    assert "nvapi" not in repr(login)
    (sysctl,) = requested((SYSCTL,), applied(SYSCTL)).apply
    assert (sysctl.registry_password, sysctl.hub_token) == ("", "")


@pytest.mark.parametrize(
    ("operation", "connections"),
    [
        (ApplyResource("group", "docker u", Resource("group", "docker u"), changes=()), ["spark-01"]),
        (RevertResource("group", "docker u", changes=()), ["spark-01"]),
        (ApplyResource("file", "group docker", Resource("file", "group docker"), changes=()), []),
    ],
)
def test_a_change_of_a_group_takes_effect_by_a_new_connection(
    operation: Operation, connections: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_connections: list[str] = []
    written = codec.dumps(ResourceResult(("group docker",)))
    monkeypatch.setattr(spark_plan, "declared", lambda _: Host("spark-01", ()))
    monkeypatch.setattr(spark_plan, "login_user", lambda _: fake_spark.USER)
    monkeypatch.setattr(remote, "program", lambda *_, **__: SimpleNamespace(ok=True, out=written, err=""))
    monkeypatch.setattr(remote, "reconnect", lambda host: new_connections.append(host.name))
    act: Any = SimpleNamespace(host=SimpleNamespace(name="spark-01"))
    resource_request.apply(act, (operation,))
    assert new_connections == connections


@pytest.mark.parametrize(
    ("stored", "marked"),
    [("$oauthtoken:nvapi-1", CURRENT), ("$oauthtoken:nvapi-2", "another")],
)
def test_a_secret_is_compared_by_its_salted_hash(stored: str, marked: str) -> None:
    live = {
        "is": "login",
        "secret": "there",
        "salt": SALT.hex(),
        "hash": resources.digest(stored.encode(), SALT),
    }
    host = Host("x", (), prepare=Prepare(resources=(LOGIN, SYSCTL)))
    seen = replace(
        fake_spark.fresh(host), resources=ObservedResources({}, {LOGIN.id: live, SYSCTL.id: {"now": "1"}})
    )
    assert secrets.compare(host, seen).resources.live[LOGIN.id]["secret"] == marked


def test_a_secret_whose_source_gives_nothing_is_not_compared() -> None:
    host = Host("x", (), prepare=Prepare(resources=(TOKEN,)))
    seen = replace(fake_spark.fresh(host), resources=ObservedResources({}, {TOKEN.id: {"is": "absent"}}))
    assert secrets.compare(host, seen).resources.live[TOKEN.id]["secret"] == NO_SOURCE


def test_what_could_not_be_read_stays_so() -> None:
    host = Host("x", (), prepare=Prepare(resources=(TOKEN,)))
    seen = replace(fake_spark.fresh(host), resources=ObservedResources({}, {TOKEN.id: {"error": "OSError"}}))
    assert secrets.compare(host, seen).resources.live[TOKEN.id] == {"error": "OSError"}


def test_a_resource_of_another_manager_or_an_absent_one_is_reported_as_it_is() -> None:
    host = Host("x", (), prepare=Prepare(resources=(LOGIN,)))
    for live in ({"is": "absent"}, {"is": "login", "secret": "kept by pass"}):
        seen = replace(fake_spark.fresh(host), resources=ObservedResources({}, {LOGIN.id: live}))
        assert secrets.compare(host, seen).resources.live[LOGIN.id] == live
