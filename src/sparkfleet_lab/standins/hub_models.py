"""Small synthetic models under their real names: real configuration, random weights of a few MB.

The configurations carry the figures that a memory estimate or an engine reads (layers, heads, context,
quantisation). Everything is deterministic: the same files, hashes and commits on every machine.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet_lab.standins import tiny_gguf, tiny_model

NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"
QWEN = "nvidia/Qwen3.6-35B-A3B-NVFP4"
GPT_OSS = "openai/gpt-oss-20b"
GEMMA = "nvidia/Gemma-4-31B-IT-NVFP4"
"""Gated: a licence has to be accepted first."""
TINY = "sparkfleet-lab/tiny-mistral"
"""Two layers that the real vLLM can run."""
TINY_GGUF = "sparkfleet-lab/tiny-GGUF"
"""The same model in several GGUF files, one of them split. The real llama-server loads each."""
ADAPTER = "sparkfleet-lab/gpt-oss-20b-sql-lora"
"""A LoRA adapter of GPT_OSS."""

TOKEN_ACCEPTED = "hf_labLicenceAccepted"  # noqa: S105 - opens the lab's hub alone
TOKEN_STRANGER = "hf_labLicenceNotAccepted"  # noqa: S105
"""Two tokens of the lab's hub: one whose user accepted every licence, one whose user accepted none."""

_NANO_PATTERN = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"

_MODELOPT = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
    "ignore": ["lm_head"],
    "producer": {"name": "modelopt", "version": "0.40.0"},
}


_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
_TOKENIZER = {"type": "BPE", "vocab": {"<unk>": 0}, "merges": []}


@dataclass(frozen=True)
class SyntheticModel:
    """One repository of the lab's hub."""

    repo: str
    config: dict[str, Any]
    shards: int = 2
    shard_bytes: int = 1_500_000
    gated: bool = False
    commits: tuple[str, ...] = ("first",)
    """A name for each commit, oldest first; the last one is ``main``."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further text files by name."""

    def commit(self, name: str) -> str:
        """Return the 40 hex digits of a commit."""
        return hashlib.sha256(f"{self.repo} {name}".encode()).hexdigest()[:40]

    def files(self, commit: str) -> dict[str, bytes]:
        """Return the files of a commit by name."""
        texts = {
            "config.json": _pretty({**self.config, "transformers_version": "5.0.0"}),
            "generation_config.json": _pretty({"do_sample": True, "temperature": 1.0, "top_p": 0.95}),
            "tokenizer.json": _pretty({"version": "1.0", "model": _TOKENIZER}),
            "tokenizer_config.json": _pretty(
                {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
            ),
            "chat_template.jinja": _TEMPLATE,
            "README.md": f"# {self.repo}\n\nA synthetic model ({commit} commit): invented weights.\n",
            **self.extra,
        }
        weight_files: dict[str, str] = {}
        shards: dict[str, bytes] = {}
        for number in range(1, self.shards + 1):
            name = f"model-{number:05}-of-{self.shards:05}.safetensors"
            tensors, shards[name] = _shard(f"{self.repo} {commit}", number, self.shard_bytes)
            weight_files.update(dict.fromkeys(tensors, name))
        index = {"metadata": {"total_size": self.shards * self.shard_bytes}, "weight_map": weight_files}
        texts["model.safetensors.index.json"] = _pretty(index)
        return {**shards, **{name: text.encode() for name, text in texts.items()}}


@dataclass(frozen=True)
class TinyModel(SyntheticModel):
    """A model that the real vLLM can load as well."""

    def files(self, commit: str) -> dict[str, bytes]:  # noqa: ARG002 - it has one commit
        """Return the files by name."""
        return tiny_model.files()


@dataclass(frozen=True)
class GgufModel(SyntheticModel):
    """A repository of GGUF files: one model in many quantizations."""

    def files(self, commit: str) -> dict[str, bytes]:
        """Return the files of a commit by name."""
        readme = f"# {self.repo}\n\nA synthetic model ({commit} commit), quantized.\n"
        commits_by_repo = {"README.md": readme.encode()}
        for quantization in ("F16", "Q8_0", "Q4_K_M"):
            commits_by_repo[f"tiny-{quantization}.gguf"] = tiny_gguf.file(quantization, f"tiny {commit}")
        parts = tiny_gguf.parts("F32", 2, f"tiny {commit}")
        for number, part in enumerate(parts, 1):
            commits_by_repo[f"F32/tiny-F32-{number:05}-of-{len(parts):05}.gguf"] = part
        return commits_by_repo


@dataclass(frozen=True)
class AdapterModel(SyntheticModel):
    """A repository of a LoRA adapter."""

    def files(self, commit: str) -> dict[str, bytes]:
        """Return the files of a commit by name."""
        _, weights = _shard(f"{self.repo} {commit}", 1, self.shard_bytes)
        return {
            "adapter_config.json": _pretty({"peft_type": "LORA", **self.config}).encode(),
            "adapter_model.safetensors": weights,
            "README.md": f"# {self.repo}\n\nA synthetic adapter ({commit} commit).\n".encode(),
        }


def _nano_parser() -> str:
    """Return the file that a recipe mounts with --reasoning-parser-plugin."""
    return (
        "from vllm.reasoning.abs_reasoning_parsers import ReasoningParserManager\n"
        "from vllm.reasoning.deepseek_r1_reasoning_parser import DeepSeekR1ReasoningParser\n\n\n"
        '@ReasoningParserManager.register_module("nano_v3")\n'
        "class NanoV3ReasoningParser(DeepSeekR1ReasoningParser):\n    pass\n"
    )


MODELS = (
    SyntheticModel(
        repo=NANO,
        shards=3,
        commits=("first", "second"),
        extra={"nano_v3_reasoning_parser.py": _nano_parser()},
        config={
            "architectures": ["NemotronHForCausalLM"],
            "model_type": "nemotron_h",
            "hidden_size": 2688,
            "num_hidden_layers": 52,
            "hybrid_override_pattern": _NANO_PATTERN,
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "mamba_num_heads": 64,
            "mamba_head_dim": 64,
            "ssm_state_size": 128,
            "n_groups": 8,
            "conv_kernel": 4,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1856,
            "max_position_embeddings": 1048576,
            "vocab_size": 131072,
            "torch_dtype": "bfloat16",
            "quantization_config": {**_MODELOPT, "quant_algo": "MIXED_PRECISION"},
        },
    ),
    SyntheticModel(
        repo=QWEN,
        shards=3,
        config={
            "architectures": ["Qwen3_5MoeForConditionalGeneration"],
            "model_type": "qwen3_5_moe",
            "text_config": {
                "model_type": "qwen3_5_moe_text",
                "hidden_size": 2048,
                "num_hidden_layers": 40,
                "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 10,
                "full_attention_interval": 4,
                "num_attention_heads": 16,
                "num_key_value_heads": 2,
                "head_dim": 256,
                "linear_num_key_heads": 16,
                "linear_num_value_heads": 32,
                "linear_key_head_dim": 128,
                "linear_value_head_dim": 128,
                "linear_conv_kernel_dim": 4,
                "num_experts": 256,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 512,
                "mtp_num_hidden_layers": 1,
                "max_position_embeddings": 262144,
                "vocab_size": 248320,
                "dtype": "bfloat16",
            },
            "quantization_config": _MODELOPT,
        },
    ),
    SyntheticModel(
        repo=GPT_OSS,
        config={
            "architectures": ["GptOssForCausalLM"],
            "model_type": "gpt_oss",
            "hidden_size": 2880,
            "num_hidden_layers": 24,
            "layer_types": ["sliding_attention", "full_attention"] * 12,
            "sliding_window": 128,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "num_local_experts": 32,
            "num_experts_per_tok": 4,
            "max_position_embeddings": 131072,
            "vocab_size": 201088,
            "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
        },
    ),
    SyntheticModel(
        repo=GEMMA,
        gated=True,
        config={
            "architectures": ["Gemma4ForConditionalGeneration"],
            "model_type": "gemma4",
            "text_config": {
                "model_type": "gemma4_text",
                "hidden_size": 5376,
                "num_hidden_layers": 60,
                "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 10,
                "sliding_window": 1024,
                "num_attention_heads": 32,
                "num_key_value_heads": 16,
                "head_dim": 256,
                "global_head_dim": 512,
                "num_global_key_value_heads": 4,
                "max_position_embeddings": 262144,
                "vocab_size": 262144,
                "dtype": "bfloat16",
            },
            "quantization_config": _MODELOPT,
        },
    ),
    TinyModel(repo=TINY, config=tiny_model.CONFIG, shards=1),
    GgufModel(repo=TINY_GGUF, config={}),
    AdapterModel(
        repo=ADAPTER,
        config={"base_model_name_or_path": GPT_OSS, "r": 32, "lora_alpha": 64, "target_modules": ["q_proj"]},
    ),
)


def make_models(root: Path, models: tuple[SyntheticModel, ...] = MODELS) -> dict[str, tuple[str, ...]]:
    """Write the content of a lab hub below ``root``; return each repository's commits, oldest first."""
    commits_by_repo = {}
    for model in models:
        for name in model.commits:
            base = root / model.repo / model.commit(name)
            base.mkdir(parents=True, exist_ok=True)
            for file, data in model.files(name).items():
                (base / file).parent.mkdir(parents=True, exist_ok=True)
                (base / file).write_bytes(data)
        commits = tuple(model.commit(name) for name in model.commits)
        meta = {"refs": {"main": commits[-1]}, "gated": "auto" if model.gated else False}
        (root / model.repo / "meta.json").write_text(_pretty(meta))
        commits_by_repo[model.repo] = commits
    gated = [model.repo for model in models if model.gated]
    tokens = {
        TOKEN_ACCEPTED: {"name": "lab", "accepted": gated},
        TOKEN_STRANGER: {"name": "stranger", "accepted": []},
    }
    (root / "tokens.json").write_text(_pretty(tokens))
    return commits_by_repo


def make_cache(home: Path, models: tuple[SyntheticModel, ...] = MODELS, name: str = "") -> None:
    """Write models below ``HF_HOME`` as a download would: blobs, snapshots with links, refs."""
    for model in models:
        commit = model.commit(name or model.commits[-1])
        base = home / "hub" / f"models--{model.repo.replace('/', '--')}"
        for directory in (base / "blobs", base / "refs", base / "snapshots" / commit):
            directory.mkdir(parents=True, exist_ok=True)
        (base / "refs" / "main").write_text(commit)
        for file, data in model.files(name or model.commits[-1]).items():
            blob = base / "blobs" / hashlib.sha256(data).hexdigest()
            blob.write_bytes(data)
            link = base / "snapshots" / commit / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(f"{'../' * file.count('/')}../../blobs/{blob.name}")


def _shard(seed: str, number: int, size: int) -> tuple[list[str], bytes]:
    """Return names and bytes of a safetensors file with two tensors, ``size`` bytes in all."""
    names = [f"model.layers.{number}.mlp.experts.weight", f"model.layers.{number}.self_attn.o_proj.weight"]
    first = size * 3 // 4
    header = {
        "__metadata__": {"format": "pt"},
        names[0]: {"dtype": "U8", "shape": [first], "data_offsets": [0, first]},
        names[1]: {"dtype": "F8_E4M3", "shape": [size - first], "data_offsets": [first, size]},
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = random.Random(f"{seed} {number}").randbytes(size)  # noqa: S311 - content, not a secret
    return names, struct.pack("<Q", len(text)) + text + data


def _pretty(data: Any) -> str:
    return json.dumps(data, indent=2) + "\n"
