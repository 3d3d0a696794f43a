"""Figures under "Exact" were compared with vLLM's own KV cache classes, the others with measurements."""

import dataclasses
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.engines.base import GIB
from sparkfleet.engines.model_architecture import ModelArchitecture, from_config, kv_bytes
from sparkfleet.engines.vllm import args, calibrate, memory, schema
from sparkfleet.engines.vllm.memory import Machine, Settings, estimate, settings

NEMO = {
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 131072,
    "max_position_embeddings": 131072,
}
LLAMA_70B = {
    **NEMO,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "hidden_size": 8192,
    "vocab_size": 128256,
}
del LLAMA_70B["head_dim"]
GPT_OSS_120B = {
    "num_hidden_layers": 36,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "sliding_window": 128,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
}
QWEN35_35B = {
    "model_type": "qwen3_5_moe",
    "text_config": {
        "num_hidden_layers": 40,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 10,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "vocab_size": 248320,
        "max_position_embeddings": 262144,
    },
}
MISTRAL_SMALL_4 = {
    "n_layers": 36,
    "n_heads": 32,
    "kv_lora_rank": 256,
    "qk_rope_head_dim": 64,
    "vocab_size": 131072,
    "max_seq_len": 262144,
}
NANO = {
    "num_hidden_layers": 52,
    "hybrid_override_pattern": "M" * 23 + "*" * 6 + "E" * 23,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "mamba_num_heads": 64,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "vocab_size": 131072,
    "max_position_embeddings": 262144,
}
MODELS = [NEMO, LLAMA_70B, GPT_OSS_120B, QWEN35_35B, MISTRAL_SMALL_4, NANO]
SPARK = Machine(total_gib=121.69)


def shape_of(config: dict[str, Any]) -> ModelArchitecture:
    shape = from_config(config)
    assert shape is not None
    return shape


def sequence_gb(config: dict[str, Any], length: int, dtype: str = "auto") -> float:
    return shape_of(config).sequence(length, dtype, 8192) / 1e9


# Exact


def test_full_attention_keeps_keys_and_values_of_every_kv_head() -> None:
    assert shape_of(NEMO).per_token("fp8") == 81_920
    assert shape_of(NEMO).per_token("auto") == 163_840


def test_mla_keeps_one_latent_vector_per_token() -> None:
    assert shape_of(MISTRAL_SMALL_4).per_token("auto") == 23_040


def test_sliding_layers_keep_a_window_alone() -> None:
    assert sequence_gb(GPT_OSS_120B, 131072) == pytest.approx(5.139, abs=0.0005)


def test_a_gated_delta_net_keeps_a_state_whatever_the_length() -> None:
    shape = shape_of(QWEN35_35B)
    assert shape.fixed("auto", 262144, 8192) / 2**20 == pytest.approx(61.4, abs=0.05)
    assert shape.fixed("auto", 1024, 8192) == shape.fixed("fp8", 262144, 2048)


# As measured or published


@pytest.mark.parametrize(("length", "gb"), [(8192, 0.67), (32768, 2.68), (131072, 10.74)])
def test_the_cache_of_a_sequence_grows_with_its_length(length: int, gb: float) -> None:
    assert sequence_gb(NEMO, length, "fp8") == pytest.approx(gb, abs=0.005)


@pytest.mark.parametrize(
    ("config", "length", "gib"),
    [(LLAMA_70B, 131072, 40.0), (MISTRAL_SMALL_4, 262144, 5.6), (QWEN35_35B, 262144, 5.1)],
)
def test_one_full_sequence_of_known_models(config: dict[str, Any], length: int, gib: float) -> None:
    assert shape_of(config).sequence(length, "auto", 8192) / GIB == pytest.approx(gib, abs=0.06)


def test_mamba_layers_keep_a_state_whatever_the_length() -> None:
    shape = shape_of(NANO)
    assert (shape.full_layers, shape.recurrent_layers) == (6, 23)
    assert shape.per_token("auto") == 6 * 2 * 2 * 128 * 2
    assert shape.fixed("auto", 10, 10) == 23 * ((4096 + 2 * 8 * 128) * 3 * 2 + 4096 * 128 * 4)


@pytest.mark.parametrize(
    ("config", "weights", "flags", "pool"),
    [
        (NEMO, 12.9, Settings(65536, 64, 16384, 0.90), (75, 80)),
        (MISTRAL_SMALL_4, 66.0, Settings(262144, 128, 16384, 0.80), (13, 13)),
    ],
    ids=["NeMo FP8 on 25.09", "Mistral Small 4"],
)
def test_what_was_measured_lies_within_the_interval(
    config: dict[str, Any], weights: float, flags: Settings, pool: tuple[float, float]
) -> None:
    machine = Machine(119.7 if config is NEMO else 121.69)
    found = estimate(shape_of(config), int(weights * GIB), flags, machine)
    assert found.pool.low <= pool[0]
    assert found.pool.high >= pool[1]
    assert found.verdict == "fits"


@pytest.mark.parametrize(
    ("config", "weights", "flags", "machine", "verdict"),
    [
        (LLAMA_70B, 131.4, Settings(8192, 4, 8192, 0.85), SPARK, "does not fit"),
        (NEMO, 12.2 / 1.0737, Settings(131072, 4, 2048, 0.94, "fp8"), Machine(23.99, 1.0), "does not fit"),
        (LLAMA_70B, 42 / 1.0737, Settings(131072, 4, 8192, 0.85), SPARK, "fits"),
        (QWEN35_35B, 19 / 1.0737, Settings(65536, 4, 8192, 0.85, "fp8"), SPARK, "fits"),
        (MISTRAL_SMALL_4, 66, Settings(262144, 4, 16384, 0.70), SPARK, "tight"),
    ],
    ids=["Llama 70B BF16", "NeMo 128K on 24 GB", "Llama 70B NVFP4", "Qwen3.6 35B", "Mistral Small 4 at 0.70"],
)
def test_verdicts_on_known_deployments(
    config: dict[str, Any], weights: float, flags: Settings, machine: Machine, verdict: str
) -> None:
    assert estimate(shape_of(config), int(weights * GIB), flags, machine).verdict == verdict


def test_how_many_full_sequences_run_at_once() -> None:
    found = estimate(shape_of(NEMO), int(12.9 * GIB), Settings(65536, 64, 16384, 0.90), Machine(119.7))
    assert found.sequences.low > 7
    assert found.sequences.high < 9
    assert found.all_sequences.low == 64 * found.one_sequence.low


# The estimate


def test_the_largest_length_that_fits_is_reported() -> None:
    found = estimate(shape_of(MISTRAL_SMALL_4), 66 * GIB, Settings(262144, 4, 16384, 0.74), SPARK)
    assert found.verdict == "tight"
    again = Settings(found.largest_len, 4, 16384, 0.74)
    assert estimate(shape_of(MISTRAL_SMALL_4), 66 * GIB, again, SPARK).verdict == "fits"
    assert f"max-model-len {found.largest_len} would fit" in found.text()


FLAGS = st.builds(
    Settings,
    max_model_len=st.integers(1, 256).map(lambda blocks: blocks * 1024),
    max_num_seqs=st.integers(1, 64),
    utilization=st.floats(0.3, 0.95),
    kv_dtype=st.sampled_from(["auto", "fp8", "nvfp4"]),
)


@given(st.sampled_from(MODELS), st.integers(1, 130), FLAGS)
def test_the_largest_length_fits_and_the_next_one_is_not_certain(
    config: dict[str, Any], weights: int, flags: Settings
) -> None:
    shape = shape_of(config)
    largest = estimate(shape, weights * GIB, flags, SPARK).largest_len
    assert largest <= shape.context
    if largest:
        fitting = dataclasses.replace(flags, max_model_len=largest)
        assert estimate(shape, weights * GIB, fitting, SPARK).verdict == "fits"
    if largest < shape.context:
        larger = dataclasses.replace(flags, max_model_len=largest + 1024)
        assert estimate(shape, weights * GIB, larger, SPARK).verdict != "fits"


@given(st.sampled_from(MODELS), st.integers(1, 100), st.floats(0.3, 0.9), st.floats(0.01, 0.05))
def test_more_memory_for_the_engine_never_fits_less(
    config: dict[str, Any], weights: int, utilization: float, more: float
) -> None:
    order = ["does not fit", "tight", "fits"]
    less, greater = (
        estimate(shape_of(config), weights * GIB, Settings(32768, 4, 8192, share), SPARK).verdict
        for share in (utilization, utilization + more)
    )
    assert order.index(less) <= order.index(greater)


def test_without_a_length_the_models_own_context_is_taken() -> None:
    found = estimate(shape_of(NEMO), 12 * GIB, Settings(utilization=0.8), SPARK)
    assert found.max_model_len == 131072
    assert "128K sequence" in found.text()


def test_an_unknown_model_is_judged_by_its_weights_alone() -> None:
    assert estimate(None, 20 * GIB, Settings(), SPARK).verdict == "unknown"
    assert "KV unknown" in estimate(None, 20 * GIB, Settings(), SPARK).text()
    assert estimate(None, 200 * GIB, Settings(), SPARK).verdict == "does not fit"
    assert estimate(None, 20 * GIB, Settings(), SPARK).largest_len == 0


def test_other_services_and_the_reserve_count() -> None:
    alone = estimate(shape_of(NEMO), 12 * GIB, Settings(32768, 4, utilization=0.5), SPARK)
    assert alone.leaves_reserve
    shared = Machine(121.69, reserve_gib=12, others_gib=50)
    crowded = estimate(shape_of(NEMO), 12 * GIB, Settings(32768, 4, utilization=0.5), shared)
    assert not crowded.leaves_reserve
    assert "less than the reserve" in crowded.text()
    full = Machine(121.69, reserve_gib=12, others_gib=70)
    assert (
        estimate(shape_of(NEMO), 12 * GIB, Settings(32768, 4, utilization=0.5), full).verdict
        == "does not fit"
    )


def test_without_graphs_there_is_more_for_the_cache() -> None:
    graphs = estimate(shape_of(NEMO), 12 * GIB, Settings(32768, 4), SPARK)
    eager = estimate(shape_of(NEMO), 12 * GIB, Settings(32768, 4, eager=True), SPARK)
    assert eager.pool.low - graphs.pool.low == pytest.approx(5.0)
    assert eager.pool.high - graphs.pool.high == pytest.approx(0.3)


def test_a_cache_of_a_given_size_replaces_the_share() -> None:
    flags = Settings(32768, 4, kv_cache_gib=8)
    found = estimate(shape_of(NEMO), 12 * GIB, flags, SPARK)
    assert (found.pool.low, found.pool.high) == (8, 8)
    assert found.budget_gib == pytest.approx(12 + 8 + found.overhead.high)


def test_two_sparks_share_weights_heads_and_states() -> None:
    one, two = (Settings(32768, 4, utilization=0.8, parallel=n) for n in (1, 2))
    alone, shared = (estimate(shape_of(QWEN35_35B), 40 * GIB, flags, SPARK) for flags in (one, two))
    assert shared.weights_gib == alone.weights_gib / 2
    assert shared.one_sequence.low == pytest.approx(alone.one_sequence.low / 2)
    assert shape_of(MISTRAL_SMALL_4).per_token("auto", 2) == shape_of(MISTRAL_SMALL_4).per_token("auto")


def test_the_line_for_people_names_every_part() -> None:
    found = estimate(shape_of(QWEN35_35B), int(18.1 * GIB), Settings(65536, 4, 8192, 0.8, "fp8"), SPARK)
    assert found.text() == (
        "18.1 weights + 0.7 KV for one 64K sequence (room for 65.2..75.1) + 12.0 reserve of 121.7 GiB: fits"
    )


# Flags


def parsed(line: str, version: str = "0.33.0") -> Settings:
    known = schema.load(version)
    return settings(args.parse(line.split(), known).values, known)


def test_the_flags_that_decide_are_read() -> None:
    line = (
        "m --max-model-len 64K --max-num-seqs 4 --max-num-batched-tokens 16384 --gpu-memory-utilization 0.85"
        " --kv-cache-dtype fp8 --enforce-eager -tp 2 -pp 2 --kv-cache-memory-bytes 8G"
    )
    assert parsed(line) == Settings(65536, 4, 16384, 0.85, "fp8", True, 4, 8 * 2**30 / GIB)


@pytest.mark.parametrize(("version", "share"), [("0.19.0", 0.9), ("0.20.0", 0.92), ("0.33.0", 0.92)])
def test_a_missing_value_is_the_releases_default(version: str, share: float) -> None:
    assert parsed("m --max-model-len auto", version) == Settings(0, 1024, 8192, share)


def test_without_a_schema_the_newest_default_is_taken() -> None:
    assert settings({}) == Settings()


def test_a_value_that_is_no_number_counts_as_not_given() -> None:
    assert settings({"--max-num-seqs": "four", "--max-model-len": True}) == Settings()


# Shapes


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("auto", 2), ("bfloat16", 2), ("float32", 4), ("fp8", 1), ("fp8_e5m2", 1), ("int8_per_token_head", 1),
        ("nvfp4", 0.5625), ("nvfp4_4over6", 0.5625), ("brand_new", 2),
    ],
)  # fmt: skip
def test_bytes_of_a_cache_element(dtype: str, size: float) -> None:
    assert kv_bytes(dtype) == size


def test_deepseeks_own_cache_type_has_a_size_of_its_own() -> None:
    assert shape_of(MISTRAL_SMALL_4).per_token("fp8_ds_mla") == 36 * 656


def test_a_missing_head_dim_follows_from_the_width() -> None:
    assert shape_of(LLAMA_70B).head_dim == 128


def test_full_layers_may_have_heads_of_their_own() -> None:
    gemma = {
        **GPT_OSS_120B,
        "sliding_window": 1024,
        "head_dim": 256,
        "global_head_dim": 512,
        "num_global_key_value_heads": 2,
    }
    shape = shape_of(gemma)
    assert (shape.kv_heads, shape.head_dim, shape.sliding_kv_heads, shape.sliding_head_dim) == (
        2,
        512,
        8,
        256,
    )


def test_a_pattern_says_every_how_many_layers_attention_is_full() -> None:
    shape = shape_of({**NEMO, "num_hidden_layers": 48, "sliding_window": 512, "sliding_window_pattern": 6})
    assert (shape.full_layers, shape.sliding_layers, shape.window) == (8, 40, 512)


def test_an_interval_says_every_how_many_layers_attention_is_full() -> None:
    text: dict[str, Any] = dict(cast("dict[str, Any]", QWEN35_35B["text_config"]))
    del text["layer_types"]
    shape = shape_of({**text, "full_attention_interval": 4})
    assert shape == shape_of(QWEN35_35B)


def test_a_window_on_every_layer_counts_as_full_attention() -> None:
    assert shape_of({**NEMO, "sliding_window": 4096}).full_layers == 40


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_hidden_layers": 3},
        {**NEMO, "layer_types": ["moon_attention"] * 40},
        {**NEMO, "mamba_d_state": 16},
        {**NANO, "ssm_state_size": None},
        {**NEMO, "num_key_value_heads": None, "num_attention_heads": None},
    ],
)
def test_a_model_of_unknown_kind_is_not_guessed(config: dict[str, Any]) -> None:
    assert from_config(config) is None


# Calibration

LOG = """\
INFO 11-20 10:00:00 [gpu_model_runner.py:3100] Model loading took 18.0724 GiB and 95.6 seconds
INFO 11-20 10:00:00 [gpu_worker.py:298] Available KV cache memory: 73.33 GiB
INFO 11-20 10:00:00 [gpu_model_runner.py:4200] Graph capturing finished in 12 secs, took 0.42 GiB
"""
RAN = Settings(65536, 4, 8192, 0.8, "fp8")


def test_an_engines_log_turns_the_interval_into_a_figure() -> None:
    measured = calibrate.measured(LOG, RAN, SPARK.total_gib)
    found = estimate(shape_of(QWEN35_35B), 19 * GIB, RAN, SPARK, measured)
    assert found.weights_gib == pytest.approx(18.0724)
    assert [found.pool.low, found.pool.high] == pytest.approx([73.33, 73.33])


def test_the_figure_holds_for_another_share_and_length_but_not_for_another_batch() -> None:
    measured = calibrate.measured(LOG, RAN, SPARK.total_gib)
    longer = estimate(shape_of(QWEN35_35B), 0, Settings(131072, 4, 8192, 0.7, "fp8"), SPARK, measured)
    assert longer.pool.low == longer.pool.high == pytest.approx(73.33 - 0.1 * 121.69)
    other = estimate(shape_of(QWEN35_35B), 0, Settings(65536, 4, 16384, 0.8, "fp8"), SPARK, measured)
    assert other.pool.low < other.pool.high
    assert other.weights_gib == pytest.approx(18.0724)


@pytest.mark.parametrize("log", ["", LOG.splitlines()[0], LOG.splitlines()[1]])
def test_a_log_that_says_half_of_it_calibrates_nothing(log: str) -> None:
    assert calibrate.measured(log, RAN, SPARK.total_gib) is None


def test_defaults_of_the_model_are_vllms_own() -> None:
    assert (memory.MAX_NUM_SEQS, memory.BATCHED_TOKENS) == (1024, 8192)
