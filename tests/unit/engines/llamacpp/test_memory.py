"""Memory of a GGUF model: its file, and a KV cache by the dimensions of config.json or the file's header."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.desired_state import Host, Service
from sparkfleet.engines.base import GIB
from sparkfleet.engines.llamacpp import gguf
from sparkfleet_lab.standins import tiny_gguf
from tests.unit.engines.llamacpp.test_engine import FILE, SERVICE

ENGINE = engines.get("llamacpp")
NEMO = (
    ("num_hidden_layers", 40), ("num_attention_heads", 32), ("num_key_value_heads", 8), ("head_dim", 128),
)  # fmt: skip


def service(config: tuple[tuple[str, Any], ...] = NEMO, gib: float = 7, **flags: Any) -> Service:
    weights = replace(SERVICE.weights, files=(replace(FILE, size=int(gib * GIB)),), config=config)
    own = tuple((name.replace("_", "-"), value) for name, value in flags.items())
    return replace(SERVICE, weights=weights, flags=own)


def estimate(made: Service, *neighbours: Service) -> str:
    host = Host("spark-01", (made, *neighbours), reserve_gib=12)
    return ENGINE.memory_estimate(made, host, total_gib=119.7)


def test_weights_and_the_cache_of_the_context_are_counted() -> None:
    assert estimate(service(ctx_size=65536)) == (
        "7.0 weights + 10.0 KV cache for 65536 tokens + 12.0 reserve of 119.7 GiB: fits"
    )
    halved = service(ctx_size=65536, cache_type_k="q8_0", cache_type_v="q8_0", flash_attn=True)
    assert " 5.3 KV cache" in estimate(halved)


def test_a_context_that_does_not_fit_is_an_error_of_its_flag() -> None:
    large = replace(service(ctx_size=1_000_000), origin=(("flags.ctx-size", "spark-01.yaml:7"),))
    (found,) = ENGINE.check(large, Host("spark-01", (large,)), total_gib=119.7)
    assert (found.location, found.code) == ("flags.ctx-size", "model-too-large")
    assert "does not fit" in found.message


def test_another_engine_on_the_spark_counts() -> None:
    other = replace(service(), name="other", engine="vllm", flags=(("gpu-memory-utilization", 0.8),))
    text = estimate(service(ctx_size=65536), other)
    assert text.endswith("+ 95.8 other engines + 12.0 reserve of 119.7 GiB: does not fit")


@pytest.mark.parametrize(
    "config",
    [(), (*NEMO, ("sliding_window", 1024), ("sliding_window_pattern", 6)), (*NEMO, ("kv_lora_rank", 512))],
    ids=["no config", "sliding window", "latent attention"],
)
def test_a_cache_of_another_or_unknown_kind_is_reported_as_unknown(config: Any) -> None:
    text = estimate(service(config, ctx_size=65536))
    assert text == "7.0 weights + KV cache unknown for 65536 tokens + 12.0 reserve of 119.7 GiB: unknown"


def test_without_a_declared_context_llama_server_takes_what_fits() -> None:
    assert "KV cache unknown, context as it fits" in estimate(service())


def test_without_a_lock_file_there_is_no_estimate() -> None:
    unlocked = replace(SERVICE, weights=replace(SERVICE.weights, files=()))
    assert estimate(unlocked) == ""


def test_the_dimensions_are_read_from_the_first_bytes_of_the_file() -> None:
    header = tiny_gguf.file("Q4_K_M")[:4000]  # ends within the tokenizer
    assert gguf.model_config(header) == {
        "num_hidden_layers": 1,
        "num_attention_heads": tiny_gguf.HEADS,
        "num_key_value_heads": tiny_gguf.HEADS,
        "hidden_size": tiny_gguf.WIDTH,
        "max_position_embeddings": tiny_gguf.CONTEXT,
        "vocab_size": len(tiny_gguf.TOKENS),
    }


@pytest.mark.parametrize("header", [b"", b"GGUF", b"PK\x03\x04" * 30, b"GGUF\x03\0\0\0" + b"\xff" * 64])
def test_a_header_that_is_none_says_nothing(header: bytes) -> None:
    assert gguf.model_config(header) == {}


def header(*entries: tuple[str, int, Any]) -> bytes:
    return tiny_gguf._file([("general.architecture", tiny_gguf.STRING, "x"), *entries], [])


def test_a_model_with_another_kind_of_cache_has_no_dimensions() -> None:
    plain = (("x.block_count", tiny_gguf.U32, 2), ("x.attention.head_count_kv", tiny_gguf.U32, 4))
    assert gguf.model_config(header(*plain)) == {"num_hidden_layers": 2, "num_key_value_heads": 4}
    for key in ("x.ssm.state_size", "x.attention.sliding_window", "x.attention.kv_lora_rank"):
        assert gguf.model_config(header(*plain, (key, tiny_gguf.U32, 8))) == {}
    lengths = (
        ("x.attention.key_length", tiny_gguf.U32, 192), ("x.attention.value_length", tiny_gguf.U32, 128),
    )  # fmt: skip
    assert gguf.model_config(header(*plain, *lengths)) == {}
    by_layer = ("x.attention.head_count_kv", tiny_gguf.ARRAY, (tiny_gguf.I32, [4, 0]))
    assert gguf.model_config(header(plain[0], by_layer)) == {}
