"""Rules for quantization: flags against the checkpoint."""

from __future__ import annotations

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning
from sparkfleet.engines.vllm.rules.model_names import GPT_OSS, MISTRAL_NEMO, NVFP4

FLAG = "--quantization"
_TAKE_AWAY = "remove --quantization (`quantization: null`): vLLM finds it in the checkpoint"


@rule(
    "Q-01",
    "no --quantization for a compressed-tensors checkpoint",
    "dgx-vllm 6, 7.1.2, 7.2.3, 7.4.1, 8, 11; vllm/config/model.py",
)
def contradicts_compressed_tensors(case: Case) -> Diagnostic | None:
    """The engine compares the flag with the checkpoint and exits."""
    requested = case.text("--quantization")
    method = case.quantization.get("quant_method")
    if method != "compressed-tensors" or requested in ("", "compressed-tensors"):
        return None
    text = f"the checkpoint is compressed-tensors, --quantization says {requested}"
    return error(text, _TAKE_AWAY, FLAG)


@rule(
    "Q-02",
    "a ModelOpt checkpoint without quantization_config needs --quantization modelopt",
    "dgx-vllm 6 and 8; vLLM reads quantization_config by itself",
)
def needs_modelopt(case: Case) -> Diagnostic | None:
    """Needed only where hf_quant_config.json alone says how the weights are quantized."""
    files = {file.path for file in case.service.weights.files}
    if not case.config or case.quantization or "hf_quant_config.json" not in files:
        return None
    if case.text("--quantization").startswith("modelopt"):
        return None
    text = (
        "only hf_quant_config.json says that the checkpoint is ModelOpt's: vLLM would load it as unquantized"
    )
    return warning(text, "add quantization: modelopt")


@rule(
    "Q-03",
    "--quantization modelopt is only for ModelOpt checkpoints",
    "dgx-vllm 11; vLLM 0.32: `Cannot find the config file for modelopt`",
)
def not_modelopt(case: Case) -> Diagnostic | None:
    """The engine exits without ModelOpt's own config."""
    requested = case.text("--quantization")
    if not requested.startswith("modelopt") or not case.config:
        return None
    method = str(case.quantization.get("quant_method", ""))
    files = {file.path for file in case.service.weights.files}
    if method.startswith("modelopt") or method == "compressed-tensors" or "hf_quant_config.json" in files:
        return None
    what = f"quantized by {method}" if method else "not quantized"
    return error(f"the checkpoint is {what}, --quantization says {requested}", _TAKE_AWAY, FLAG)


@rule(
    "Q-04",
    "a checkpoint of mixed precision (ModelOpt) needs vLLM 0.17",
    "vLLM's registry: modelopt_mixed from 0.17.1",
)
def mixed_precision(case: Case) -> Diagnostic | None:
    """Nemotron 3 Super is one."""
    if case.quantization.get("quant_algo") != "MIXED_PRECISION" or not case.below("0.17"):
        return None
    text = f"the checkpoint is of mixed precision, which vLLM {case.version} does not know"
    return error(text, "use an image with vLLM 0.17.1 or later")


@rule(
    "Q-05",
    "Mistral NeMo is served from an FP8 checkpoint, not quantized at the start",
    "mistral-nemo-spark (CUTLASS Error Internal); vllm#43367",
)
def online_fp8(case: Case) -> Diagnostic | None:
    """Quantizing at load uses CUTLASS kernels that fail on GB10 in some builds."""
    if not case.is_model(MISTRAL_NEMO) or case.text("--quantization") != "fp8" or case.quantization:
        return None
    text = "quantizing Mistral NeMo to FP8 at the start has failed on GB10 (CUTLASS Error Internal)"
    return warning(text, "use a checkpoint that is FP8 already, without --quantization", FLAG)


@rule(
    "Q-06",
    "models above 45 % of the memory should be quantized",
    "dgx-vllm 2 (Spark: 273 GB/s of memory)",
)
def large_bf16(case: Case) -> Diagnostic | None:
    """Decoding reads every active weight for every token: smaller weights are faster, too."""
    if not case.config or case.quantization or case.weights_gib < 0.45 * case.total_gib:
        return None
    text = f"{case.weights_gib:.0f} GiB of unquantized weights: slow, and most of the Spark's memory"
    return info(text, "prefer an NVFP4, FP8 or MXFP4 checkpoint")


@rule("Q-07", "gpt-oss is already MXFP4: no --quantization", "dgx-vllm 7.4.2; vLLM detects mxfp4")
def gpt_oss(case: Case) -> Diagnostic | None:
    """The flag can only contradict the checkpoint."""
    requested = case.text("--quantization")
    if not case.is_model(GPT_OSS) or not requested:
        return None
    return warning(f"gpt-oss is already MXFP4, --quantization says {requested}", _TAKE_AWAY, FLAG)


@rule(
    "Q-08", "--load-format tensorizer does not support NVFP4 or compressed-tensors", "mistral-small-4-spark 8"
)
def tensorizer(case: Case) -> Diagnostic | None:
    """Its files know nothing of these layouts."""
    if case.text("--load-format") != "tensorizer":
        return None
    if not case.is_model(NVFP4) and case.quantization.get("quant_method") != "compressed-tensors":
        return None
    text = "--load-format tensorizer cannot load this quantization"
    return error(text, "remove it, or use load-format: fastsafetensors", "--load-format")


RULES: tuple[Rule, ...] = (
    contradicts_compressed_tensors,
    needs_modelopt,
    not_modelopt,
    mixed_precision,
    online_fp8,
    large_bf16,
    gpt_oss,
    tensorizer,
)
