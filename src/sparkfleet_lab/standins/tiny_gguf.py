"""A GGUF model that the real llama-server loads and that answers the readiness gate's question.

The network is a table: each token's embedding is a unit vector, attention and feed-forward are zero, and
the output layer maps the last token to the next one. The chat template ends a prompt with a colon, which maps
to "204", which maps to the end: the answer to "What is 12*17?", whatever the prompt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 32
VERSION = 3
BYTES_FROM = 3
"""Tokens: unknown, start, end, then the 256 bytes, then the answer."""
ANSWER = "204"
TOKENS = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), ANSWER)
WIDTH = 288
INNER = 32
HEADS = 4
CONTEXT = 2048
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "Q4_K_M": 15}
"""Quantization -> ``general.file_type``. The file's numbers are 32 or 16 bits wide, independent of it."""

U32, I32, F32, BOOL, STRING, ARRAY, U16 = 4, 5, 6, 7, 8, 9, 2
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_TENSOR_F32, _TENSOR_F16 = 0, 1


@dataclass(frozen=True)
class Tensor:
    """A tensor; ``shape`` as GGUF writes it: the innermost dimension first."""

    name: str
    shape: tuple[int, ...]
    values: bytes
    half: bool = False


def file(quantization: str, name: str = "tiny") -> bytes:
    """Return a model as one file."""
    return _file(metadata(quantization, name), tensors(half=quantization == "F16"))


def parts(quantization: str, count: int, name: str = "tiny") -> tuple[bytes, ...]:
    """Return a model split into ``count`` files, as ``llama-gguf-split`` does."""
    content = tensors(half=quantization == "F16")
    size = -(-len(content) // count)
    made = []
    for number in range(count):
        split = [
            ("split.no", U16, number),
            ("split.count", U16, count),
            ("split.tensors.count", I32, len(content)),
        ]
        own = metadata(quantization, name) if number == 0 else []
        made.append(_file([*own, *split], content[number * size : (number + 1) * size]))
    return tuple(made)


def metadata(quantization: str, name: str) -> list[tuple[str, int, Any]]:
    """Return key, type and value of each metadata entry."""
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, _NORMAL]
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, name),
        ("general.file_type", U32, FILE_TYPES[quantization]),
        ("llama.context_length", U32, CONTEXT),
        ("llama.embedding_length", U32, WIDTH),
        ("llama.block_count", U32, 1),
        ("llama.feed_forward_length", U32, INNER),
        ("llama.attention.head_count", U32, HEADS),
        ("llama.attention.head_count_kv", U32, HEADS),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.rope.dimension_count", U32, WIDTH // HEADS),
        ("llama.vocab_size", U32, len(TOKENS)),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, TOKENS)),
        ("tokenizer.ggml.scores", ARRAY, (F32, [0.0] * len(TOKENS))),
        ("tokenizer.ggml.token_type", ARRAY, (I32, kinds)),
        ("tokenizer.ggml.bos_token_id", U32, 1),
        ("tokenizer.ggml.eos_token_id", U32, 2),
        ("tokenizer.ggml.unknown_token_id", U32, 0),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_space_prefix", BOOL, False),
        ("tokenizer.chat_template", STRING, TEMPLATE),
    ]


def tensors(*, half: bool) -> list[Tensor]:
    """Return the tensors of the table network."""
    count = len(TOKENS)
    table = _rows(count, ((token, token) for token in range(count)), half=half)
    answer, end, colon = count - 1, 2, BYTES_FROM + ord(":")
    follows = dict.fromkeys(range(count), end) | {colon: answer}
    output = _rows(count, ((next_token, token) for token, next_token in follows.items()), half=half)
    ones = struct.pack("<f", 1.0) * WIDTH
    size = 2 if half else 4
    square, wide = bytes(size * WIDTH * WIDTH), bytes(size * WIDTH * INNER)
    return [
        Tensor("token_embd.weight", (WIDTH, count), table, half),
        Tensor("output_norm.weight", (WIDTH,), ones),
        Tensor("output.weight", (WIDTH, count), output, half),
        Tensor("blk.0.attn_norm.weight", (WIDTH,), ones),
        *(Tensor(f"blk.0.attn_{part}.weight", (WIDTH, WIDTH), square, half) for part in "qkv"),
        Tensor("blk.0.attn_output.weight", (WIDTH, WIDTH), square, half),
        Tensor("blk.0.ffn_norm.weight", (WIDTH,), ones),
        Tensor("blk.0.ffn_gate.weight", (WIDTH, INNER), wide, half),
        Tensor("blk.0.ffn_up.weight", (WIDTH, INNER), wide, half),
        Tensor("blk.0.ffn_down.weight", (INNER, WIDTH), wide, half),
    ]


def _rows(count: int, ones: Iterable[tuple[int, int]], *, half: bool) -> bytes:
    """Return a matrix of ``count`` rows that is 1 at each (row, column) of ``ones``, else 0."""
    one, size = (struct.pack("<e", 1.0), 2) if half else (struct.pack("<f", 1.0), 4)
    data = bytearray(count * WIDTH * size)
    for row, column in ones:
        at = (row * WIDTH + column) * size
        data[at : at + size] = one
    return bytes(data)


def _file(entries: Sequence[tuple[str, int, Any]], content: Sequence[Tensor]) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", VERSION, len(content), len(entries))
    for key, kind, value in entries:
        head += _string(key) + struct.pack("<I", kind) + _value(kind, value)
    body = b""
    for tensor in content:
        kind = _TENSOR_F16 if tensor.half else _TENSOR_F32
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        head += _string(tensor.name) + shape + struct.pack("<IQ", kind, len(body))
        body += tensor.values + bytes(-len(tensor.values) % ALIGNMENT)
    return head + bytes(-len(head) % ALIGNMENT) + body


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        of, items = value
        return struct.pack("<IQ", of, len(items)) + b"".join(_value(of, item) for item in items)
    return struct.pack({U16: "<H", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
