"""Engines that sparkfleet recognizes on a Spark and does not run; and the footprints of all engines."""

from __future__ import annotations

from collections.abc import Mapping

from sparkfleet import engines
from sparkfleet.engines.base import Footprints

RECOGNIZED: Mapping[str, Footprints] = {
    "SGLang": Footprints(programs=("sglang",)),
    "Ollama": Footprints(programs=("ollama",)),
    "TensorRT-LLM": Footprints(programs=("trtllm",), in_containers=("tensorrt-llm",)),
}


def footprints() -> tuple[Footprints, ...]:
    """Return what tools for each engine leave on a Spark."""
    return (*(engines.get(name).footprints for name in engines.names()), *RECOGNIZED.values())
