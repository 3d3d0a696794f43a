"""One row of the settings table is all that a container setting needs."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from sparkfleet.config.models import ContainerSpec
from sparkfleet.config.resolve import _container
from sparkfleet.contract import codec
from sparkfleet.desired_state import CONTAINER_FIELDS, Container, Mount, host_from_json
from sparkfleet.plan import render_service
from sparkfleet.plan.compute import host_plan
from sparkfleet.runtimes.docker import compare, settings
from sparkfleet.runtimes.docker.render import compose_service, create_options
from sparkfleet.runtimes.docker.settings import Setting, declared, option
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import rows, with_service

NOT_IN_YAML = {
    "service_label",
    "restart",
    "entrypoint",
    "environment",
    "log",
    "working_directory",
}
"""Settings that no user writes under ``container:``."""
EVERYTHING = Container(
    "bridge",
    "private",
    "16g",
    "all",
    "me",
    "110g",
    (("memlock", -1),),
    ("/dev/infiniband",),
    ("CAP_IPC_LOCK",),
    (Mount("~/x", "/x", True),),
    other=(
        ("cpuset", "0-9"),
        ("extra_hosts", ("files.local:192.168.1.5", "six.local:fd00::5")),
        ("ports", ("9090:9090",)),
        ("security_opt", ("seccomp=unconfined", "no-new-privileges:true")),
        ("tmpfs", ("/tmp", "/scratch:size=2g")),
    ),
)


def test_each_key_of_container_in_yaml_has_a_row_and_each_row_a_key() -> None:
    assert set(ContainerSpec.model_fields) == {row.name for row in settings.SETTINGS} - NOT_IN_YAML


def test_rows_and_merged_settings_have_the_same_defaults() -> None:
    by_row = {row.name: row.default for row in settings.SETTINGS if row.default is not None}
    merged = {one.name: one.default for one in fields(Container) if one.default not in ("", ())}
    assert merged == by_row


@pytest.mark.parametrize("container", [Container(), EVERYTHING])
def test_a_container_created_from_the_table_shows_no_difference(container: Container) -> None:
    host = with_service(container=container)
    assert not host_plan(host, fake_spark.converged(host)).change_sets


def test_a_setting_that_docker_update_changed_and_that_has_no_row_is_shown_by_its_own_name() -> None:
    host = with_service()
    seen = fake_spark.converged(host)
    (box,) = seen.instances
    changed = replace(seen, instances=(fake_spark.with_details(box, host={"CpuShares": 512}),))
    (entry,) = host_plan(host, changed).change_sets
    assert ("container", "CpuShares", "512", "") in rows(entry)


def test_a_new_row_is_created_compared_and_in_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Setting(
        "pids_limit",
        declared("pids_limit"),
        option("--pids-limit"),
        ("HostConfig.PidsLimit",),
        compose="pids_limit",
    )
    monkeypatch.setattr(settings, "SETTINGS", (*settings.SETTINGS, row))
    host = with_service(container=_container({"pids_limit": 4096}))
    (service,) = host.services
    source = render_service.workload(host, service, fake_spark.USER)
    assert create_options(source)[-2:] == ("--pids-limit", "4096")
    assert compose_service(source)["pids_limit"] == "4096"
    assert compare.declared(source, None)[compare.Field("container", "pids limit")] == "4096"
    seen = fake_spark.converged(with_service())
    (entry,) = host_plan(host, seen).change_sets
    assert ("container", "pids limit", "", "4096") in rows(entry)
    (box,) = seen.instances
    present = replace(seen, instances=(fake_spark.with_details(box, host={"PidsLimit": 4096}),))
    assert not any(key == "pids limit" for _, key, _, _ in rows_of(host, present))


def rows_of(host: Any, seen: Any) -> Any:
    return [row for entry in host_plan(host, seen).change_sets for row in rows(entry)]


def test_settings_that_compose_users_know_become_options_and_keys_of_compose() -> None:
    host = with_service(container=EVERYTHING)
    source = render_service.workload(host, host.services[0], fake_spark.USER)
    options = " ".join(create_options(source))
    assert "--publish 8000:8000 --publish 9090:9090" in options
    assert "--add-host files.local:192.168.1.5" in options
    assert "--tmpfs /scratch:size=2g --security-opt seccomp=unconfined" in options
    assert options.endswith("--cpuset-cpus 0-9")
    compose = compose_service(source)
    assert compose["ports"] == ["8000:8000", "9090:9090"]
    assert compose["cpuset"] == "0-9"


def test_a_port_that_is_also_the_services_own_is_published_once() -> None:
    host = with_service(container=Container(network="bridge", other=(("ports", ("8000:8000",)),)))
    source = render_service.workload(host, host.services[0], fake_spark.USER)
    assert create_options(source).count("8000:8000") == 1


def test_a_security_option_that_docker_adds_by_itself_is_no_difference() -> None:
    host = with_service()
    seen = fake_spark.converged(host)
    (box,) = seen.instances
    assert box.details["HostConfig"]["SecurityOpt"] == ["label=disable"]
    assert not host_plan(host, seen).change_sets
    other = fake_spark.with_details(box, host={"SecurityOpt": ["seccomp=unconfined"]})
    added = replace(seen, instances=(other,))
    (entry,) = host_plan(host, added).change_sets
    assert ("security option", "seccomp=unconfined", "yes", "") in rows(entry)


def test_a_setting_without_a_field_of_its_own_survives_the_way_through_json() -> None:
    assert "pids_limit" not in CONTAINER_FIELDS
    host = with_service(container=_container({"pids_limit": 4096, "tmpfs": ("/tmp",)}))
    assert host_from_json(codec.plain(host)) == host


def test_a_generation_keeps_its_id_where_no_new_setting_is_declared() -> None:
    host = with_service()
    made = render_service.generation(host, host.services[0], fake_spark.USER, ())
    assert made.definition[:8] == (
        "--label",
        "io.sparkfleet.service=nano",
        "--restart",
        "no",
        "--network",
        "host",
        "--ipc",
        "host",
    )
