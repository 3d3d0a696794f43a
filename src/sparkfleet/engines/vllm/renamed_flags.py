"""What took the place of flags, keys and environment variables that vLLM dropped, or that never were.

Sources: vLLM's release notes and the schemas of the releases before and after.
"""

from __future__ import annotations

from collections.abc import Mapping

_MOE = "use --moe-backend (from 0.17.1): marlin, cutlass, flashinfer_cutlass ..."
_GUIDED = "use --structured-outputs-config"
_EPLB = "use --eplb-config"
_ROPE = "use --hf-overrides with rope_parameters"
_PROFILER = "use --profiler-config"
_ATTENTION = "use --attention-config"

FLAGS: Mapping[str, str] = {
    "--speculative-disable-by-batch-size": (
        "no release has it; from 0.24.0 --speculative-config takes num_speculative_tokens_per_batch_size"
    ),
    "--swap-space": "remove it: the V1 engine does not swap",
    "--task": "use --runner and --convert",
    "--disable-log-requests": "remove it: requests are logged with --enable-log-requests alone",
    "--tool-call-parser-plugin": "it is spelled --tool-parser-plugin",
    "--cuda-graph-sizes": "use --cudagraph-capture-sizes",
    "--max-seq-len-to-capture": "use --max-cudagraph-capture-size",
    "--calculate-kv-scales": "use a checkpoint that has its KV scales",
    "--disable-frontend-multiprocessing": "remove it: it has no effect in the V1 engine",
    "--disable-async-output-proc": "remove it: it has no effect in the V1 engine",
    "--disable-mm-preprocessor-cache": "use --mm-processor-cache-gb 0",
    "--enable-multimodal-encoder-data-parallel": "use --mm-encoder-tp-mode data",
    "--guided-decoding-backend": _GUIDED,
    "--guided-decoding-disable-additional-properties": _GUIDED,
    "--guided-decoding-disable-any-whitespace": _GUIDED,
    "--guided-decoding-disable-fallback": _GUIDED,
    "--eplb-log-balancedness": _EPLB,
    "--eplb-step-interval": _EPLB,
    "--eplb-window-size": _EPLB,
    "--num-redundant-experts": _EPLB,
    "--override-pooler-config": "use --pooler-config",
    "--num-lookahead-slots": "remove it: vLLM derives it from --speculative-config",
    "--preemption-mode": "remove it: the V1 engine always recomputes",
    "--rope-scaling": _ROPE,
    "--rope-theta": _ROPE,
    "--max-num-partial-prefills": "remove it: the scheduler decides",
    "--max-long-partial-prefills": "remove it: the scheduler decides",
}
ENVS: Mapping[str, str] = {
    "VLLM_FP8_MOE_BACKEND": _MOE,
    "VLLM_FLASHINFER_MOE_BACKEND": _MOE,
    "VLLM_USE_FLASHINFER_MOE_FP4": _MOE,
    "VLLM_USE_FLASHINFER_MOE_FP8": _MOE,
    "VLLM_USE_FLASHINFER_MOE_FP16": _MOE,
    "VLLM_USE_FLASHINFER_MOE_MXFP4_BF16": _MOE,
    "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8": _MOE,
    "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8_CUTLASS": _MOE,
    "VLLM_MXFP4_USE_MARLIN": "use --moe-backend marlin",
    "VLLM_TEST_FORCE_FP8_MARLIN": "use --linear-backend marlin and --moe-backend marlin",
    "VLLM_NVFP4_GEMM_BACKEND": "use --linear-backend (from 0.22.0)",
    "VLLM_ATTENTION_BACKEND": "use --attention-backend (from 0.13.0)",
    "VLLM_FLASH_ATTN_VERSION": _ATTENTION,
    "VLLM_USE_TRTLLM_ATTENTION": _ATTENTION,
    "VLLM_DISABLE_FLASHINFER_PREFILL": _ATTENTION,
    "VLLM_FLASHINFER_DISABLE_Q_QUANTIZATION": _ATTENTION,
    "VLLM_ALL2ALL_BACKEND": "use --all2all-backend",
    "VLLM_USE_V1": "remove it: there is no other engine",
    "VLLM_TORCH_PROFILER_DIR": _PROFILER,
    "VLLM_RPC_TIMEOUT": "remove it",
    "VLLM_MM_INPUT_CACHE_GIB": "use --mm-processor-cache-gb",
    "VLLM_MM_HASHER_ALGORITHM": "use --mm-hasher-algorithm",
}
KEYS: Mapping[tuple[str, str], str] = {
    ("SpeculativeConfig", "disable_by_batch_size"): (
        "from 0.24.0 num_speculative_tokens_per_batch_size says it, with a number of tokens per batch size"
    ),
    ("SpeculativeConfig", "speculative_token_tree"): "remove it: token trees are gone",
    ("CompilationConfig", "use_inductor"): "use backend: inductor, or mode",
    ("CompilationConfig", "level"): "use mode",
}
