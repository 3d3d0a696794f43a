"""YAML, render, probe and plan work with a runtime that is made up here, in one folder.

A service is a process of its own systemd unit; its definition is the text of that unit.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sparkfleet.cli
from sparkfleet import runtimes
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation
from sparkfleet.desired_state import Host, ImageRef, Prepare
from sparkfleet.exit_codes import Code
from sparkfleet.plan.compute import host_plan, probe_request
from sparkfleet.plan.model import ChangeKind, HostPlan, Plan
from sparkfleet.plan.report import plan_text
from sparkfleet.probe.answer import DISKS, read_answer
from sparkfleet.probe.command import more_parts, sources
from sparkfleet.probe.observation import Observed, WithoutRuntime
from sparkfleet.runtimes import Container
from sparkfleet.runtimes.observation import ImageSeen, InstanceSeen
from sparkfleet.runtimes.operator import (
    Collectors,
    DeclaredWorkload,
    OperatorRuntime,
    RuntimeSeen,
    SettingChange,
)
from tests.unit.config.fleet_files import FleetFiles, write
from tests.unit.plan import fake_spark
from tests.unit.plan.nano import only_entry, rollout, rows, with_service
from tests.unit.plan.test_not_managed import blocked

NAME = "process"
LIMIT, BIND = "MemoryMax", "BindPaths"
HOST_FILE = f"""\
serve:
  - {{runtime: {NAME}, recipe: gpt-oss-20b, name: oss, flags: {{gpu-memory-utilization: 0.4}}}}
  - {{recipe: gpt-oss-20b, name: two, flags: {{gpu-memory-utilization: 0.4}}}}
"""
OPERATOR = f"from {__name__} import RUNTIME\n"
COLLECTOR = "def collect(request):\n    return {'state': 'ok', 'units': [], 'pids': []}\n"


class Process:
    """What the operator's side needs of it."""

    name = NAME
    noun = "process"
    daemon_units: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("unit",)
    collectors = Collectors((f"sparkfleet.runtimes.{NAME}.collectors.probe",), (), ())
    prune_command = "rm -r /var/cache/process"

    def definition(self, workload: DeclaredWorkload, argv: tuple[str, ...]) -> tuple[str, ...]:
        environment = (f"Environment={name}={value}" for name, value in workload.environment.items())
        settings = (f"{name}={value}" for name, value in declared(workload))
        return (*settings, *environment, f"ExecStart={shlex.join(argv)}")

    def setting_changes(
        self,
        workload: DeclaredWorkload,
        image: ImageSeen | None,
        seen: InstanceSeen | None,
        seen_image: ImageSeen | None,
    ) -> Sequence[SettingChange]:
        expected = dict(declared(workload))
        lines = (line.partition("=") for line in (seen.details["lines"] if seen else ()))
        have = {name: value for name, _, value in lines if name in {LIMIT, BIND}}
        return [
            SettingChange("unit", name, have.get(name), expected.get(name))
            for name in sorted(have.keys() | expected.keys())
            if have.get(name) != expected.get(name)
        ]

    def read_answer(self, part: Any) -> RuntimeSeen:
        return RuntimeSeen(tuple(unit_seen(*one) for one in part["units"]))

    def unavailable(self, host: str, state: str, error: str) -> Diagnostic:
        return Diagnostic(host, f"systemd-run {state}: {error}", code="test")

    def gpu_command(self, image: str) -> tuple[str, ...]:
        return ("nvidia-smi", "-L")

    def stop_command(self, instance: str) -> str:
        return f"systemctl stop {instance}"

    def rename_command(self, instance: str, name: str) -> str:
        return f"mv {instance} {name}"

    def render(self, form: str, services: Sequence[tuple[DeclaredWorkload, Generation]]) -> str:
        return "\n".join("\n".join(made.definition) + "\n" for _, made in services)


RUNTIME: OperatorRuntime = Process()


def declared(workload: DeclaredWorkload) -> list[tuple[str, str]]:
    memory = [(LIMIT, workload.container.memory)] if workload.container.memory else []
    return [*memory, (BIND, " ".join(f"{one.source}:{one.target}" for one in workload.mounts))]


def unit_seen(service: str, generation: str, artifact: str, lines: Sequence[str]) -> InstanceSeen:
    values = [line.partition("=")[::2] for line in lines]
    return InstanceSeen(
        id=f"unit of {service}", name=service, artifact=artifact, state="running", started_at="now",
        service=service, generation=generation, image="org/image",
        command=tuple(shlex.split(dict(values)["ExecStart"])),
        env=tuple(value for name, value in values if name == "Environment"), runtime=NAME,
        details={"lines": tuple(lines)},
    )  # fmt: skip


def running(generation: Generation, image: ImageSeen) -> InstanceSeen:
    return unit_seen(generation.service, generation.id, image.id, generation.definition)


def forget() -> None:
    for cached in (runtimes.names, runtimes.get):
        cached.cache_clear()
    for module in [name for name in sys.modules if name.startswith(f"{runtimes.__name__}.{NAME}")]:
        del sys.modules[module]
    vars(runtimes).pop(NAME, None)


@pytest.fixture(autouse=True)
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the runtime's folder where runtimes are searched."""
    folder = tmp_path / "runtimes" / NAME
    (folder / "collectors").mkdir(parents=True)
    (folder / "operator.py").write_text(OPERATOR)
    (folder / "collectors" / "probe.py").write_text(COLLECTOR)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(runtimes, "__path__", [*runtimes.__path__, str(folder.parent)])
    monkeypatch.delitem(sys.modules, "sparkfleet.cli.render", raising=False)
    forget()
    yield
    forget()


def service(**changes: Any) -> Host:
    return with_service(**{"runtime": NAME, **changes})


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
    entry = only_entry(service(), seen)
    assert entry.kind is ChangeKind.RECREATE
    assert ("runtime", "", "docker", NAME) in rows(entry)
    assert "  ~ runtime     docker → process\n" in plan(service(), seen)


def test_what_is_removed_has_the_runtimes_word() -> None:
    host = service()
    seen = fake_spark.converged(host, running)
    text = plan(replace(host, services=()), seen)
    assert "  - process     nano   org/image\n" in text


def test_its_part_of_the_probe_is_sent_read_and_its_absence_named() -> None:
    request = probe_request(service())
    assert request.runtimes == (NAME,)
    names = [name for name, _ in sources(more_parts(request))]
    assert f"sparkfleet.runtimes.{NAME}.collectors.probe" in names
    assert not any("docker" in name for name in names)
    part = {"state": "ok", "units": [["nano", "1", "sha256:1", ["ExecStart=serve"]]]}
    seen = read_answer("spark-01", answer(part))
    assert isinstance(seen, Observed)
    assert [(one.name, one.runtime, one.command) for one in seen.instances] == [("nano", NAME, ("serve",))]
    gone = read_answer("spark-01", answer({"state": "missing", "error": "no systemd-run"}))
    assert isinstance(gone, WithoutRuntime)
    host = replace(service(), prepare=Prepare(docker="install"))
    assert host_plan(host, gone) == HostPlan("spark-01", unknown=gone.plain)


def test_hints_name_the_runtimes_commands() -> None:
    host = service()
    fresh = fake_spark.fresh(host)
    other = unit_seen("nano", "", "sha256:1", ["ExecStart=serve"])
    (taken,) = blocked(host_plan(host, replace(fresh, instances=(replace(other, service=""),))))
    assert (taken.location, taken.expected) == ("spark-01: process nano", "a free process name")
    assert "on spark-01: mv nano nano-by-hand (or remove it)" in taken.hint
    full = replace(fresh.disks["images"], free=1 << 30)
    (disk,) = blocked(host_plan(host, replace(fresh, disks=dict.fromkeys(fresh.disks, full))))
    assert "(weights, image and process, the journal of a rollout)" in disk.message
    assert "rm -r /var/cache/process" in disk.hint
    assert "docker" not in taken.line + disk.line


def answer(part: dict[str, Any]) -> str:
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
    image = ImageRef("org/image", "1", "sha256:" + "1" * 64)
    own, other = service(image=image), with_service(image=image)
    ids = [fake_spark.generation_of(host, host.services[0]).id for host in (own, other)]
    assert ids[0] != ids[1]
