"""LoRA adapters of the hub: pinned, staged, and given to the engine by their directory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sparkfleet import engines
from sparkfleet.engines.vllm import adapters
from sparkfleet.lock.resolve import lock_targets
from tests.unit.config.fleet_files import SMALL, FleetFiles

ADAPTERS = "[sql=org/sql-lora, {name: b, path: org/b-lora@v2, base_model_name: x}, own=/models/mine]"


def declared(adapters: str = ADAPTERS) -> dict[str, str]:
    flags = f"flags: {{enable-lora: true, lora-modules: {adapters}}}"
    return {"spark-01.yaml": f"serve:\n  recipe: {SMALL}\n  {flags}\n"}


def test_an_adapter_of_the_hub_is_locked_and_staged_and_its_path_is_that_of_the_commit(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet(declared())
    _, models = lock_targets(files.load())
    assert [*models] == ["openai/gpt-oss-20b", "org/sql-lora", "org/b-lora@v2"]
    assert models["org/sql-lora"].place.endswith("spark-01.yaml:3")
    files.pin()
    service = files.load(need_lock=True).hosts[0].services[0]
    assert [one.repo for one in service.repositories] == ["openai/gpt-oss-20b", "org/sql-lora", "org/b-lora"]
    directories = [one.directory for one in service.drafters]
    assert directories[0].startswith("/models/hub/models--org--sql-lora/snapshots/")
    assert dict(service.flags)["lora-modules"] == [
        f"sql={directories[0]}",
        {"name": "b", "path": directories[1], "base_model_name": "x"},
        "own=/models/mine",
    ]
    argv = engines.get("vllm").args(service)
    assert f"sql={directories[0]}" in argv
    assert not service.gate.speculative


@pytest.mark.parametrize("adapters", ["sql=org/sql-lora", '[\'{"name": "sql", "path": "org/sql-lora"}\']'])
def test_one_adapter_and_an_adapter_as_json_are_read_too(
    fleet: Callable[..., FleetFiles], adapters: str
) -> None:
    files = fleet(declared(adapters))
    files.pin()
    (adapter,) = files.load(need_lock=True).hosts[0].services[0].drafters
    assert adapter.repo == "org/sql-lora"


def test_an_adapter_that_is_not_locked_is_named(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    files.pin()
    (files.directory / "spark-01.yaml").write_text(declared("[sql=org/sql-lora]")["spark-01.yaml"])
    diagnostic = files.diagnostic(need_lock=True)
    assert (diagnostic.code, "org/sql-lora" in diagnostic.message) == ("lock-entry-missing", True)


@pytest.mark.parametrize(
    "value", ['{"name":"a","path":"/x"}', "a=/x", ["a=/x", {"name": "b", "path": "/y"}], "{"]
)
def test_adapters_without_a_repository_stay_as_they_are_written(value: object) -> None:
    assert adapters.pinned(value, {"o/r": "/models/r"}) == value


def test_of_several_adapters_only_those_of_the_hub_get_a_directory() -> None:
    value = ["a=o/r", '{"name": "b", "path": "o/r"}', '{"name":"c","path":"/x"}']
    assert adapters.pinned(value, {"o/r": "/models/r"}) == [
        "a=/models/r",
        {"name": "b", "path": "/models/r"},
        '{"name":"c","path":"/x"}',
    ]
