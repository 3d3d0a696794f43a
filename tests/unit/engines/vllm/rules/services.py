"""Builds services of one Spark, for the tests of rules."""

from dataclasses import dataclass, field
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Gate, Task
from sparkfleet.desired_state import Host, ImageRef, Service, WeightFile, Weights
from sparkfleet.engines.vllm.rules import check
from sparkfleet.engines.vllm.schema import Schema
from sparkfleet.runtimes import Container

GIB = 2**30
QUIET = {"max-model-len": 32768, "max-num-seqs": 4, "gpu-memory-utilization": 0.8}
"""Flags without any finding."""
DENSE = {
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 65536,
}
HYBRID = {
    **DENSE,
    "layer_types": ["linear_attention", "full_attention"] * 20,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}
YARN = {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}
MTP = {"method": "mtp", "num_speculative_tokens": 2}
DFLASH = {"method": "dflash", "num_speculative_tokens": 8, "model": "z-lab/Qwen3.5-27B-DFlash"}
NVIDIA = ("/opt/nvidia/nvidia_entrypoint.sh",)


@dataclass
class Sample:
    """A service of one Spark; everything that is not declared is valid."""

    repo: str = "org/Plain-7B"
    vllm: str = "0.24.0"
    flags: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Flags of ``QUIET`` that are left out."""
    env: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    gib: float = 0
    files: tuple[str, ...] = ()
    repository: str = "nvcr.io/nvidia/vllm"
    tag: str = "26.07-py3"
    entrypoint: tuple[str, ...] = NVIDIA
    container: Container = field(default_factory=Container)
    packages: dict[str, str] = field(default_factory=dict)
    recipe: str = "plain"
    revision: str = "a" * 40
    gated: bool = False
    token: str = "env:HF_TOKEN"
    task: Task = Task.CHAT
    memory_gib: float = 0.0
    adapters: tuple[Weights, ...] = ()

    def service(self) -> Service:
        flags = {key: value for key, value in QUIET.items() if key not in self.without} | self.flags
        paths = [WeightFile(path, 10) for path in self.files]
        if self.gib:
            paths.append(WeightFile("model.safetensors", int(self.gib * GIB)))
        return Service(
            name="plain",
            recipe=self.recipe,
            port=8000,
            image=ImageRef(self.repository, self.tag, "sha256:1", self.entrypoint, self.vllm),
            weights=Weights(self.repo, self.revision, tuple(paths), self.gated, tuple(self.config.items())),
            served_name="plain",
            flags=tuple(flags.items()),
            env=tuple(self.env.items()),
            container=self.container,
            requires_packages=tuple(self.packages.items()),
            gate=Gate(task=self.task),
            drafters=self.adapters,
        )

    def host(self) -> Host:
        return Host("spark-01", (self.service(),), hf_token=self.token, memory_gib=self.memory_gib)

    def diagnostics(self, schema: Schema | None = None) -> dict[str, Diagnostic]:
        return {found.code: found for found in check(self.service(), self.host(), schema=schema)}


def adapter(**config: Any) -> Weights:
    """A LoRA adapter of the hub, as it is locked."""
    return Weights("org/adapter", "b" * 40, config=tuple({"peft_type": "LORA", **config}.items()))


STOCK: dict[str, Any] = {"repository": "docker.io/vllm/vllm-openai", "entrypoint": ("vllm", "serve")}
GEMMA = "nvidia/Gemma-4-26B-A4B-NVFP4"
NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"
SMALL4 = "mistralai/Mistral-Small-4-119B-2603-NVFP4"
NEMO = "mistralai/Mistral-Nemo-Instruct-2407"
QWEN36 = "nvidia/Qwen3.6-35B-A3B-NVFP4"
DIFFUSION = "nvidia/diffusiongemma-26B-A4B-it-NVFP4"
CODER = "sakamakismile/gemma-4-12B-coder-fable5-composer2.5-MTP-NVFP4"
PHI4 = "microsoft/Phi-4-multimodal-instruct"
COMPRESSED = {"quantization_config": {"quant_method": "compressed-tensors"}}
MODELOPT = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
MIXED = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}}
LIGHTNING = "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4"
NIGHTLY: dict[str, Any] = STOCK | {"tag": "nightly-dev-arm64-cu13.0.1-728d3ad", "vllm": ""}
