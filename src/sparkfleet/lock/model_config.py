"""What of a model's config.json is worth keeping in the lock file. Pure."""

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
_NOT_KEPT = frozenset({"_name_or_path", "transformers_version", "auto_map", "id2label", "label2id"})


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
