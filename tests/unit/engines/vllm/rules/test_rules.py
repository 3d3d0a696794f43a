"""Each rule with a service that goes against it, and with one that does not."""

from dataclasses import replace

import pytest

from sparkfleet.contract.generation import Task
from sparkfleet.desired_state import Host, WeightFile, Weights
from sparkfleet.engines.vllm import memory
from sparkfleet.engines.vllm.rules import EXTERNAL_CHECKS, RULES, check, estimate
from sparkfleet.engines.vllm.schema import Flag, Schema, load
from sparkfleet.plan.lint import unknown_ignores
from sparkfleet.runtimes import Container, Mount
from tests.unit.engines.vllm.rules.services import (
    CODER,
    COMPRESSED,
    DENSE,
    DFLASH,
    DIFFUSION,
    GEMMA,
    HYBRID,
    LIGHTNING,
    MIXED,
    MODELOPT,
    MTP,
    NANO,
    NEMO,
    NIGHTLY,
    PHI4,
    QWEN36,
    SMALL4,
    STOCK,
    YARN,
    Sample,
    adapter,
)

QWEN35, QWEN35_MOE = "Qwen/Qwen3.5-27B", "Qwen/Qwen3.5-35B-A3B"
QWEN_ARCH = "Qwen3_5MoeForConditionalGeneration"
TLS = {"ssl-certfile": "/models/crt", "ssl-keyfile": "/models/key"}
FP8 = {"quantization_config": {"quant_method": "fp8"}}
WITH_MTP, WITH_DFLASH = {"speculative-config": MTP}, {"speculative-config": DFLASH}
LONG = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}

FLASH_NEXT = "RadixArk/Qwen3.8-Flash-Next-NVFP4"
DEEPSEEK_41 = "deepseek-ai/DeepSeek-V4.1-Flash"
GLM = "nvidia/GLM-5.3-Flash-NVFP4"
INDEXER_64, INDEXER_512 = ({"VLLM_SPARSE_INDEXER_MAX_LOGITS_MB": size} for size in ("64", "512"))
EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
OFFLOADING = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}

AGAINST = [
    ("IMG-01", "error", Sample(**STOCK, tag="v0.22.0", vllm="0.22.0")),
    ("IMG-04", "error", Sample(entrypoint=("nginx",))),
    ("IMG-06", "error", Sample(vllm="0.16.0", config={"architectures": [QWEN_ARCH]})),
    ("IMG-06", "warning", Sample(config={"architectures": ["MoonForCausalLM"]})),
    ("IMG-08", "error", Sample(tag="25.08-py3", vllm="")),
    ("IMG-09", "warning", Sample(NANO, vllm="0.11.1", tag="25.12-py3", flags={"trust-remote-code": True})),
    ("IMG-11", "error", Sample(DIFFUSION, vllm="0.23.0")),
    ("IMG-11", "info", Sample(DIFFUSION)),
    ("Q-01", "error", Sample(config=COMPRESSED, flags={"quantization": "modelopt"})),
    ("Q-02", "warning", Sample(config=DENSE, files=("hf_quant_config.json",))),
    ("Q-03", "error", Sample(config=DENSE, flags={"quantization": "modelopt"})),
    ("Q-03", "error", Sample(config=FP8, flags={"quantization": "modelopt_fp4"})),
    ("Q-04", "error", Sample(config=MIXED, vllm="0.15.1")),
    ("Q-05", "warning", Sample(NEMO, flags={"quantization": "fp8"})),
    ("Q-06", "info", Sample(config=DENSE, gib=70)),
    ("Q-07", "warning", Sample("openai/gpt-oss-120b", flags={"quantization": "mxfp4"})),
    ("Q-08", "error", Sample("org/X-NVFP4", flags={"load-format": "tensorizer"})),
    ("Q-08", "error", Sample(config={"text_config": COMPRESSED}, flags={"load-format": "tensorizer"})),
    ("KV-01", "warning", Sample(QWEN35_MOE, flags={"kv-cache-dtype": "fp8"})),
    ("KV-02", "warning", Sample(QWEN35_MOE, flags={"enable-chunked-prefill": True})),
    ("KV-03", "warning", Sample(QWEN35, flags={"kv-cache-dtype": "fp8", "speculative-config": DFLASH})),
    ("KV-04", "error", Sample(CODER, flags={"speculative-config": MTP, "kv-cache-dtype": "nvfp4"})),
    ("KV-05", "info", Sample(NANO)),
    ("KV-05", "info", Sample(QWEN36)),
    ("CTX-01", "error", Sample(config=DENSE, flags={"max-model-len": 65537})),
    ("CTX-01", "error", Sample(config=DENSE, flags={"max-model-len": 262145, "hf-overrides": YARN})),
    ("CTX-02", "warning", Sample(without=("max-model-len",))),
    ("CTX-02", "warning", Sample(without=("max-model-len",), config=DENSE)),
    ("CTX-03", "warning", Sample(config=DENSE, flags={"hf-overrides": {"text_config": YARN}})),
    ("CTX-04", "warning", Sample(NEMO, vllm="0.10.1.1", tag="25.09-py3", flags={"max-model-len": 98304})),
    ("CTX-05", "info", Sample(config=HYBRID, vllm="0.19.0")),
    ("MEM-01", "info", Sample(flags={"max-num-seqs": 32})),
    ("MEM-01", "error", Sample(flags={"max-num-seqs": 0})),
    ("MEM-01", "warning", Sample(flags={"max-num-seqs": 32}, gib=60)),
    ("MEM-02", "warning", Sample(without=("max-num-seqs",))),
    ("MEM-03", "warning", Sample(without=("gpu-memory-utilization",))),
    ("MEM-03", "warning", Sample(without=("gpu-memory-utilization",), flags={"kv-cache-memory-bytes": "8G"})),
    ("MEM-04", "warning", Sample(flags={"gpu-memory-utilization": 0.92})),
    ("MEM-04", "error", Sample(flags={"gpu-memory-utilization": 0.95})),
    ("MEM-04", "error", Sample(flags={"gpu-memory-utilization": 85})),
    ("MEM-04", "error", Sample(flags={"gpu-memory-utilization": -0.2})),
    ("MEM-06", "error", Sample(config=DENSE, gib=98)),
    ("MEM-06", "warning", Sample(config=DENSE, gib=86)),
    ("MEM-09", "error", Sample(gib=120)),
    ("MEM-10", "warning", Sample(container=Container(memory="120g"))),
    ("MEM-11", "info", Sample(container=Container(shm_size="16g"))),
    ("MEM-12", "warning", Sample(container=Container(ipc="private"))),
    ("MEM-14", "error", Sample(DIFFUSION, without=("max-num-seqs",))),
    ("MEM-14", "warning", Sample(DIFFUSION, flags={"max-num-seqs": 10})),
    ("BK-01", "error", Sample(SMALL4)),
    ("BK-01", "error", Sample(SMALL4, flags={"attention-backend": "FLASHINFER_MLA"}, vllm="0.12.0")),
    ("BK-02", "error", Sample(GEMMA, vllm="0.19.0")),
    ("BK-02", "warning", Sample(GEMMA, flags={"moe-backend": "triton"})),
    ("BK-03", "error", Sample(GEMMA, flags={"tensor-parallel-size": 2})),
    ("BK-04", "error", Sample(flags={"tensor-parallel-size": 2})),
    ("BK-04", "error", Sample(flags={"tensor-parallel-size": 2, "distributed-executor-backend": "ray"})),
    ("BK-04", "error", Sample(flags={"nnodes": 2})),
    ("BK-05", "warning", Sample(GEMMA, flags={"moe-backend": "cutlass"})),
    ("BK-06", "info", Sample(QWEN36)),
    ("BK-06", "info", Sample(config={"text_config": {"num_experts": 128}})),
    ("BK-07", "warning", Sample(flags={"enforce-eager": True})),
    ("BK-08", "info", Sample(flags={"max-cudagraph-capture-size": 2})),
    ("BK-09", "info", Sample(flags={"enable-expert-parallel": True})),
    ("BK-10", "warning", Sample(QWEN36, vllm="0.19.0")),
    ("BK-14", "info", Sample("poolside/Laguna-XS.2")),
    ("IMG-12", "warning", Sample(entrypoint=("vllm", "serve"))),
    ("IMG-12", "warning", Sample(container=Container(entrypoint="python3"))),
    ("IMG-13", "warning", Sample(tag="26.06-py3", vllm="0.22.1")),
    ("KV-08", "info", Sample("org/X-NVFP4", flags={"kv-cache-dtype": "fp8"})),
    ("CTX-06", "warning", Sample(GLM, vllm="0.28.0", flags={"max-model-len": 262144})),
    ("CTX-06", "warning", Sample(GLM, vllm="0.28.0", flags={"max-model-len": 262144}, env=INDEXER_512)),
    ("MEM-09", "error", Sample(gib=60, memory_gib=60)),
    ("MEM-18", "warning", Sample(config=DENSE, gib=20, flags={"gpu-memory-utilization": 0.88})),
    ("MEM-21", "info", Sample(FLASH_NEXT, vllm="0.32.0")),
    ("MEM-21", "info", Sample(FLASH_NEXT, vllm="0.32.0", flags={"engram-config": {"cpu_offload": True}})),
    ("MEM-15", "warning", Sample(container=Container(ipc="private", shm_size="64gb"))),
    ("MEM-16", "warning", Sample(flags={"kv-offloading-size": 8})),
    ("MEM-16", "warning", Sample(flags={"cpu-offload-gb": 10})),
    ("MEM-16", "warning", Sample(flags={"kv-transfer-config": OFFLOADING}, env=EXPANDABLE)),
    ("MEM-19", "warning", Sample(flags={"enable-sleep-mode": True})),
    ("MEM-20", "warning", Sample(gib=82)),
    ("H-16", "warning", Sample(container=Container(user="1000:1000"))),
    ("H-17", "warning", Sample(container=Container(ulimits={"core": -1}))),
    ("CFG-02", "info", Sample(vllm="0.32.0", tag="26.11-py3")),
    ("BK-16", "error", Sample(env={"NVIDIA_VISIBLE_DEVICES": "none"})),
    ("BK-16", "error", Sample(env={"CUDA_VISIBLE_DEVICES": ""})),
    ("BK-17", "warning", Sample(LIGHTNING, **NIGHTLY, flags={"kv-cache-dtype": "fp8"})),
    ("BK-15", "info", Sample(recipe="", flags={"moe-backend": "marlin", "attention-backend": "FLASHINFER"})),
    ("SD-01", "error", Sample(QWEN35, vllm="0.19.1", flags=WITH_DFLASH)),
    ("SD-01", "warning", Sample(QWEN35, vllm="0.20.2", flags=WITH_DFLASH)),
    ("SD-02", "error", Sample(QWEN35_MOE, flags=WITH_DFLASH)),
    ("SD-02", "error", Sample(QWEN35, flags={"speculative-config": {**DFLASH, "model": "org/other"}})),
    ("SD-03", "error", Sample(vllm="0.10.2", flags=WITH_MTP)),
    ("SD-03", "warning", Sample(vllm="0.17.1", flags=WITH_MTP)),
    ("SD-05", "warning", Sample(flags={"speculative-config": {**MTP, "num_speculative_tokens": 5}})),
    ("SD-06", "info", Sample(flags={"speculative-config": {**DFLASH, "num_speculative_tokens": 2}})),
    ("SD-08", "error", Sample(NANO, flags=WITH_MTP)),
    ("SD-10", "warning", Sample(flags={"speculative-config": MTP, "max-num-seqs": 16})),
    ("SD-11", "info", Sample(flags={"speculative-config": MTP, "enable-prefix-caching": True})),
    ("P-02", "error", Sample(flags={"reasoning-parser-plugin": "/plugins/nano.py"})),
    ("P-03", "warning", Sample(flags={"tool-call-parser": "mistral"})),
    ("P-05", "warning", Sample("openai/gpt-oss-20b", flags={"reasoning-parser": "openai_gptoss"})),
    ("P-06", "error", Sample("openai/gpt-oss-20b", flags={"tool-call-parser": "hermes"})),
    ("P-07", "error", Sample(PHI4)),
    ("P-08", "error", Sample(PHI4)),
    ("P-08", "error", Sample(GEMMA)),
    ("P-08", "info", Sample(QWEN36)),
    ("P-09", "error", Sample(SMALL4, vllm="0.19.0")),
    ("P-10", "info", Sample(SMALL4)),
    ("P-11", "warning", Sample(flags={"trust-remote-code": True}, revision="")),
    ("P-13", "warning", Sample(flags={"load-format": "fastsafetensors"}, vllm="0.19.0")),
    ("P-14", "info", Sample(CODER)),
    ("P-15", "info", Sample(NEMO)),
    ("H-01", "error", Sample(gated=True, token="")),
    ("H-03", "error", Sample(env={"HF_HOME": "/root/.cache"})),
    ("H-03", "error", Sample(env={"HF_HOME": "/c"}, container=Container(mounts=(Mount("~/.cache", "/c"),)))),
    ("H-03", "error", Sample(env={"HF_HUB_CACHE": "/models"})),
    ("H-03", "warning", Sample(env={"TRANSFORMERS_CACHE": "/tmp/cache"})),
    ("H-15", "warning", Sample(flags={"download-dir": "/models"})),
    ("CFG-01", "info", Sample(flags={"config": "/models/x.yaml"})),
    ("P-02", "error", Sample(flags={"chat-template": "template.jinja"})),
    ("P-02", "error", Sample(flags={"enable-lora": True, "lora-modules": ["sql=/adapters/sql"]})),
    ("P-02", "error", Sample(flags={"config": "/cfg/x.yaml"})),
    ("P-02", "warning", Sample(repository="ghcr.io/me/vllm", flags={"chat-template": "/workspace/t.jinja"})),
    ("P-16", "error", Sample(flags={"lora-modules": ["sql=/models/sql"]})),
    ("P-17", "error", Sample(flags={"enable-lora": True, "lora-modules": ["sql=adapters/sql/v1"]})),
    ("P-17", "error", Sample(flags={"enable-lora": True, "lora-modules": [{"name": "a", "path": "x"}]})),
    ("P-21", "error", Sample(adapters=(adapter(r=32),))),
    ("P-21", "error", Sample(flags={"max-lora-rank": 32}, adapters=(adapter(r=64),))),
    ("P-22", "warning", Sample(adapters=(adapter(base_model_name_or_path="org/Other-8B"),))),
    ("P-18", "warning", Sample("mixedbread-ai/mxbai-embed-large-v1")),
    ("P-18", "error", Sample("org/x", config={"architectures": ["BertModel"]})),
    ("P-18", "error", Sample(flags={"runner": "pooling", "convert": "embed"})),
    ("P-19", "warning", Sample("BAAI/bge-reranker-v2-m3")),
    ("P-19", "error", Sample("org/x", config={"architectures": ["WhisperForConditionalGeneration"]})),
    ("P-20", "error", Sample("unsloth/Qwen3-8B-GGUF")),
    ("GATE-01", "error", Sample(flags={"headless": True})),
    ("GATE-02", "error", Sample(flags={"uds": "/tmp/x.sock"})),
    ("GATE-02", "error", Sample(flags={"ssl-keyfile": "/models/key"})),
    ("GATE-02", "error", Sample(flags={"ssl-certfile": "/models/crt"})),
    ("GATE-02", "error", Sample(flags={**TLS, "ssl-cert-reqs": 2})),
    ("P-02", "error", Sample(flags={"ssl-certfile": "/tls/crt", "ssl-keyfile": "/tls/key"})),
    ("GATE-03", "error", Sample(flags={"disable-log-stats": True})),
    ("H-04", "error", Sample("/model")),
    ("H-04", "error", Sample(flags={"speculative-config": {"model": "/drafter"}})),
]  # fmt: skip

FOR = [
    ("IMG-01", Sample(**STOCK, tag="v0.24.0-ubuntu2404")),
    ("IMG-01", Sample(**STOCK, tag="v0.22.0-cu130", vllm="0.22.0")),
    ("IMG-01", Sample(**STOCK, tag="nightly", vllm="")),
    ("IMG-04", Sample(entrypoint=())),
    ("IMG-06", Sample(config={"architectures": ["MistralForCausalLM"]})),
    ("IMG-06", Sample(config={"architectures": ["DFlashDraftModel"]})),
    ("IMG-08", Sample(tag="25.09-py3", vllm="0.10.1.1")),
    ("IMG-08", Sample(tag="latest", vllm="")),
    ("IMG-09", Sample(NANO)),
    ("IMG-11", Sample(DIFFUSION, flags={"diffusion-config": {"canvas_length": 256}})),
    ("Q-01", Sample(config=COMPRESSED)),
    ("Q-01", Sample(config=COMPRESSED, flags={"quantization": "compressed-tensors"})),
    ("Q-02", Sample(config=MODELOPT, files=("hf_quant_config.json",))),
    ("Q-02", Sample(config=DENSE, files=("hf_quant_config.json",), flags={"quantization": "modelopt"})),
    ("Q-03", Sample(config=MODELOPT, flags={"quantization": "modelopt"})),
    ("Q-03", Sample(flags={"quantization": "modelopt"})),
    ("Q-04", Sample(config=MIXED, vllm="0.17.1")),
    ("Q-05", Sample(NEMO, config=FP8, flags={"quantization": "fp8"})),
    ("Q-06", Sample(config=MODELOPT, gib=70)),
    ("Q-07", Sample("openai/gpt-oss-120b")),
    ("Q-08", Sample(flags={"load-format": "tensorizer"})),
    ("KV-01", Sample(QWEN36, flags={"kv-cache-dtype": "fp8"})),
    ("KV-02", Sample(QWEN35_MOE)),
    ("KV-03", Sample(QWEN35, flags=WITH_DFLASH)),
    ("KV-04", Sample(CODER, flags={"speculative-config": MTP, "kv-cache-dtype": "fp8"})),
    ("KV-05", Sample(NANO, flags={"kv-cache-dtype": "fp8"})),
    ("CTX-01", Sample(config=DENSE, flags={"max-model-len": 65536})),
    ("CTX-01", Sample(config=DENSE, flags={"max-model-len": 262144, "hf-overrides": YARN})),
    ("CTX-01", Sample(config=DENSE, flags={"max-model-len": 99999}, env=LONG)),
    ("CTX-01", Sample(config=DENSE, flags={"max-model-len": "auto"})),
    ("CTX-03", Sample(config=DENSE, flags={"max-model-len": 262144, "hf-overrides": YARN})),
    ("CTX-04", Sample(NEMO, vllm="0.10.1.1", tag="25.09-py3")),
    ("CTX-05", Sample(config=HYBRID, vllm="0.28.0")),
    ("CTX-05", Sample(config=HYBRID, vllm="0.19.0", flags={"enable-prefix-caching": False})),
    ("MEM-04", Sample(flags={"gpu-memory-utilization": 0.9})),
    ("MEM-06", Sample(config=DENSE, gib=20)),
    ("MEM-06", Sample(config=DENSE)),
    ("MEM-09", Sample(gib=120, flags={"tensor-parallel-size": 2})),
    ("MEM-10", Sample(container=Container(memory="110g"))),
    ("MEM-11", Sample(container=Container(ipc="private", shm_size="16g"))),
    ("MEM-12", Sample(container=Container(ipc="private", shm_size="16g"))),
    ("MEM-14", Sample(DIFFUSION)),
    ("BK-01", Sample(SMALL4, flags={"attention-backend": "triton_mla"})),
    ("BK-02", Sample(GEMMA, flags={"moe-backend": "marlin"})),
    ("BK-03", Sample(GEMMA, flags={"tensor-parallel-size": 1})),
    ("BK-04", Sample(flags={"tensor-parallel-size": 1, "distributed-executor-backend": "mp"})),
    ("BK-05", Sample(GEMMA, flags={"moe-backend": "marlin"})),
    ("BK-06", Sample(QWEN36, flags={"enable-flashinfer-autotune": False})),
    ("BK-08", Sample(flags={"max-cudagraph-capture-size": 4})),
    ("BK-09", Sample(flags={"enable-expert-parallel": True, "tensor-parallel-size": 2})),
    ("BK-10", Sample(QWEN36, flags={"moe-backend": "marlin"})),
    ("BK-10", Sample(QWEN36, vllm="0.19.0", env={"VLLM_USE_FLASHINFER_MOE_FP4": "0"})),
    ("BK-14", Sample("poolside/Laguna-XS.2", env={"VLLM_USE_DEEP_GEMM": "0"})),
    ("BK-15", Sample(flags={"moe-backend": "marlin"})),
    ("IMG-12", Sample()),
    ("IMG-12", Sample(**STOCK, tag="v0.32.0", vllm="0.32.0")),
    ("IMG-13", Sample(tag="26.07-py3")),
    ("KV-08", Sample("org/X-NVFP4", flags={"kv-cache-dtype": "fp8", "attention-backend": "TRITON_ATTN"})),
    ("KV-08", Sample("org/X-NVFP4")),
    ("CTX-06", Sample(GLM, vllm="0.28.0", flags={"max-model-len": 131072})),
    ("CTX-06", Sample(GLM, vllm="0.28.0", flags={"max-model-len": 262144}, env=INDEXER_64)),
    ("CTX-06", Sample(GLM, vllm="0.28.0", flags={"max-model-len": 262144}, env=EXPANDABLE)),
    ("MEM-09", Sample(gib=60)),
    ("MEM-09", Sample(FLASH_NEXT, gib=125, env={"VLLM_PLE_TABLE_MEMORY": "disk"})),
    ("MEM-09", Sample(DEEPSEEK_41, gib=250, flags={"engram-config": {"table_memory": "disk"}})),
    ("MEM-18", Sample(config=DENSE, gib=20, flags={"gpu-memory-utilization": 0.85})),
    ("MEM-21", Sample(FLASH_NEXT, vllm="0.32.0", flags={"engram-config": {"cpu_offload": False}})),
    ("MEM-21", Sample(FLASH_NEXT, vllm="0.30.0", env={"VLLM_PLE_CPU_OFFLOAD": "0"})),
    ("MEM-15", Sample(container=Container(ipc="private", shm_size="16g"))),
    ("MEM-15", Sample(container=Container(shm_size="64g"))),
    ("MEM-16", Sample(flags={"cpu-offload-gb": 0, "kv-transfer-config": {"kv_connector": "NixlConnector"}})),
    ("MEM-19", Sample(flags={"enable-sleep-mode": False})),
    ("MEM-20", Sample(gib=40)),
    ("H-16", Sample(container=Container(user="1000:1000", ipc="private", shm_size="16g"))),
    ("H-16", Sample(container=Container(user="0:0"))),
    ("H-17", Sample(container=Container(ulimits={"core": 0, "memlock": -1}))),
    ("CFG-02", Sample(vllm="0.32.0", tag="26.11-py3", flags={"allowed-origins": ["*"]})),
    ("CFG-02", Sample(vllm="0.31.0", tag="26.10-py3")),
    ("BK-16", Sample(env={"CUDA_VISIBLE_DEVICES": "0"})),
    ("BK-16", Sample(env={"CUDA_VISIBLE_DEVICES": ""}, container=Container(gpus="none"))),
    ("BK-17", Sample(LIGHTNING, flags={"kv-cache-dtype": "fp8"})),
    ("SD-01", Sample(QWEN35, flags=WITH_DFLASH)),
    ("SD-02", Sample(QWEN35, flags=WITH_DFLASH)),
    ("SD-02", Sample("org/new", flags={"speculative-config": {**DFLASH, "model": "org/new-drafter"}})),
    ("SD-02", Sample(QWEN35, flags={"speculative-config": {**DFLASH, "model": "/models/drafter"}})),
    ("SD-03", Sample(flags=WITH_MTP)),
    ("SD-05", Sample(flags=WITH_MTP)),
    ("SD-06", Sample(flags=WITH_DFLASH)),
    ("SD-08", Sample(NANO, flags={"speculative-config": {"method": "ngram"}})),
    ("SD-10", Sample(flags=WITH_MTP)),
    ("P-02", Sample(flags={"reasoning-parser-plugin": "/models/nano.py", "chat-template": "{{ inline }}"})),
    ("P-02", Sample(flags={"chat-template": "/t/x"}, container=Container(mounts=(Mount("~/t", "/t/"),)))),
    ("P-03", Sample(flags={"tool-call-parser": "mistral", "enable-auto-tool-choice": True})),
    ("P-05", Sample("openai/gpt-oss-20b")),
    ("P-06", Sample("openai/gpt-oss-20b", flags={"tool-call-parser": "openai"})),
    ("P-07", Sample(PHI4, packages={"scipy": ">=1.11"})),
    ("P-08", Sample(PHI4, flags={"trust-remote-code": True})),
    ("P-09", Sample(SMALL4)),
    ("P-09", Sample(SMALL4, vllm="0.19.0", packages={"mistral_common": ">=1.11"})),
    ("P-09", Sample(SMALL4, vllm="", tag="latest")),
    ("P-11", Sample(flags={"trust-remote-code": True})),
    ("P-13", Sample(flags={"load-format": "fastsafetensors"})),
    (
        "P-13",
        Sample(flags={"load-format": "fastsafetensors"}, vllm="0.19.0", packages={"fastsafetensors": ""}),
    ),
    ("H-01", Sample(gated=True)),
    ("H-01", Sample(token="")),
    ("H-03", Sample(env={"HF_HOME": "/models/"})),
    ("H-03", Sample(env={"HF_HOME": "/c"}, container=Container(mounts=(Mount("~/vllm", "/c"),)))),
    ("H-15", Sample(flags={"download-dir": "/models/hub"})),
    ("P-02", Sample(**STOCK, tag="v0.32.0", vllm="0.32.0", flags={"chat-template": "examples/tool.jinja"})),
    ("P-02", Sample(flags={"enable-lora": True, "lora-modules": ["sql=/models/sql"]})),
    ("P-16", Sample(flags={"enable-lora": True, "lora-modules": ["sql=/models/sql"]})),
    ("P-17", Sample(flags={"enable-lora": True, "lora-modules": ["sql=/models/sql", "not json,"]})),
    ("P-17", Sample(flags={"enable-lora": True, "lora-modules": ["sql=org/adapter@v1"]})),
    ("P-21", Sample(flags={"max-lora-rank": 64}, adapters=(adapter(r=64), adapter(r="many")))),
    ("P-22", Sample("nvidia/Plain-7B-FP8", adapters=(adapter(base_model_name_or_path="org/Plain-7B"),))),
    ("P-18", Sample("org/x", config={"architectures": ["BertModel"]}, task=Task.EMBEDDING)),
    ("P-18", Sample("org/embed-everything", config=DENSE)),
    ("P-19", Sample("BAAI/bge-m3", config={"architectures": ["XLMRobertaModel"]})),
    ("P-20", Sample("org/x")),
    ("GATE-02", Sample(flags={"root-path": "/v"})),
    ("GATE-02", Sample(flags={**TLS, "ssl-cert-reqs": 0})),
    ("GATE-03", Sample(flags={"disable-log-stats": False})),
    ("H-04", Sample("/model", container=Container(mounts=(Mount("~/m", "/model"),)))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "level", "sample"), AGAINST, ids=[f"{r}-{lv}-{i}" for i, (r, lv, _) in enumerate(AGAINST)]
)
def test_a_service_against_a_rule_is_reported(rule: str, level: str, sample: Sample) -> None:
    found = sample.diagnostics()
    assert rule in found
    assert found[rule].severity == level
    assert found[rule].hint or level == "info"


@pytest.mark.parametrize(("rule", "sample"), FOR, ids=[row[0] for row in FOR])
def test_a_service_that_keeps_a_rule_has_no_finding_of_it(rule: str, sample: Sample) -> None:
    assert rule not in sample.diagnostics()


def test_a_sound_service_of_a_plain_model_hears_nothing() -> None:
    assert Sample().diagnostics() == {}
    assert Sample(config=DENSE, gib=14).diagnostics() == {}


def test_every_rule_is_shown_by_a_service_that_goes_against_it() -> None:
    assert {rule.id for rule in RULES} == {rule for rule, _, _ in AGAINST}


def test_rule_ids_are_unique_and_each_rule_is_a_sentence_with_its_source() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert not set(ids) & set(EXTERNAL_CHECKS)
    assert all(rule.title and rule.source for rule in RULES)
    assert all(what and keeper for what, keeper in EXTERNAL_CHECKS.values())


def test_a_rule_that_the_host_allows_is_silent() -> None:
    sample = Sample(flags={"enforce-eager": True})
    host = replace(sample.host(), ignore_rules=(("BK-07", "hangs with graphs"),))
    assert "BK-07" in sample.diagnostics()
    assert check(sample.service(), host) == ()


@pytest.mark.provokes("rule-unknown")
def test_an_entry_of_ignore_rules_that_names_no_rule_is_reported_with_the_nearest_one() -> None:
    host = Sample().host()
    known = replace(host, ignore_rules=(("KV-01", "measured"), ("MEM-05", "known")))
    assert unknown_ignores(known) == ()
    near, far = unknown_ignores(replace(host, ignore_rules=(("kv-1", "x"), ("zzz", "x"))))
    assert "KV-01" in near.hint
    assert "sparkfleet rules" in far.hint


def test_nothing_is_reported_where_the_release_is_not_known() -> None:
    sample = Sample(NANO, vllm="", repository="ghcr.io/org/vllm", tag="x", flags={"kv-cache-dtype": "fp8"})
    assert {found.severity for found in sample.diagnostics().values()} <= {"info"}


def test_a_release_between_two_bundled_ones_may_have_the_architecture() -> None:
    sample = Sample(vllm="0.16.5", config={"architectures": [QWEN_ARCH]})
    assert sample.diagnostics()["IMG-06"].severity == "warning"


def test_the_images_own_schema_is_the_last_word() -> None:
    sample = Sample(PHI4, flags={"trust-remote-code": True, "load-format": "fastsafetensors"})
    own = Schema("0.24.0+nv26.07", dict(load("0.24.0").flags), packages={"vllm": "0.24.0", "scipy": "1.15"})
    found = sample.diagnostics(own)
    assert "P-07" not in found
    assert found["P-13"].severity == "error"


def test_an_image_that_has_mistral_common_itself_is_believed() -> None:
    flags = {"--gpu-memory-utilization": Flag("--gpu-memory-utilization", type="float", default=0.9)}
    sample = Sample(SMALL4, vllm="0.19.0")
    for installed, missing in (("1.11.2", False), ("1.10.0", True), ("", True)):
        packages = {"vllm": "0.19.0", "mistral-common": installed} if installed else {"vllm": "0.19.0"}
        own = Schema("0.19.0", flags, packages=packages)
        assert ("P-09" in sample.diagnostics(own)) is missing


def test_other_services_of_the_spark_count_in_the_memory() -> None:
    first = Sample(config=DENSE, gib=14).service()
    second = replace(first, name="second", flags=(("gpu_memory_utilization", 0.3),))
    host = Host("spark-01", (first, second))
    alone = estimate(first, Host("spark-01", (first,)))
    beside = estimate(first, host)
    assert alone is not None
    assert beside is not None
    assert alone.left_gib - beside.left_gib == pytest.approx(0.3 * 119.7)
    wider = estimate(first, host, total_gib=200.0)
    assert wider is not None
    assert wider.total_gib == 200.0
    assert estimate(Sample().service(), host) is None


def test_tables_that_are_offloaded_are_in_the_same_memory() -> None:
    sample = Sample(FLASH_NEXT, vllm="0.32.0", config=DENSE, gib=123)
    offloaded = estimate(sample.service(), sample.host())
    resident = estimate(
        replace(sample, flags={"engram-config": {"cpu_offload": False}}).service(), sample.host()
    )
    assert offloaded is not None
    assert resident is not None
    assert (round(offloaded.weights_gib, 1), offloaded.offloaded_gib) == (75.3, 47.7)
    assert (round(resident.weights_gib, 1), resident.offloaded_gib) == (123.0, 0.0)
    assert offloaded.left_gib == pytest.approx(resident.left_gib - 47.7)
    assert offloaded.verdict == resident.verdict == "does not fit"
    assert "47.7 offloaded" in offloaded.text()


def test_weights_and_cache_that_are_offloaded_count_in_what_is_left() -> None:
    sample = Sample(config=DENSE, gib=20)
    plain = estimate(sample.service(), sample.host())
    moved = estimate(
        replace(sample, flags={"cpu-offload-gb": 5, "kv-offloading-size": 8}).service(), sample.host()
    )
    assert plain is not None
    assert moved is not None
    assert moved.left_gib == pytest.approx(plain.left_gib - 13)
    assert moved.weights_gib == pytest.approx(15)


def test_the_drafter_counts_in_the_weights() -> None:
    sample = Sample(config=DENSE, gib=20)
    drafter = Weights("org/drafter", "b" * 40, (WeightFile("model.safetensors", 3 << 30),))
    found = estimate(replace(sample.service(), drafters=(drafter,)), sample.host())
    assert found is not None
    assert found.weights_gib == pytest.approx(23)


def test_a_message_shows_whether_the_memory_is_assumed() -> None:
    sample = Sample(config=DENSE, gib=20)
    assumed = estimate(sample.service(), sample.host())
    declared = estimate(sample.service(), replace(sample.host(), memory_gib=61.0))
    observed = estimate(sample.service(), replace(sample.host(), memory_gib=61.0), total_gib=121.6)
    assert assumed is not None
    assert declared is not None
    assert observed is not None
    assert (assumed.total_gib, declared.total_gib, observed.total_gib) == (119.7, 61.0, 121.6)
    assert "of 119.7 GiB (assumed)" in assumed.text()
    assert "of 61.0 GiB:" in declared.text()
    high = Sample(flags={"gpu-memory-utilization": 0.95})
    assert "assumed" in high.diagnostics()["MEM-04"].message
    assert "of 61.0 GiB)" in replace(high, memory_gib=61.0).diagnostics()["MEM-04"].message


def test_a_small_spark_has_the_defaults_of_a_small_gpu() -> None:
    assert memory.settings({}, None, 61.0).max_num_seqs == 256
    assert memory.settings({}, None, 119.7).max_num_seqs == 1024


def test_a_memory_limit_that_cannot_be_read_is_none_of_these_rules() -> None:
    assert Sample(container=Container(memory="much")).diagnostics() == {}


def test_what_is_outside_of_the_share_is_no_reason_that_a_model_does_not_fit() -> None:
    sample = Sample(
        config=DENSE, gib=1, memory_gib=23.5, flags={"gpu-memory-utilization": 0.97, "max-model-len": 1024}
    )
    found = estimate(sample.service(), sample.host())
    assert found is not None
    assert found.left_gib < 0
    assert found.verdict == "fits"
    assert sample.diagnostics()["MEM-18"].severity == "warning"
    assert "MEM-06" not in sample.diagnostics()
