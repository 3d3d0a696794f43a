"""The metadata at the beginning of a GGUF file: a model's dimensions. Pure.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The metadata comes before the tensors, the
dimensions before the tokenizer, so that the first bytes of the file have them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

HEADER_BYTES = 256 * 1024
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""``struct`` format by type number."""
_STRING, _ARRAY = 8, 9
_KNOWN = {
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "embedding_length": "hidden_size",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}
"""GGUF key after the architecture -> key of a config.json."""
_OTHER_CACHES = ("ssm.", "wkv.", "attention.sliding_window", "attention.kv_lora_rank", "shortconv.")
"""Keys of models whose cache is not keys and values of every token in every layer."""


def model_config(header: bytes) -> dict[str, Any]:
    """Return a model's dimensions by the keys of a ``config.json``; empty if they are not known."""
    found = metadata(header)
    prefix = f"{found.get('general.architecture')}."
    own = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    if any(key.startswith(_OTHER_CACHES) for key in own):
        return {}
    if own.get("attention.key_length") != own.get("attention.value_length"):
        return {}
    config = {name: own[key] for key, name in _KNOWN.items() if isinstance(own.get(key), int)}
    return config if "attention.head_count_kv" not in own or "num_key_value_heads" in config else {}


def metadata(header: bytes) -> Mapping[str, Any]:
    """Return the metadata in the first bytes of a file, as far as complete; None for arrays."""
    reader = _Reader(header)
    found: dict[str, Any] = {}
    try:
        magic, _, _, count = reader.read("4sIQQ")
        for _ in range(count if magic == b"GGUF" else 0):
            key = reader.string()
            found[key] = reader.value(reader.read("I")[0])
    except (struct.error, KeyError, UnicodeDecodeError):
        pass
    return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.offset = data, 0

    def read(self, layout: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{layout}", self.data, self.offset)
        self.offset += struct.calcsize(f"<{layout}")
        return found

    def string(self) -> str:
        (length,) = self.read("Q")
        if length > len(self.data):
            raise struct.error("beyond the end")
        text: bytes = self.read(f"{length}s")[0]
        return text.decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.read(_SCALARS[kind])[0]
        inner, count = self.read("IQ")
        for _ in range(count):
            self.value(inner)
        return None
