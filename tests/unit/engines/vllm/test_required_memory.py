"""The memory without which a rollout is refused: less than any engine with these weights needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet import engines
from tests.unit.plan.nano import NANO, NGC

VLLM = engines.get("vllm")
QUANTIZED = (("quantization_config", {"quant_method": "modelopt"}),)


@pytest.mark.parametrize(
    ("flags", "config", "gib"),
    [
        ((), (), 13.5),
        ((("quantization", None),), (), 13.5),
        ((("tensor-parallel-size", 2),), (), 6.75),
        ((("quantization", "fp8"),), (), 0.0),
        ((("quantization", "modelopt"),), QUANTIZED, 13.5),
        ((), (("torch_dtype", "bfloat16"),), 13.5),
        ((), (("torch_dtype", "float32"),), 0.0),
        ((), (("text_config", {"dtype": "float32"}),), 0.0),
    ],
)
def test_most_of_the_weights_of_one_gpu_are_required(flags: Any, config: Any, gib: float) -> None:
    service = replace(NANO, flags=flags, weights=replace(NANO.weights, config=config))
    assert VLLM.required_gib(service) == pytest.approx(gib, abs=0.01)


def test_nothing_is_required_of_unlocked_weights_and_of_forks() -> None:
    assert VLLM.required_gib(replace(NANO, weights=replace(NANO.weights, files=()))) == 0
    fork = replace(NGC, repository="ghcr.io/eugr/spark-vllm-b12x")
    assert VLLM.required_gib(replace(NANO, image=fork)) == 0


def test_no_service_requires_more_than_its_engine_uses() -> None:
    for name in engines.names():
        engine = engines.get(name)
        assert engine.required_gib(NANO) <= engine.memory_gib(NANO, 120.0)
