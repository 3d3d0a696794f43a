"""A model that the real vLLM can load: two layers of random numbers, and a tokenizer of single bytes.

It answers nonsense. Both the stand-in and the real engine can serve it.
"""

from __future__ import annotations

import array
import json
import random
import struct
import sys
from typing import Any

CONFIG: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": None,
    "max_position_embeddings": 2048,
    "vocab_size": 260,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}

_SPECIAL = ("<unk>", "<s>", "</s>")
_TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def shapes() -> dict[str, tuple[int, ...]]:
    """Return every tensor's shape by name."""
    hidden, intermediate, vocabulary_size = (
        CONFIG["hidden_size"],
        CONFIG["intermediate_size"],
        CONFIG["vocab_size"],
    )
    heads, kv = (
        CONFIG["num_attention_heads"] * CONFIG["head_dim"],
        CONFIG["num_key_value_heads"] * CONFIG["head_dim"],
    )
    by_name: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary_size, hidden)}
    for number in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        by_name |= {
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.mlp.down_proj.weight": (hidden, intermediate),
            f"{layer}.mlp.gate_proj.weight": (intermediate, hidden),
            f"{layer}.mlp.up_proj.weight": (intermediate, hidden),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.self_attn.k_proj.weight": (kv, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, heads),
            f"{layer}.self_attn.q_proj.weight": (heads, hidden),
            f"{layer}.self_attn.v_proj.weight": (kv, hidden),
        }
    return by_name | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary_size, hidden)}


def files() -> dict[str, bytes]:
    """Return the repository's files by name; the same bytes on every machine."""
    texts = {
        "config.json": CONFIG,
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "model_max_length": 2048,
            "chat_template": _TEMPLATE,
        },
    }
    by_name = {name: (json.dumps(data, indent=1) + "\n").encode() for name, data in texts.items()}
    return {**by_name, "model.safetensors": _weights()}


def _weights() -> bytes:
    source = random.Random("tiny")  # noqa: S311 - content, not a secret
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, offset = [], 0
    for name, shape in shapes().items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        norm = len(shape) == 1
        data = array.array("f", [1.0] * count if norm else [source.uniform(-0.1, 0.1) for _ in range(count)])
        if sys.byteorder == "big":
            data.byteswap()
        parts.append(data.tobytes())
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + 4 * count]}
        offset += 4 * count
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def _tokenizer() -> dict[str, Any]:
    """Return a byte-level BPE without merges: one token a byte."""
    vocabulary = {token: number for number, token in enumerate((*_SPECIAL, *_byte_letters()))}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, **special} for number, token in enumerate(_SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _byte_letters() -> list[str]:
    """Return the letter that a byte-level BPE writes for each byte: the byte itself if it is printable."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    unprintable = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + number) for number, byte in enumerate(unprintable)}
    return [letters[byte] for byte in range(256)]
