"""Which files of a model repository vLLM loads. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from sparkfleet.desired_state import WeightFile

_ALWAYS = (".json", ".jinja", ".py", ".txt", ".model", ".tiktoken", ".yaml")
_WEIGHTS = ".safetensors"
_OLD_WEIGHTS = (".bin", ".pt", ".pth")
_OTHER_FORMATS = frozenset(
    {"original", "metal", "onnx", "openvino", "coreml", "gguf", "tf", "flax", ".eval_results"}
)
"""Directories with the same weights for other programs."""


def loaded(files: Iterable[WeightFile]) -> tuple[WeightFile, ...]:
    """Return the files that vLLM reads, by path: weights once, configuration, tokenizer, templates, code.

    Empty when there are no weights among them.
    """
    loaded_files = []
    for file in files:
        parts = PurePosixPath(file.path).parts
        if not set(parts[:-1]) & _OTHER_FORMATS and not any(part.startswith(".") for part in parts):
            loaded_files.append(file)
    weights = [file for file in loaded_files if file.path.endswith(_WEIGHTS)]
    if any(file.path.startswith("model") for file in weights):
        # Mistral's repositories hold the same weights twice; the sharded ones are what every release reads.
        weights = [file for file in weights if not file.path.startswith("consolidated")]
    if not weights:
        weights = [file for file in loaded_files if file.path.endswith(_OLD_WEIGHTS)]
    if not weights:
        return ()
    rest = [file for file in loaded_files if file.path.endswith(_ALWAYS)]
    return tuple(sorted({*weights, *rest}, key=lambda file: file.path))
