"""Rules for KV cache, prefill and context length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning
from sparkfleet.engines.vllm.rules.model_names import (
    GEMMA4_CODER,
    MISTRAL_NEMO,
    NEMOTRON3_NANO,
    NVFP4,
    QWEN35,
    QWEN35_35B,
    QWEN36_35B_NVFP4,
    SPARSE_INDEXER,
)

SANE_CONTEXT = 65536
LONG_PREFILL = 131072
INDEXER_MB = 64
NEMO_LIMIT = 65536
LENGTH, DTYPE = "--max-model-len", "--kv-cache-dtype"


@rule(
    "KV-01",
    "Qwen3.5 with an FP8 KV cache: two sources disagree",
    "dgx-vllm 7.1.3, 8, 11 against NVIDIA's recipe of Qwen3.5-122B-A10B",
)
def qwen35_cache(case: Case) -> Diagnostic | None:
    """Its answers repeat themselves with an FP8 cache on GB10."""
    if not case.is_model(QWEN35) or not case.has_fp8_cache:
        return None
    text = "Qwen3.5 with an FP8 KV cache was reported to repeat itself on GB10; NVIDIA serves the 122B so"
    return warning(text, "remove kv-cache-dtype, or check long answers", DTYPE)


@rule(
    "KV-02",
    "chunked prefill of Qwen3.5-35B-A3B: two sources disagree",
    "dgx-vllm 7.1.3 and 11 against vLLM (chunked prefill is the default of every generative model)",
)
def qwen35_prefill(case: Case) -> Diagnostic | None:
    """The source advises against the flag, but it is on by default."""
    if not case.is_model(QWEN35_35B) or not case.on("--enable-chunked-prefill"):
        return None
    text = (
        'dgx-vllm 7.1.3 says of --enable-chunked-prefill "about 9 times slower"; vLLM has it on by default, '
        "so that the flag changes nothing"
    )
    hint = "remove it; to be without it: enable-chunked-prefill: false"
    return warning(text, hint, "--enable-chunked-prefill")


@rule(
    "KV-03",
    "DFlash with an FP8 KV cache: two sources disagree",
    "dgx-vllm 13.1, 13.3, 13.6 against NVIDIA's recipe with DFlash2 on vLLM 0.28.0; vLLM does not check it",
)
def dflash_cache(case: Case) -> Diagnostic | None:
    """The drafter reads the target's cache."""
    if case.method != "dflash" or not case.has_fp8_cache:
        return None
    text = "DFlash was reported to draft badly from an FP8 KV cache; NVIDIA measured DFlash2 with one"
    return warning(text, "remove kv-cache-dtype, or compare the accepted tokens of both", DTYPE)


@rule("KV-04", "the MTP drafter of gemma-4-12B-coder needs an FP8 KV cache", "dgx-vllm 7.2.3, 13.6")
def coder_cache(case: Case) -> Diagnostic | None:
    """An NVFP4 cache breaks it."""
    if not case.is_model(GEMMA4_CODER) or case.method != "mtp" or case.has_fp8_cache:
        return None
    return error("the drafter of gemma-4-12B-coder needs an FP8 KV cache", "add kv-cache-dtype: fp8", DTYPE)


@rule("KV-05", "the publishers' recipes use an FP8 KV cache", "dgx-vllm 7.1.1, 7.3.1; vLLM's recipes")
def recipe_cache(case: Case) -> Diagnostic | None:
    """Half the memory per token; their publishers measured it."""
    is_nano = case.is_model(NEMOTRON3_NANO) and case.is_model(NVFP4)
    if not (is_nano or case.is_model(QWEN36_35B_NVFP4)) or case.text("--kv-cache-dtype"):
        return None
    return info("the publisher's recipe uses an FP8 KV cache: twice the tokens in the same memory")


@rule(
    "CTX-01", "--max-model-len is within the model's context", "dgx-vllm 7.1.2, 7.3.1; vllm/config/model.py"
)
def beyond_context(case: Case) -> Diagnostic | None:
    """VLLM refuses more, unless VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 or a rope override stretches it."""
    requested = case.number("--max-model-len")
    if requested is None or case.shape is None or not case.shape.context:
        return None
    limit = int(case.shape.context * _stretch(case))
    if requested <= limit or case.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1":
        return None
    text = f"--max-model-len {requested:.0f} is above the model's context of {limit}"
    hint = f"set max-model-len to {limit} or less, or env VLLM_ALLOW_LONG_MAX_MODEL_LEN=1"
    return error(text, hint, LENGTH)


@rule("CTX-02", "--max-model-len is set", "dgx-vllm 8")
def no_length(case: Case) -> Diagnostic | None:
    """The default is the native context; the start fails if one such sequence does not fit."""
    if "--max-model-len" in case.values:
        return None
    native = f" of {case.shape.context}" if case.shape and case.shape.context else ""
    text = f"--max-model-len is not set: the model's native context{native} must fit into the KV cache"
    return warning(text, f"set max-model-len, for example {SANE_CONTEXT}")


@rule("CTX-03", "YaRN is only for lengths above the native context", "dgx-vllm 7.1.2")
def needless_yarn(case: Case) -> Diagnostic | None:
    """Static YaRN costs quality on short texts."""
    requested = case.number(LENGTH)
    if requested is None or _stretch(case) <= 1:
        return None
    before = max(_yarn_values(case, "original_max_position_embeddings"), default=0)
    native = case.shape.context if case.shape and case.shape.context else before
    if requested > native:  # also where it is unknown
        return None
    text = f"--hf-overrides stretches the context by YaRN, though {requested:.0f} tokens need no stretching"
    return warning(text, f"remove it, or ask for more than {native:.0f} tokens", "--hf-overrides")


@rule("CTX-04", "Mistral NeMo on 25.09 is stable up to 64K", "mistral-nemo-spark")
def nemo_length(case: Case) -> Diagnostic | None:
    """98304 has run with at most 32 sequences."""
    requested = case.number("--max-model-len")
    if (
        not case.is_model(MISTRAL_NEMO)
        or not case.below("0.10.2")
        or requested is None
        or requested <= NEMO_LIMIT
    ):
        return None
    text = "Mistral NeMo on nvcr.io/nvidia/vllm:25.09-py3 may be unstable above 64K"
    return warning(text, "set 65536", LENGTH)


@rule(
    "CTX-05",
    "prefix caching of hybrid models is off by default up to vLLM 0.25.1",
    "dgx-vllm 8 says on by default; vLLM's source: for hybrids from 0.28.0",
)
def hybrid_prefix_caching(case: Case) -> Diagnostic | None:
    """The source's statement applies only to models without recurrent layers."""
    if case.shape is None or not case.shape.is_hybrid or not case.below("0.26"):
        return None
    if "--enable-prefix-caching" in case.values:
        return None
    text = f"prefix caching is off for this hybrid model in vLLM {case.version}"
    return info(text, "add enable-prefix-caching: true if prompts share beginnings")


def _stretch(case: Case) -> float:
    """Return by how much --hf-overrides stretches the context; 1: not at all."""
    return max(_yarn_values(case, "factor"), default=1.0)


def _yarn_values(case: Case, key: str) -> Iterator[float]:
    """Return the numbers of that key in every YaRN override."""
    return _in_yarn(case.values.get("--hf-overrides"), key)


def _in_yarn(value: Any, key: str) -> Iterator[float]:
    if not isinstance(value, Mapping):
        return
    number = value.get(key)
    if isinstance(number, int | float) and value.get("rope_type", value.get("type")) == "yarn":
        yield float(number)
    for inner in value.values():
        yield from _in_yarn(inner, key)


@rule(
    "KV-08",
    "NVFP4 weights with an FP8 KV cache through FlashInfer: crashes on SM120",
    "vllm#54225: an illegal memory access on a request of 16 tokens (SM120; not proven on GB10's SM121)",
)
def flashinfer_cache(case: Case) -> Diagnostic | None:
    """FlashInfer is also what vLLM chooses by itself."""
    backend = case.text("--attention-backend").upper()
    if backend not in ("", "AUTO", "FLASHINFER") or not case.has_fp8_cache or not case.is_model(NVFP4):
        return None
    if case.env.get("FLASHINFER_CUDA_ARCH_LIST"):
        return None
    text = (
        "NVFP4 weights with an FP8 KV cache through FlashInfer have crashed on SM120 (illegal memory access)"
    )
    hint = "if it happens here: env FLASHINFER_CUDA_ARCH_LIST=12.0f, or attention-backend: TRITON_ATTN"
    return info(text, hint, DTYPE)


@rule(
    "CTX-06",
    "long prefills of models with a sparse indexer have a small logits buffer",
    "vllm#55569: a prefill of 230000 tokens exhausted the memory of a Spark; 64 MB avoids it",
)
def indexer_logits(case: Case) -> Diagnostic | None:
    """Each chunk asks for another size, which unified memory never gets back."""
    name = "VLLM_SPARSE_INDEXER_MAX_LOGITS_MB"
    length = case.number(LENGTH) or (case.shape.context if case.shape else 0)
    if not case.is_model(SPARSE_INDEXER) or length <= LONG_PREFILL or case.schema.has("envs", name) is False:
        return None
    limit = case.env.get(name, "")
    if "expandable_segments:True" in case.allocator or (limit.isdigit() and int(limit) <= INDEXER_MB):
        return None
    text = (
        f"prefills of up to {length:.0f} tokens: the sparse indexer's buffers have exhausted a Spark's memory"
    )
    return warning(text, f"set env {name}={INDEXER_MB}, or max-model-len to {LONG_PREFILL}", LENGTH)


RULES: tuple[Rule, ...] = (
    qwen35_cache,
    qwen35_prefill,
    dflash_cache,
    coder_cache,
    recipe_cache,
    beyond_context,
    no_length,
    needless_yarn,
    nemo_length,
    hybrid_prefix_caching,
    flashinfer_cache,
    indexer_logits,
)
