"""Selects the values of a model's config.json that the lock file keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_LIST = 512
_NESTED = (
    "text_config",
    "language_config",
    "llm_config",
    "rope_scaling",
    "rope_parameters",
    "quantization_config",
)
_DROPPED = frozenset({"_name_or_path", "transformers_version", "auto_map", "id2label", "label2id"})


def select(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what checks and the memory estimate use: plain values, short lists, the text config."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if key in _DROPPED:
            continue
        if key in _NESTED and isinstance(value, dict):
            result[key] = select(value)
        elif _plain(value) or (
            isinstance(value, list) and len(value) <= _MAX_LIST and all(map(_plain, value))
        ):
            result[key] = value
    # Long lists of unquantized layers are not used.
    if "quant_method" in result or "quant_algo" in result:
        result = {key: value for key, value in result.items() if not isinstance(value, list)}
    return result


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) and len(str(value)) <= 200  # noqa: PLR2004
