"""An engine is added by its how-to as it is written: one folder, found by check, plan, gate and zipapp."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sparkfleet.cli
from sparkfleet import engines, zipapp
from sparkfleet.contract.generation import Gate as GateFields
from sparkfleet.desired_state import Host, ImageRef
from sparkfleet.onhost.gate import diagnosis, failure_patterns
from sparkfleet.onhost.gate.gate import Gate
from sparkfleet.onhost.machine import programs
from sparkfleet.onhost.machine.system import HttpRequest, HttpResponse
from sparkfleet.plan import host_changes
from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import Plan
from sparkfleet.plan.report import plan_text
from tests.unit.config.fleet_files import write
from tests.unit.engines import test_registry
from tests.unit.onhost.world import World, generation
from tests.unit.plan import fake_spark, nano
from tests.unit.test_how_to_extend import blocks

NAME = "tinyserve"
PAGE = "add-an-engine.md"
CACHES = (
    engines.names, engines.host_names, engines.get, engines.on_host, failure_patterns.read, diagnosis.reader,
    zipapp.build, zipapp.sha256, host_changes.managed_files,
)  # fmt: skip
HOST_FILE = f"""\
serve:
  - engine: {NAME}
    name: tiny
    model: org/tiny
    image: registry.example/tinyserve:1.0
    flags: {{context: 4096}}
"""


def forget() -> None:
    """Drop what is remembered of the engines that are there."""
    for cached in CACHES:
        cached.cache_clear()
    for module in [name for name in sys.modules if name.startswith(f"{engines.__name__}.{NAME}")]:
        del sys.modules[module]
    vars(engines).pop(NAME, None)


@pytest.fixture(autouse=True)
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write the folder of the page where engines are searched."""
    folder = tmp_path / "engines" / NAME
    folder.mkdir(parents=True)
    engine, onhost = blocks(PAGE, "python")
    (patterns,) = blocks(PAGE, "json")
    texts = {"__init__": "", "engine": engine, "onhost": onhost}
    for module, text in texts.items():
        (folder / f"{module}.py").write_text(text)
    (folder / "failure_patterns.json").write_text(patterns)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(folder.parent)])
    forget()
    yield
    forget()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.chdir(tmp_path)
    files = write(tmp_path, {"spark-01.yaml": HOST_FILE})
    files.pin()
    (loaded,) = files.load(need_lock=True).hosts
    return loaded


def test_it_passes_the_tests_of_every_engine() -> None:
    test_registry.test_every_engine_has_both_sides_under_the_name_of_its_folder(NAME)
    test_registry.test_the_gate_has_a_request_and_a_counter_for_the_tasks_of_an_engine_and_for_no_others(NAME)


def test_a_host_file_may_name_it_and_check_reports_its_findings(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.services[0].engine == NAME
    monkeypatch.setattr(sys, "argv", ["sparkfleet", "check", "inventories/lab.py", "--all"])
    with pytest.raises(SystemExit) as end:
        sparkfleet.cli.main()
    assert end.value.code == 0
    assert "spark-01.yaml:6: info: flags of Tinyserve are not checked" in capsys.readouterr().err


def test_the_plan_has_its_command_environment_and_changes_by_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = programs.status("nano runs", zipapp.sha256()[:12])
    monkeypatch.setattr(fake_spark, "GUARDED", supervisor)  # of the programs with this engine
    image = ImageRef("registry.example/tinyserve", "1.0", "sha256:" + "3" * 64, (NAME,), "1.0")
    before = nano.with_service(
        engine=NAME, image=image, flags=(("context", 4096),), env=(), served_name="tiny"
    )
    made = fake_spark.generation_of(before, before.services[0])
    position = made.definition.index(image.full_ref)
    assert made.definition[position + 1 :] == (
        "--model", f"nvidia/Nano@{'a' * 40}", "--port", "8000", "--name", "tiny", "--context", "4096",
    )  # fmt: skip
    assert any(word.startswith("TINYSERVE_CACHE=") for word in made.definition)
    after = nano.with_service(
        engine=NAME, image=image, flags=(("context", 8192),), env=(), served_name="tiny"
    )
    seen = fake_spark.converged(before)
    assert host_plan(before, seen).change_sets == ()
    text = plan_text(Plan((host_plan(after, seen),)))
    assert "  ~ flag        --context 4096 → 8192\n" in text


def test_the_readiness_gate_uses_its_requests_and_its_token_counter(world: World) -> None:
    paths: list[str] = []

    class Server:
        def http(self, request: HttpRequest) -> HttpResponse:
            paths.append(request.path)
            responses = {
                "/v1/models": json.dumps({"data": [{"id": "tiny", "max_model_len": 4096}]}),
                "/v1/chat/completions": json.dumps({"choices": [{"message": {"content": "204"}}]}),
                "/stats": f"tinyserve_tokens_total {len(paths)}\n",
            }
            return (
                HttpResponse(200, responses[request.path]) if request.path in responses else HttpResponse(404)
            )

        def __getattr__(self, name: str) -> object:
            return getattr(world, name)

    served = generation("tiny", served_name="tiny", engine=NAME, gate=GateFields(expect="204"))
    passed = Gate(Server(), served, lambda: None).prove()  # type: ignore[arg-type]
    assert passed.tokens > 0
    assert set(paths) == {"/v1/models", "/v1/chat/completions", "/stats"}
    found = diagnosis.reader(NAME).diagnose("tinyserve: unknown flag --contxt", 1)
    assert found is not None
    assert found.diagnostic.message == "this Tinyserve does not have the flag --contxt"


def test_the_program_for_the_spark_has_its_on_host_side_and_loads_it(tmp_path: Path) -> None:
    program = zipapp.build()
    prefix = f"sparkfleet/engines/{NAME}/"
    members = [name for name in zipfile.ZipFile(io.BytesIO(program)).namelist() if name.startswith(prefix)]
    assert [name.removeprefix(prefix) for name in members] == [
        "__init__.py", "failure_patterns.json", "onhost.py",
    ]  # fmt: skip
    path = tmp_path / "sparkfleet.pyz"
    path.write_bytes(program)
    code = (
        f"import sys; sys.path.insert(0, {str(path)!r}); from sparkfleet import engines;"
        f"assert {NAME!r} in engines.host_names(); print(engines.on_host({NAME!r}).metrics.path)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "/stats\n"
