"""Which files of a model repository an engine loads, and what of its config is worth keeping. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from sparkfleet.config.resolved import WeightFile

_ALWAYS = (".json", ".jinja", ".py", ".txt", ".model", ".tiktoken", ".yaml")
_WEIGHTS = ".safetensors"
_OLD_WEIGHTS = (".bin", ".pt", ".pth")
_OTHER_FORMATS = frozenset(
    {"original", "metal", "onnx", "openvino", "coreml", "gguf", "tf", "flax", ".eval_results"}
)
"""Directories with the same weights for other programs."""

_MAX_LIST = 512
_NESTED = (
    "text_config",
    "language_config",
    "llm_config",
    "rope_scaling",
    "rope_parameters",
    "quantization_config",
)
_NOT_KEPT = frozenset({"_name_or_path", "transformers_version", "auto_map", "id2label", "label2id"})


def loaded(files: Iterable[WeightFile]) -> tuple[WeightFile, ...]:
    """Return the files that vLLM reads, by path: weights once, configuration, tokenizer, templates, code."""
    kept = [file for file in files if not set(PurePosixPath(file.path).parts[:-1]) & _OTHER_FORMATS]
    kept = [file for file in kept if not any(part.startswith(".") for part in PurePosixPath(file.path).parts)]
    weights = [file for file in kept if file.path.endswith(_WEIGHTS)]
    if any(file.path.startswith("model") for file in weights):
        # Mistral's repositories hold the same weights twice; the sharded ones are what every release reads.
        weights = [file for file in weights if not file.path.startswith("consolidated")]
    if not weights:
        weights = [file for file in kept if file.path.endswith(_OLD_WEIGHTS)]
    rest = [file for file in kept if file.path.endswith(_ALWAYS)]
    return tuple(sorted({*weights, *rest}, key=lambda file: file.path))


def has_weights(files: Iterable[WeightFile]) -> bool:
    """Say whether there is anything to load."""
    return any(file.path.endswith((_WEIGHTS, *_OLD_WEIGHTS)) for file in files)


def figures(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what memory and checks need of a config.json: plain values, short lists, the text config."""
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key in _NOT_KEPT:
            continue
        if key in _NESTED and isinstance(value, dict):
            kept[key] = figures(value)
        elif _plain(value) or (
            isinstance(value, list) and len(value) <= _MAX_LIST and all(map(_plain, value))
        ):
            kept[key] = value
    # The long lists of layers that stay unquantised: nobody reads them here.
    if "quant_method" in kept or "quant_algo" in kept:
        kept = {key: value for key, value in kept.items() if not isinstance(value, list)}
    return kept


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) and len(str(value)) <= 200  # noqa: PLR2004
