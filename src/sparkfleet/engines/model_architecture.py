"""Size of a model's KV cache and recurrent state per token and per sequence, from its ``config.json``.

Formulas as in vLLM's KV cache specs (vllm/v1/kv_cache_interface.py) and its shapes of recurrent states, 0.24.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BLOCK = 16
"""Tokens per KV cache block."""
CONV_BYTES = 2
"""Bytes per element of a convolution state: it has the model's type, bfloat16."""
STATE_BYTES = 4
"""Bytes per element of a recurrent state: float32 unless ``--mamba-ssm-cache-dtype`` says otherwise."""
DEFAULT_VOCABULARY = 131072

_KV_BYTES: Mapping[str, float] = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4, "nvfp4": 0.5625}
"""Bytes per element; nvfp4 has a scale of one byte for every 16 elements of half a byte."""
_DS_MLA_TOKEN = 656
"""Bytes per token and layer of ``fp8_ds_mla``: 512 of latent, 16 of scales, 128 of position."""


def kv_bytes(dtype: str) -> float:
    """Return the bytes per element of a ``--kv-cache-dtype``; what is not known counts as bfloat16."""
    if dtype in _KV_BYTES:
        return _KV_BYTES[dtype]
    if dtype.startswith("nvfp4"):
        return _KV_BYTES["nvfp4"]
    return 1 if dtype.startswith(("fp8", "int8")) else _KV_BYTES["auto"]


@dataclass(frozen=True)
class ModelArchitecture:
    """The layers of a model by the kind of memory they keep."""

    full_layers: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    sliding_layers: int = 0
    """Layers that see only the last ``window`` tokens."""
    window: int = 0
    sliding_kv_heads: int = 0
    sliding_head_dim: int = 0
    latent_layers: int = 0
    """MLA: one vector per token instead of keys and values per head."""
    latent_dim: int = 0
    recurrent_layers: int = 0
    """Mamba-2 or gated delta net: a state per sequence, however long it is."""
    conv_elements: int = 0
    state_elements: int = 0
    vocabulary: int = DEFAULT_VOCABULARY
    context: int = 0
    """Native context in tokens; 0: not known."""

    @property
    def is_hybrid(self) -> bool:
        """Return whether the model has recurrent layers beside attention."""
        return self.recurrent_layers > 0

    def per_token(self, dtype: str, parallel: int = 1) -> float:
        """Return the bytes that each token adds, on each of ``parallel`` GPUs."""
        if self.latent_layers:
            # A latent vector is not split over GPUs.
            if dtype == "fp8_ds_mla":
                return self.latent_layers * _DS_MLA_TOKEN
            return self.latent_layers * self.latent_dim * kv_bytes(dtype)
        heads = max(1, self.kv_heads // parallel) if self.kv_heads else 0
        return self.full_layers * 2 * heads * self.head_dim * kv_bytes(dtype)

    def fixed(self, dtype: str, length: int, batched: int, parallel: int = 1) -> float:
        """Return the bytes of a sequence that do not depend on its length: sliding windows and recurrent
        states.

        A window is kept with one chunk of prefill (``batched`` tokens), in whole blocks and one more.
        """
        tokens = min(self.window - 1 + batched, length)
        blocks = math.ceil(tokens / BLOCK) + 1
        heads = max(1, self.sliding_kv_heads // parallel) if self.sliding_kv_heads else 0
        sliding = self.sliding_layers * 2 * heads * self.sliding_head_dim * kv_bytes(dtype) * blocks * BLOCK
        state = self.conv_elements * CONV_BYTES + self.state_elements * STATE_BYTES
        return sliding + self.recurrent_layers * state / parallel

    def sequence(self, length: int, dtype: str, batched: int, parallel: int = 1) -> float:
        """Return the bytes of one sequence of ``length`` tokens."""
        grown = self.per_token(dtype, parallel) * math.ceil(length / BLOCK) * BLOCK
        return grown + self.fixed(dtype, length, batched, parallel)


def from_config(config: Mapping[str, Any]) -> ModelArchitecture | None:
    """Return the shape that a ``config.json`` (or Mistral's ``params.json``) describes; None: not known.

    None also if the model has layers of an unknown kind: no guess.
    """
    text = _text_config(config)
    layers = _first(text, "num_hidden_layers", "n_layers")
    if not layers:
        return None
    vocabulary = _first(text, "vocab_size") or _first(config, "vocab_size") or DEFAULT_VOCABULARY
    context = _first(text, "max_position_embeddings", "max_seq_len", "model_max_length")
    common = {"vocabulary": vocabulary, "context": context}
    if latent := _first(text, "kv_lora_rank"):
        dim = latent + _first(text, "qk_rope_head_dim")
        return ModelArchitecture(latent_layers=layers, latent_dim=dim, **common)
    kinds = _kinds(text, layers)
    heads = _first(text, "num_key_value_heads", "n_kv_heads", "num_attention_heads", "n_heads")
    dim = _head_dim(text)
    if kinds is None or not heads or not dim:
        return None
    conv, state = _recurrent(text) if kinds["recurrent"] else (0, 0)
    if kinds["recurrent"] and not state:
        return None
    return ModelArchitecture(
        full_layers=kinds["full"],
        kv_heads=_first(text, "num_global_key_value_heads") or heads,
        head_dim=_first(text, "global_head_dim") or dim,
        sliding_layers=kinds["sliding"],
        window=_first(text, "sliding_window") if kinds["sliding"] else 0,
        sliding_kv_heads=heads if kinds["sliding"] else 0,
        sliding_head_dim=dim if kinds["sliding"] else 0,
        recurrent_layers=kinds["recurrent"],
        conv_elements=conv,
        state_elements=state,
        **common,
    )


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a multimodal model's config that describes its language model."""
    for name in ("text_config", "language_config", "llm_config"):
        if isinstance(config.get(name), Mapping):
            return _text_config(config[name])
    return config


def _first(config: Mapping[str, Any], *names: str) -> int:
    """Return the first of these that is a positive integer; 0 if there is none."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _head_dim(text: Mapping[str, Any]) -> int:
    declared = _first(text, "head_dim", "attention_head_dim")
    heads, width = _first(text, "num_attention_heads", "n_heads"), _first(text, "hidden_size", "dim")
    return declared or (width // heads if heads else 0)


_KIND = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "linear_attention": "recurrent",
    "mamba": "recurrent",
    "moe": "none",
    "mlp": "none",
    "*": "full",
    "M": "recurrent",
    "E": "none",
    "-": "none",
}
"""Kind of layer by its name in ``layer_types`` or its letter in ``hybrid_override_pattern`` (Nemotron-H)."""


def _kinds(text: Mapping[str, Any], layers: int) -> dict[str, int] | None:
    """Return the number of layers by kind; None if a kind is unknown."""
    counts = {"full": 0, "sliding": 0, "recurrent": 0, "none": 0}
    named = text.get("layer_types") or text.get("layers_block_type") or text.get("hybrid_override_pattern")
    if named:
        for name in named:
            if name not in _KIND:
                return None
            counts[_KIND[name]] += 1
        return counts
    if text.get("full_attention_interval") and "linear_num_value_heads" in text:
        counts["full"] = layers // int(text["full_attention_interval"])
        counts["recurrent"] = layers - counts["full"]
        return counts
    if any(name.startswith(("mamba_", "ssm_")) for name in text):
        return None
    pattern = _first(text, "sliding_window_pattern")
    if pattern and _first(text, "sliding_window"):
        counts["full"] = layers // pattern
        counts["sliding"] = layers - counts["full"]
        return counts
    # A window on every layer counts as full attention, which is the upper bound.
    counts["full"] = layers
    return counts


def _recurrent(text: Mapping[str, Any]) -> tuple[int, int]:
    """Return the elements of convolution and recurrent state of a layer per sequence."""
    if "linear_num_value_heads" in text:
        keys = _first(text, "linear_num_key_heads") * _first(text, "linear_key_head_dim")
        values = _first(text, "linear_num_value_heads") * _first(text, "linear_value_head_dim")
        kernel = _first(text, "linear_conv_kernel_dim")
        return (2 * keys + values) * (kernel - 1), values * _first(text, "linear_key_head_dim")
    inner = _first(text, "mamba_num_heads") * _first(text, "mamba_head_dim")
    size, groups = _first(text, "ssm_state_size", "mamba_d_state"), _first(text, "n_groups", "mamba_n_groups")
    kernel = _first(text, "conv_kernel", "mamba_d_conv")
    return (inner + 2 * groups * size) * (kernel - 1), inner * size
