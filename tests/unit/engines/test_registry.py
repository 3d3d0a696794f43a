"""Engines are found by name, and hosts and recipes name them."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from sparkfleet import engines, runtimes
from sparkfleet.contract.generation import Generation, Task
from sparkfleet.plan import other_tools


@pytest.mark.parametrize("name", engines.names())
def test_every_engine_has_both_sides_under_the_name_of_its_folder(name: str) -> None:
    assert engines.get(name).name == name
    assert engines.on_host(name).name == name
    assert engines.get(name).title == engines.on_host(name).title


@pytest.mark.parametrize("name", engines.names())
def test_the_gate_has_a_request_and_a_counter_for_the_tasks_of_an_engine_and_for_no_others(name: str) -> None:
    on_host = engines.on_host(name)
    supported = {task for task in Task if on_host.answer_requests(task, "m", "p", 1)}
    assert supported == engines.get(name).tasks
    assert on_host.metrics.tokens
    assert on_host.metrics.prompts or Task.EMBEDDING not in supported


def test_an_engine_for_clusters_starts_ranks_by_each_executor() -> None:
    executors = {name: set(engines.on_host(name).cluster_starts) for name in engines.names()}
    with_clusters = {
        name: set(get_args(engines.Executor)) for name in engines.names() if engines.get(name).cluster
    }
    assert {name: found for name, found in executors.items() if found} == with_clusters


def test_what_other_engines_leave_is_recognized() -> None:
    assert {"sglang", "ollama", "trtllm", "vllm", "llama-server"} == set(other_tools.programs())
    assert {"tensorrt-llm", "ray start", "llama"} < set(other_tools.in_containers())


def test_an_unknown_engine_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        engines.get("nothing")


def generation(engine: str = engines.DEFAULT) -> Generation:
    definition = ("--label", "x")
    return Generation("a", "i@sha256:1", "m", "r", "a", 8000, definition, "unit", engine, runtimes.DEFAULT)


def test_the_engine_is_part_of_a_generations_identity_except_for_that_of_older_records() -> None:
    present = generation().to_json()
    old = {**present, "version": 1, "vllm": "0.24.0", "create": present["definition"]}
    del old["engine"], old["engine_version"], old["runtime"], old["definition"]
    assert Generation.from_json(old) == replace(generation(), engine_version="0.24.0")
    assert generation().id == "2d3e4a93f227"
    assert generation("another").id != generation().id
