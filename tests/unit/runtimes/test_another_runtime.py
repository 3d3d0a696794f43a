"""YAML, render, probe and plan work with a runtime that is made up by the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import sparkfleet.cli
from sparkfleet import runtimes
from sparkfleet.contract import codec
from sparkfleet.contract.generation import CurrentGeneration, Generation, convert
from sparkfleet.contract.probe import PreflightRequest, ProbeRequest
from sparkfleet.desired_state import Host, Prepare
from sparkfleet.exit_codes import Code
from sparkfleet.fleet.connection import probe
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import ChangeKind, HostPlan, HostState, Plan
from sparkfleet.plan.prune import has_no_images, prune_request
from sparkfleet.plan.report import plan_text
from sparkfleet.probe.command import LOADER, more_parts, packed_program, sources
from sparkfleet.probe.observation import Observed, WithoutRuntime
from sparkfleet.probe.response import DISKS, read_response
from sparkfleet.runtimes import Container
from tests.unit.config.fleet_files import FleetFiles, write
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import only_entry, rollout, rows, with_service
from tests.unit.plan.test_not_managed import blocked
from tests.unit.runtimes.process_runtime import BIND, LIMIT, NAME, running, unit_seen

pytestmark = pytest.mark.usefixtures("process_runtime")
HOST_FILE = f"""\
serve:
  - {{runtime: {NAME}, recipe: gpt-oss-20b, name: oss, flags: {{gpu-memory-utilization: 0.4}}}}
  - {{recipe: gpt-oss-20b, name: two, flags: {{gpu-memory-utilization: 0.4}}}}
"""


def service(**changes: Any) -> Host:
    return with_service(**{"runtime": NAME, "image": None, **changes})


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetFiles:
    monkeypatch.chdir(tmp_path)
    files = write(tmp_path, {"spark-01.yaml": HOST_FILE})
    files.pin()
    return files


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["sparkfleet", *args])
    with pytest.raises(SystemExit) as end:
        sparkfleet.cli.main()
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


def test_a_host_file_names_it(fleet: FleetFiles) -> None:
    (host,) = fleet.load(need_lock=True).hosts
    assert [one.runtime for one in host.services] == [NAME, runtimes.DEFAULT]
    assert probe_request(host).runtimes == ("docker", NAME)


def test_an_unknown_one_is_an_error_with_the_nearest(fleet: FleetFiles) -> None:
    write(fleet.root, {"spark-01.yaml": "serve: {recipe: gpt-oss-20b, runtime: proces}\n"})
    diagnostic = fleet.diagnostic()
    assert diagnostic.location == "inventories/lab/spark-01.yaml:1"
    assert diagnostic.message == "unknown runtime 'proces'"
    assert diagnostic.expected == "one of: docker, process"
    assert f"did you mean '{NAME}'" in diagnostic.hint


def test_each_service_is_rendered_by_its_runtime(
    fleet: FleetFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    render = ("render", str(fleet.inventory), "spark-01")
    code, out, _ = command(monkeypatch, capsys, *render)
    assert code == 0
    own, other = out.split("\n\n")
    assert own.startswith("BindPaths=/home/nvidia/vllm:/models ")
    assert "ExecStart=vllm serve openai/gpt-oss-20b" in own
    assert other.startswith("docker create --name two ")
    _, out, _ = command(monkeypatch, capsys, *render, "--format", "json")
    one, two = (Generation.from_json(data) for data in json.loads(out))
    assert (one.runtime, two.runtime) == (NAME, "docker")
    assert "docker.service" not in one.unit
    assert "Wants=docker.service" in two.unit


def test_a_format_that_a_services_runtime_lacks_is_an_invalid_command_line(
    fleet: FleetFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("render", str(fleet.inventory), "spark-01", "--format", "compose")
    code, _, err = command(monkeypatch, capsys, *args)
    assert code == Code.COMMAND_LINE
    assert "'oss' runs in process, which has no format 'compose'; expected one of: unit, systemd, json" in err


def plan(host: Host, seen: Observed) -> str:
    return plan_text(Plan((host_plan(host, seen),)))


def test_a_new_service_is_created_with_its_definition() -> None:
    host = service()
    *_, entry = host_plan(host, fake_spark.fresh(host)).change_sets
    generation = rollout(entry).generation
    assert generation is not None
    assert (entry.kind, generation.runtime) == (ChangeKind.CREATE, NAME)
    assert generation.definition[-1].startswith("ExecStart=")
    assert ("unit", BIND, "", dict(declared_of(generation))[BIND]) in rows(entry)


def declared_of(generation: Generation) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (line.partition("=") for line in generation.definition)]


def test_what_runs_as_declared_is_no_change_and_a_setting_one_of_its_own() -> None:
    host = service()
    seen = fake_spark.converged(host, running)
    assert host_plan(host, seen).change_sets == ()
    entry = only_entry(service(container=Container(memory="9g")), seen)
    assert (entry.kind, rows(entry)) == (ChangeKind.RECREATE, [("unit", LIMIT, "", "9g")])
    (instance,) = seen.instances
    by_hand = replace(instance, env=(*instance.env, "BY_HAND=1"))
    assert rows(only_entry(host, replace(seen, instances=(by_hand,)))) == [("env", "BY_HAND", "1", "")]


def test_a_service_that_moves_to_another_runtime_is_replaced() -> None:
    seen = fake_spark.converged(with_service())
    *_, entry = host_plan(service(), seen).change_sets
    assert entry.kind is ChangeKind.RECREATE
    assert ("runtime", "", "docker", NAME) in rows(entry)
    assert ("image", "", "nvcr.io/nvidia/vllm:26.04-py3", "") in rows(entry)
    assert "  ~ runtime     docker → process\n" in plan(service(), seen)


def test_what_is_removed_has_the_runtimes_word() -> None:
    host = service()
    seen = fake_spark.converged(host, running)
    text = plan(replace(host, services=()), seen)
    assert "  - process     nano\n" in text


def test_its_part_of_the_probe_is_sent_read_and_its_absence_named() -> None:
    request = probe_request(service())
    assert request.runtimes == (NAME,)
    names = [name for name, _ in sources(more_parts(request))]
    assert f"sparkfleet.runtimes.{NAME}.collectors.probe" in names
    assert not any("docker" in name for name in names)
    part = {"state": "ok", "units": [["nano", "1", "sha256:1", ["ExecStart=serve"]]]}
    seen = read_response("spark-01", response(part))
    assert isinstance(seen, Observed)
    assert [(one.name, one.runtime, one.command) for one in seen.instances] == [
        ("engine-nano-current", NAME, ("serve",))
    ]
    gone = read_response("spark-01", response({"state": "missing", "error": "no systemd-run"}))
    assert isinstance(gone, WithoutRuntime)
    host = replace(service(), prepare=Prepare(docker="install"))
    assert host_plan(host, gone) == HostPlan("spark-01", unknown=gone.plain)


def records(*generations: Generation) -> dict[str, str]:
    made = (convert(CurrentGeneration, one) for one in generations)
    return {f"services/{one.service}/current.json": json.dumps(one.to_json()) for one in made}


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Host, dict[str, str]], Any]:
    """Probe a Spark with these state files, on which both runtimes respond."""

    def observe(declared: Host, files: dict[str, str]) -> Any:
        requested: list[tuple[str, ...]] = []

        def ask(_: object, request: ProbeRequest) -> str:
            requested.append(request.runtimes)
            parts = {
                "docker": {"state": "ok", "containers": [], "images": {}},
                NAME: {"state": "ok", "units": [["nano", "1", "", ["ExecStart=serve"]]]},
            }
            data = json.loads(response({}))
            data["runtimes"] = {name: parts[name] for name in request.runtimes}
            return json.dumps({**data, "state": {"files": files, "rollout": ""}})

        monkeypatch.setattr(probe, "_ask", ask)
        return requested, probe.observe(Named("spark-01"), probe_request(declared))  # type: ignore[arg-type]

    return observe


class Named(NamedTuple):
    name: str


def test_the_runtime_of_what_runs_is_probed_though_no_service_declares_it(
    probed: Callable[[Host, dict[str, str]], Any],
) -> None:
    before = fake_spark.generation_of(service(), service().services[0])
    requested, seen = probed(with_service(), records(before))
    assert requested == [("docker",), ("docker", NAME)]
    assert [one.name for one in seen.instances] == ["engine-nano-current"]
    requested, _ = probed(service(), records(before))
    assert requested == [(NAME,)]


def test_what_runs_in_an_unknown_runtime_makes_the_host_unknown(
    probed: Callable[[Host, dict[str, str]], Any],
) -> None:
    before = fake_spark.generation_of(service(), service().services[0])
    requested, seen = probed(service(), records(replace(before, runtime="warp")))
    assert requested == [(NAME,)]
    assert (seen.location, seen.code) == ("spark-01: nano", "contract-newer")
    assert seen.message == "it runs in warp, which this sparkfleet does not have"


def run_probe(request: ProbeRequest) -> dict[str, Any]:
    """Run the program that a probe sends, here."""
    argv = (sys.executable, "-I", "-S", "-B", "-c", LOADER, codec.dumps(request))
    packed = packed_program(more_parts(request), request.kinds)
    done = subprocess.run(argv, input=packed, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_program_of_a_probe_runs_with_the_runtime_alone() -> None:
    found = run_probe(replace(probe_request(service()), stored=True, preflight=PreflightRequest()))
    assert found["runtimes"] == {NAME: {"state": "ok", "units": [], "pids": []}}
    assert set(found["disks"]) == set(DISKS)
    assert found["preflight"]["engine"] is None
    assert found["stored"]["images"] == found["stored"]["containers"] == []


def test_the_program_of_a_probe_reads_the_disk_of_each_runtime() -> None:
    found = run_probe(replace(probe_request(service()), runtimes=("docker", NAME)))
    assert set(found["disks"]) == {*DISKS, NAME}
    assert set(found["runtimes"]) == {"docker", NAME}


@pytest.mark.parametrize("state", ["missing", "down"])
def test_a_prune_reads_images_that_no_service_needs_unless_docker_is_not_installed(state: str) -> None:
    assert prune_request(service()).runtimes == ("docker", NAME)
    assert prune_request(service(), images=False).runtimes == (NAME,)
    gone = WithoutRuntime("h", "x", code="docker-unavailable", runtime="docker", state=state)
    assert has_no_images(service(), gone) is (state == "missing")
    assert not has_no_images(with_service(), gone)
    assert not has_no_images(service(), fake_spark.fresh(service()))


def test_docker_is_installed_for_one_service_beside_another_without_it() -> None:
    both = Host("spark-01", (*service().services, replace(with_service().services[0], name="two", port=8001)))
    both = replace(both, prepare=Prepare(docker="install"))
    data = json.loads(response({"state": "ok", "units": []}))
    data["runtimes"]["docker"] = {"state": "missing", "error": "Docker is not installed"}
    data["packages"] = {"install": [["docker.io", "", "26"]], "requested": ["docker.io"]}
    plan = host_plan(both, read_response("spark-01", json.dumps(data)))
    assert plan.unknown is None
    assert plan.change_sets[0].subject == "docker"


def test_docker_alone_needs_the_container_toolkit() -> None:
    fresh = fake_spark.fresh(service())
    assert host_plan(service(), replace(fresh, toolkit=())).state is HostState.CHANGE
    (found,) = blocked(host_plan(with_service(), replace(fake_spark.fresh(with_service()), toolkit=())))
    assert found.code == "gpu-toolkit-missing"


def test_each_runtimes_disk_is_checked() -> None:
    fresh = fake_spark.fresh(service())
    full = replace(fresh.disks["images"], path="/var/cache/process", total=1, free=1)
    (disk,) = blocked(host_plan(service(), replace(fresh, disks={**fresh.disks, NAME: full})))
    assert disk.location == "spark-01: /var/cache/process"


def test_an_image_of_a_service_that_has_no_use_for_one_is_an_error(fleet: FleetFiles) -> None:
    write(fleet.root, {"spark-01.yaml": f"serve: {{recipe: gpt-oss-20b, runtime: {NAME}, image: a/b:1}}\n"})
    found = fleet.diagnostic()
    assert found.message == f"'image' has no effect: the runtime {NAME} has no images"
    assert found.expected == "runtime: docker"


def test_a_recipe_needs_an_image_for_containers_alone(fleet: FleetFiles) -> None:
    write(
        fleet.root,
        {
            "recipes/bare.yaml": "recipe: bare\ntitle: Bare\nsource: tests\nmodel: org/bare\n",
            "spark-01.yaml": f"serve: {{recipe: bare, runtime: {NAME}}}\n",
        },
    )
    assert fleet.service().image is None
    write(fleet.root, {"spark-01.yaml": "serve: {recipe: bare}\n"})
    assert fleet.diagnostic().message == "the service has no image"


def test_hints_name_the_runtimes_commands() -> None:
    host = service()
    fresh = fake_spark.fresh(host)
    other = unit_seen("nano", "", "sha256:1", ["ExecStart=serve"])
    (taken,) = blocked(host_plan(host, replace(fresh, instances=(replace(other, service=""),))))
    assert (taken.location, taken.expected) == (
        "spark-01: process engine-nano-current",
        "a free process name",
    )
    assert "on spark-01: mv engine-nano-current engine-nano-current-by-hand (or remove it)" in taken.hint
    full = replace(fresh.disks["images"], free=1 << 30)
    (disk,) = blocked(host_plan(host, replace(fresh, disks=dict.fromkeys(fresh.disks, full))))
    assert "(weights, process, the journal of a rollout)" in disk.message
    assert "rm -r /var/cache/process" in disk.hint
    assert "docker" not in taken.line + disk.line


def response(part: dict[str, Any]) -> str:
    disk = {"path": "/", "total": 1, "free": 1, "read_only": False}
    return json.dumps(
        {
            "host": {"arch": "aarch64"}, "sudo": {"state": "ok"}, "systemd": {"state": "ok", "units": {}},
            "user": {"name": "n", "home": "/home/n", "uid": 1, "gid": 1, "group": "n", "groups": ["n"]},
            "memory": {"total_mib": 1, "available_mib": 1}, "disks": dict.fromkeys(DISKS, disk),
            "runtimes": {NAME: part}, "state": {"files": {}, "rollout": ""}, "paths": {},
            "weights": {"models": {}}, "listeners": {}, "toolkit": {"programs": ["nvidia-ctk"], "cdi": []},
        }
    )  # fmt: skip


def test_the_runtime_is_part_of_a_generations_identity() -> None:
    own, other = with_service(runtime=NAME), with_service()
    ids = [fake_spark.generation_of(host, host.services[0]).id for host in (own, other)]
    assert ids[0] != ids[1]
