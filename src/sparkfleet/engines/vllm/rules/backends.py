"""Rules for kernels and backends: what GB10 (SM121) supports."""

from __future__ import annotations

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning
from sparkfleet.engines.vllm.rules.model_names import (
    GEMMA4_26B_NVFP4,
    LAGUNA,
    MISTRAL_SMALL_4,
    NEMOTRON35_LIGHTNING,
    NVFP4,
    QWEN36_35B_NVFP4,
)

_GEMMA_BACKENDS = ("cutlass", "marlin", "flashinfer_cutlass")
_CUTLASS = ("cutlass", "flashinfer_cutlass")


@rule(
    "BK-01", "Mistral Small 4 (MLA) runs with TRITON_MLA on GB10", "mistral-small-4-spark 4; dgx-vllm 7.4.1"
)
def mla_backend(case: Case) -> Diagnostic | None:
    """The MLA kernels of FlashAttention and FlashInfer are for SM100: illegal instruction."""
    backend = case.text("--attention-backend").upper()
    if not case.is_model(MISTRAL_SMALL_4) or backend == "TRITON_MLA":
        return None
    text = (
        f"Mistral Small 4 with {backend or 'the default attention backend'} ends with an illegal instruction"
    )
    if case.below("0.13"):
        return error(text, "set env VLLM_ATTENTION_BACKEND=TRITON_MLA (the flag came with vLLM 0.13.0)")
    return error(text, "set attention-backend: TRITON_MLA", "--attention-backend")


@rule("BK-02", "Gemma-4-26B-A4B-NVFP4 runs with the CUTLASS or Marlin MoE backend", "dgx-vllm 7.2.2")
def gemma_moe_backend(case: Case) -> Diagnostic | None:
    """Others fail or compute wrong results; the defaults of newer releases are untested."""
    if not case.is_model(GEMMA4_26B_NVFP4) or case.text("--moe-backend") in _GEMMA_BACKENDS:
        return None
    text = f"Gemma-4-26B-A4B-NVFP4 with the MoE backend {case.text('--moe-backend') or 'auto'}"
    hint = "set moe-backend: marlin (from vLLM 0.17.1)"
    flag = "--moe-backend"
    return error(text, hint, flag) if case.below("0.24") else warning(text, hint, flag)


@rule("BK-03", "Gemma-4-26B-A4B-NVFP4 runs without tensor parallelism", "dgx-vllm 7.2.2")
def gemma_parallel(case: Case) -> Diagnostic | None:
    """Its experts are too small for it; expert parallelism works."""
    if not case.is_model(GEMMA4_26B_NVFP4) or (case.number("--tensor-parallel-size") or 1) == 1:
        return None
    text = "Gemma-4-26B-A4B-NVFP4 requires --tensor-parallel-size 1"
    return error(text, "set it to 1", "--tensor-parallel-size")


@rule("BK-04", "one Spark has one GPU", "dgx-vllm 7.2.1, 7.4.1")
def one_gpu(case: Case) -> Diagnostic | None:
    """More than one needs more than one node."""
    if case.is_rank:
        return None
    flags = ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size")
    gpus = max(case.number(flag) or 1 for flag in flags)
    flag = max(flags, key=lambda name: case.number(name) or 1)
    hint = "set it to 1, or serve it on several Sparks: clusters/NAME.yaml"
    if gpus > 1:
        return error(f"{flag}: {gpus:.0f} GPUs requested on a Spark, which has one", hint, flag)
    if (case.number("--nnodes") or 1) > 1:
        return error("--nnodes: a service of a host file runs on this Spark alone", hint, "--nnodes")
    return None


@rule(
    "BK-05",
    "the CUTLASS FP4 kernels for MoE on SM121: sources disagree",
    "dgx-vllm 7.1.1 (marlin) and 7.2.2 (cutlass or marlin); reports of wrong answers on 26.04",
)
def cutlass_fp4(case: Case) -> Diagnostic | None:
    """Wrong answers look like answers."""
    if case.text("--moe-backend") not in _CUTLASS or not case.is_moe or not case.is_model(NVFP4):
        return None
    text = (
        'dgx-vllm 7.2.2 allows "cutlass or marlin" for NVFP4 experts; users of 26.04 report wrong answers '
        "from CUTLASS FP4 on SM121"
    )
    hint = "prefer moe-backend: marlin, or prove the answers with the gate"
    return warning(text, hint, "--moe-backend")


@rule(
    "BK-06",
    "FlashInfer's autotuner tries tactics that GB10 does not support",
    "mistral-small-4-spark 4: up to 1300 s at the start",
)
def autotune(case: Case) -> Diagnostic | None:
    """All its tactics for SM120 fail one after the other; the flag is there from 0.16.0."""
    if not case.is_moe or not case.since("0.16"):
        return None
    if case.values.get("--enable-flashinfer-autotune") is False:
        return None
    text = "FlashInfer's autotuner may add minutes to the start of a mixture of experts on GB10"
    return info(text, "add enable-flashinfer-autotune: false if the start takes long")


@rule("BK-07", "CUDA graphs stay enabled", "dgx-vllm 8; a report of 55 % less speed without them")
def eager(case: Case) -> Diagnostic | None:
    """VLLM's blog calls the flag the key to stability: it is a workaround, not a default."""
    if not case.on("--enforce-eager"):
        return None
    text = "--enforce-eager: without CUDA graphs decoding is up to 55 % slower"
    return warning(text, "remove it, unless this model hangs with graphs", "--enforce-eager")


@rule("BK-08", "CUDA graphs cover max-num-seqs", "mistral-small-4-spark 4")
def graph_sizes(case: Case) -> Diagnostic | None:
    """Batches above the largest graph run without one."""
    largest, seqs = case.number("--max-cudagraph-capture-size"), case.number("--max-num-seqs")
    if largest is None or seqs is None or largest >= seqs:
        return None
    text = f"graphs up to {largest:.0f} sequences, but {seqs:.0f} may run: above that without graphs"
    hint = "make max-cudagraph-capture-size and max-num-seqs equal"
    return info(text, hint, "--max-cudagraph-capture-size")


@rule(
    "BK-09",
    "--enable-expert-parallel has no effect on one GPU",
    "dgx-vllm 7.4.2 and 8 recommend it; vLLM uses it where tensor x data parallel is above 1",
)
def expert_parallel(case: Case) -> Diagnostic | None:
    """The documents are wrong here; it is harmless."""
    gpus = (case.number("--tensor-parallel-size") or 1) * (case.number("--data-parallel-size") or 1)
    if not case.on("--enable-expert-parallel") or gpus > 1:
        return None
    flag = "--enable-expert-parallel"
    return info(f"{flag} has no effect on one GPU", "remove it", flag)


@rule(
    "BK-10",
    "Qwen3.6-35B-A3B-NVFP4 does not use FlashInfer's FP4 experts",
    "dgx-vllm 7.1.1; of its four variables VLLM_FP8_MOE_BACKEND exists in no release",
)
def qwen36_experts(case: Case) -> Diagnostic | None:
    """Up to 0.23 by a variable, from 0.17.1 by --moe-backend."""
    if not case.is_model(QWEN36_35B_NVFP4) or case.text("--moe-backend") not in ("", "auto"):
        return None
    if case.below("0.24") and case.env.get("VLLM_USE_FLASHINFER_MOE_FP4") == "0":
        return None
    text = "Qwen3.6-35B-A3B-NVFP4 with the default MoE backend: FlashInfer's FP4 experts fail on GB10"
    return warning(text, "set moe-backend: marlin")


@rule("BK-14", "Laguna in FP8 runs without DeepGEMM", "dgx-vllm 13.4; vLLM's recipes for FP8 on GB10")
def deep_gemm(case: Case) -> Diagnostic | None:
    """DeepGEMM has no kernels for SM121."""
    if not case.is_model(LAGUNA) or case.env.get("VLLM_USE_DEEP_GEMM") == "0":
        return None
    return info("dgx-vllm 13.4 sets VLLM_USE_DEEP_GEMM=0 for Laguna", "set it if the start fails in DeepGEMM")


@rule("BK-15", "a backend is pinned only where a recipe measured it", "dgx-vllm 8")
def pinned_backend(case: Case) -> Diagnostic | None:
    """Without a recipe vLLM's own choice is the better guess."""
    pinned = [
        flag for flag in ("--attention-backend", "--moe-backend") if case.text(flag) not in ("", "auto")
    ]
    if case.service.recipe or not pinned:
        return None
    text = f"{' and '.join(pinned)} pinned without a recipe"
    return info(text, "leave it to vLLM unless you measured it", pinned[0])


@rule("BK-16", "the engine sees the GPU", "NVIDIA Container Toolkit; CUDA")
def hidden_gpu(case: Case) -> Diagnostic | None:
    """A service that wants no GPU says so with ``container: {gpus: none}``."""
    for name in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        value = case.env.get(name)
        if (
            value is None
            or value.lower() not in ("", "none", "void", "-1")
            or case.service.container.gpus != "all"
        ):
            continue
        return error(f"{name}={value!r} takes the GPU away from the engine", "remove it", f"env.{name}")
    return None


@rule(
    "BK-17",
    "Nemotron 3.5 Lightning with an FP8 KV cache needs a build after 2026-08-23",
    "dgx-spark-playbooks#107: cuDNN error 715 on GB10 with nightly-dev-arm64-cu13.0.1-728d3ad",
)
def lightning_cache(case: Case) -> Diagnostic | None:
    """Later builds have run with it: 0.28.1rc1 by NVIDIA's recipe of 2026-09."""
    if not case.is_model(NEMOTRON35_LIGHTNING) or not case.has_fp8_cache:
        return None
    if not case.image.tag.endswith("728d3ad"):
        return None
    text = "this build has failed with an FP8 KV cache of Nemotron 3.5 Lightning (dgx-spark-playbooks#107)"
    return warning(text, "use a newer image, or remove kv-cache-dtype", "image")


RULES: tuple[Rule, ...] = (
    mla_backend,
    gemma_moe_backend,
    gemma_parallel,
    one_gpu,
    cutlass_fp4,
    autotune,
    eager,
    graph_sizes,
    expert_parallel,
    qwen36_experts,
    deep_gemm,
    pinned_backend,
    hidden_gpu,
    lightning_cache,
)
