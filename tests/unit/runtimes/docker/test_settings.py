"""One row of the table is all that a container setting needs: everything else derives from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.config.models import ContainerSpec
from sparkfleet.contract import codec
from sparkfleet.desired_state import host_from_json
from sparkfleet.plan import render_service
from sparkfleet.plan.compute import host_plan
from sparkfleet.runtimes import Container, Mount
from sparkfleet.runtimes.docker import settings
from sparkfleet.runtimes.docker.render import compose_service, create_options
from tests.unit.contract.test_shapes import VALUES
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import rows, with_service

REPO = Path(__file__).parents[4]
EVERYTHING = Container(
    network="bridge",
    ipc="private",
    shm_size="16g",
    user="me",
    memory="110g",
    ulimits={"memlock": -1, "nofile": "4096:65536"},
    devices=("/dev/infiniband",),
    cap_add=("CAP_IPC_LOCK",),
    mounts=(Mount("~/x", "/x", True),),
    cpuset="0-9",
    extra_hosts=("files.local:192.168.1.5", "six.local:fd00::5"),
    ports=("9090:9090",),
    security_opt=("seccomp=unconfined", "no-new-privileges:true"),
    tmpfs=("/tmp", "/scratch:size=2g"),
)
MADE_UP = """
    pids_limit: Annotated[int, Limits(ge=1)] = row(
        2048,
        "Most processes in the container.",
        Setting(option("--pids-limit"), ("HostConfig.PidsLimit",), compose="pids_limit", label="pids"),
    )
"""
"""A row as a developer would add it; compared, it replaces what is neutral without a row."""
AFTER = '    cpuset: CpuSet = row(\n        "",\n        "CPU cores of the container, for example 0-9.",\n'
FOLLOW = """
import importlib.util, json, os, sys
from dataclasses import replace
from pathlib import Path

import sparkfleet.runtimes.docker as folder
table, root, repo = map(Path, sys.argv[1:])
spec = importlib.util.spec_from_file_location("sparkfleet.runtimes.docker.settings", table)
sys.modules[spec.name] = folder.settings = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
out = {}

from sparkfleet.config import models
from sparkfleet.config.json_schema import KINDS, schema
found = [schema(kind)["$defs"]["ContainerSpec"]["properties"]["pids_limit"] for kind in KINDS]
out["schema"] = found[0] if all(one == found[0] for one in found) else found
sys.path.insert(0, str(repo))
from tools import generate_reference
page = generate_reference.section("container", models.ContainerSpec)
out["page"] = [line for line in page.splitlines() if "pids_limit" in line]

from tests.unit.config.fleet_files import write
from sparkfleet.contract.diagnostic import SparkfleetError
os.chdir(root)
head = "serve: {recipe: gpt-oss-20b, name: oss, container: {pids_limit: %s}}"
fleet = write(root, {"spark-01.yaml": head % 100, "spark-02.yaml": "serve: {recipe: gpt-oss-20b, name: oss}"})
fleet.pin()
declared, default = fleet.load(need_lock=True).hosts
write(root, {"spark-03.yaml": head % 0})
try:
    fleet.load()
except SparkfleetError as error:
    out["errors"] = [one.line for one in error.diagnostics]

from sparkfleet.contract import codec
from sparkfleet.desired_state import host_from_json
from sparkfleet.plan import render_service
from sparkfleet.plan.compute import host_plan
from sparkfleet.runtimes.docker.render import compose_service
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import rows
out["merged"] = [host.services[0].container.pids_limit for host in (declared, default)]
out["json"] = host_from_json(codec.plain(declared)) == declared
made = [fake_spark.generation_of(host, host.services[0]).definition for host in (declared, default)]
out["argv"] = [one[one.index("--pids-limit") + 1] for one in made]
out["compose"] = compose_service(render_service.workload(declared, declared.services[0], fake_spark.USER))

seen = fake_spark.converged(declared)

def plan(**inspected):
    box = fake_spark.with_details(seen.instances[0], host=inspected)
    changes = host_plan(declared, replace(seen, instances=(box,))).change_sets
    return [row for one in changes for row in rows(one)]

out["plans"] = [plan(PidsLimit=None), plan(PidsLimit=7), plan()]
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What derives from a table with one more row."""
    tmp = tmp_path_factory.mktemp("setting")
    text = Path(settings.__file__).read_text(encoding="utf-8")
    assert text.count(AFTER) == 1
    (tmp / "settings.py").write_text(text.replace(AFTER, MADE_UP.lstrip("\n") + AFTER), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-B", "-c", FOLLOW, str(tmp / "settings.py"), str(tmp), str(REPO)],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_new_row_is_in_the_schema_of_each_kind_of_file_and_on_the_reference_page(
    added: dict[str, Any],
) -> None:
    description = "Most processes in the container. Default: 2048."
    assert added["schema"]["description"] == description
    assert added["schema"]["anyOf"][0] == {"minimum": 1, "type": "integer"}
    assert added["page"] == [f"| `pids_limit` | integer |  | {description} |"]


def test_a_new_row_is_read_from_yaml_within_its_limits_and_has_its_default_otherwise(
    added: dict[str, Any],
) -> None:
    assert added["merged"] == [100, 2048]
    assert added["json"]
    (error,) = added["errors"]
    assert "spark-03.yaml:1: 'serve.container.pids_limit' is the number 0, expected at least 1" in error


def test_a_new_row_is_an_option_of_docker_create_and_a_key_of_compose(added: dict[str, Any]) -> None:
    assert added["argv"] == ["100", "2048"]
    assert added["compose"]["pids_limit"] == "100"


def test_a_new_row_is_read_from_docker_inspect_and_is_a_row_of_the_plan(added: dict[str, Any]) -> None:
    missing, other, equal = added["plans"]
    assert ["container", "pids", "", "100"] in missing
    assert ["container", "pids", "7", "100"] in other
    assert equal == []


def test_settings_that_no_user_writes_are_not_in_yaml() -> None:
    assert "entrypoint" not in ContainerSpec.model_fields
    in_yaml = [one.name for one in fields(Container) if one.name != "entrypoint"]
    assert list(ContainerSpec.model_fields) == in_yaml


OTHER_SPELLINGS = Container(
    ipc="private",
    ulimits={"nofile": "4096:4096"},
    shm_size="64m",
    devices=("/dev/a:/dev/b", "/dev/c:/dev/d:rwm", "/dev/e:/dev/f:r", "/dev/g:rw"),
    cap_add=("ipc_lock", "cap_sys_nice"),
)
"""Docker's own default, and what Docker stores in another spelling."""


CDI = Container(gpus="none", devices=("nvidia.com/gpu=all", "/dev/infiniband"))
"""A device by its name of the Container Device Interface, beside one by its path."""


@pytest.mark.parametrize(
    "container", [Container(), EVERYTHING, OTHER_SPELLINGS, CDI, replace(CDI, gpus="all")]
)
def test_a_container_created_from_the_table_shows_no_difference(container: Container) -> None:
    host = with_service(container=container)
    assert not host_plan(host, fake_spark.converged(host)).change_sets


def test_what_is_allowed_with_a_device_is_a_difference() -> None:
    before = with_service(container=Container(devices=("/dev/e:/dev/f:r",)))
    after = with_service(container=Container(devices=("/dev/e:/dev/f",)))
    (entry,) = host_plan(after, fake_spark.converged(before)).change_sets
    assert ("device", "/dev/e", "/dev/f:r", "/dev/f") in rows(entry)


def test_soft_and_hard_limit_are_compared_and_written_for_compose() -> None:
    before = with_service(container=Container(ulimits={"nofile": 65536, "core": 0}))
    after = with_service(container=Container(ulimits={"nofile": "4096:65536", "core": 0}))
    (entry,) = host_plan(after, fake_spark.converged(before)).change_sets
    assert ("ulimit", "nofile", "65536", "4096:65536") in rows(entry)
    source = render_service.workload(after, after.services[0], fake_spark.USER)
    assert "nofile=4096:65536" in create_options(source)
    assert compose_service(source)["ulimits"] == {"nofile": {"soft": 4096, "hard": 65536}, "core": 0}


def test_another_cdi_name_is_a_difference_of_that_device_alone() -> None:
    before, after = (
        with_service(container=replace(CDI, devices=(f"nvidia.com/gpu={name}",))) for name in ("all", "0:1")
    )
    (entry,) = host_plan(after, fake_spark.converged(before)).change_sets
    assert [row for row in rows(entry) if row[0] in {"device", "container"}] == [
        ("device", "nvidia.com/gpu=0:1", "", "yes"),
        ("device", "nvidia.com/gpu=all", "yes", ""),
    ]


def test_a_bind_without_a_source_is_a_row_of_the_plan() -> None:
    host = with_service()
    seen = fake_spark.converged(host)
    (box,) = seen.instances
    bound = replace(seen, instances=(fake_spark.with_details(box, host={"Binds": ["/data", "/a:/b:ro"]}),))
    (entry,) = host_plan(host, bound).change_sets
    assert [row for row in rows(entry) if row[0] == "mount"] == [
        ("mount", "/b", "/a:/b:ro", ""),
        ("mount", "/data", ":/data", ""),
    ]


PATHS = sorted({path for one in settings.SETTINGS for path in one.inspect})


@pytest.mark.parametrize("path", PATHS)
def test_inspect_data_of_any_shape_is_compared_or_refused(path: str) -> None:
    host = with_service()
    seen = fake_spark.converged(host)
    (box,) = seen.instances
    part, name = path.split(".")
    for value in [*VALUES, *([value] for value in VALUES), *({"x": value} for value in VALUES)]:
        config, of_host = ({name: value}, {}) if part == "Config" else ({}, {name: value})
        try:
            odd = fake_spark.with_details(box, config=config, host=of_host)
        except ValueError:
            continue  # the probe's response is refused: of this host alone
        host_plan(host, replace(seen, instances=(odd,)))


def test_a_setting_that_docker_update_changed_and_that_has_no_row_is_shown_by_its_own_name() -> None:
    host = with_service()
    seen = fake_spark.converged(host)
    (box,) = seen.instances
    changed = replace(seen, instances=(fake_spark.with_details(box, host={"CpuShares": 512}),))
    (entry,) = host_plan(host, changed).change_sets
    assert ("container", "CpuShares", "512", "") in rows(entry)


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
    host = with_service(container=Container(network="bridge", ports=("8000:8000",)))
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


def test_all_settings_survive_the_way_through_json() -> None:
    host = with_service(container=EVERYTHING)
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
