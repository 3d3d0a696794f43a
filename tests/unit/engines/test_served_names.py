"""Operator and Spark agree on the names under which an engine serves a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet import engines
from tests.unit.engines.llamacpp.test_engine import SERVICE as GGUF
from tests.unit.plan.nano import NANO

SERVICES = {"vllm": NANO, "llamacpp": GGUF}
"""By engine: a service of every engine that takes several names."""


def test_every_engine_that_takes_several_names_is_tested_here() -> None:
    assert {name for name in engines.names() if engines.get(name).takes_aliases} == set(SERVICES)


@pytest.mark.parametrize("aliases", [(), ("org/Model",), ("org/Model", "gpt-4o")])
@pytest.mark.parametrize("name", SERVICES)
def test_the_spark_reads_the_names_that_the_operator_renders(name: str, aliases: tuple[str, ...]) -> None:
    service = replace(SERVICES[name], served_name="first", served_aliases=aliases)
    argv = engines.get(name).args(service)
    assert engines.on_host(name).served_names(argv) == ("first", *aliases)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_with_one_name_has_the_same_arguments_as_ever(name: str) -> None:
    service = replace(SERVICES[name], served_name="first")
    argv = engines.get(name).args(service)
    flag = "--served-model-name" if name == "vllm" else "--alias"
    position = argv.index(flag)
    assert argv[position + 1] == "first"
    assert argv[position + 2].startswith("--")
