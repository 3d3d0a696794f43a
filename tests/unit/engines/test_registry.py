"""Engines are found by name, and hosts and recipes name them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparkfleet import engines
from sparkfleet.contract.generation import Generation


@pytest.mark.parametrize("name", engines.names())
def test_every_engine_has_both_sides_under_the_name_of_its_folder(name: str) -> None:
    assert engines.get(name).name == name
    assert engines.on_host(name).name == name
    assert engines.get(name).title == engines.on_host(name).title


def test_an_unknown_engine_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        engines.get("nothing")


def generation(engine: str = engines.DEFAULT) -> Generation:
    return Generation("a", "i@sha256:1", "m", "r", "a", 8000, ("--label", "x"), "unit", engine=engine)


def test_the_engine_is_part_of_a_generations_identity_except_for_that_of_older_records() -> None:
    present = generation().to_json()
    old = {**present, "version": 1, "vllm": "0.24.0"}
    del old["engine"], old["engine_version"]
    assert Generation.from_json(old) == replace(generation(), engine_version="0.24.0")
    assert generation().id == "2d3e4a93f227"
    assert generation("another").id != generation().id
