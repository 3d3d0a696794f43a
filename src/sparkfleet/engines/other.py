"""Engines that sparkfleet recognizes on a Spark and does not run."""

from __future__ import annotations

from collections.abc import Mapping

from sparkfleet.engines.base import Footprints

RECOGNIZED: Mapping[str, Footprints] = {
    "SGLang": Footprints(programs=("sglang",)),
    "Ollama": Footprints(programs=("ollama",)),
    "TensorRT-LLM": Footprints(programs=("trtllm",), in_containers=("tensorrt-llm",)),
}
