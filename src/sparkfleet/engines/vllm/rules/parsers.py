"""Rules for parsers, templates, packages and single models."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning
from sparkfleet.engines.vllm.rules.model_names import (
    GEMMA4_26B_NVFP4,
    GEMMA4_CODER,
    GPT_OSS,
    LAGUNA,
    MISTRAL_NEMO,
    MISTRAL_SMALL_4,
    NEMOTRON,
    PHI4_MULTIMODAL,
    QWEN36,
)

MISTRAL_COMMON = "1.11.0"


@rule("P-03", "--tool-call-parser needs --enable-auto-tool-choice", "vLLM; dgx-vllm 7.1.2 leaves it out")
def tools_off(case: Case) -> Diagnostic | None:
    """The parser alone has no effect."""
    if not case.text("--tool-call-parser") or "--enable-auto-tool-choice" in case.values:
        return None
    text = "--tool-call-parser has no effect without --enable-auto-tool-choice"
    return warning(text, "add enable-auto-tool-choice: true", "--tool-call-parser")


@rule("P-05", "gpt-oss needs no reasoning parser", "dgx-vllm 7.4.2: Harmony")
def gpt_oss_reasoning(case: Case) -> Diagnostic | None:
    """Its own format already separates thinking from answers."""
    if not case.is_model(GPT_OSS) or not case.text("--reasoning-parser"):
        return None
    text = "gpt-oss separates reasoning by itself (Harmony)"
    return warning(text, "remove reasoning-parser", "--reasoning-parser")


@rule("P-06", "tool calls of gpt-oss require the parser openai", "dgx-vllm 7.4.2; vLLM from 0.10.2")
def gpt_oss_tools(case: Case) -> Diagnostic | None:
    """Others do not read Harmony."""
    parser = case.text("--tool-call-parser")
    if not case.is_model(GPT_OSS) or parser in ("", "openai"):
        return None
    text = f"gpt-oss calls tools in Harmony, which {parser} cannot read"
    return error(text, "set tool-call-parser: openai", "--tool-call-parser")


@rule("P-07", "Phi-4-multimodal needs scipy", "dgx-spark-playbooks#69; vLLM dropped it in 0.14.1")
def phi4_scipy(case: Case) -> Diagnostic | None:
    """The model's own code imports it."""
    if not case.is_model(PHI4_MULTIMODAL) or case.has_package("scipy"):
        return None
    return error("Phi-4-multimodal imports scipy, which the image lacks", "add scipy to requires.packages")


@rule(
    "P-08",
    "models with custom code require --trust-remote-code",
    "dgx-vllm 7.2.2, 7.4.4 (needed); recipes of Qwen3.6, Nemotron and Laguna (given)",
)
def remote_code(case: Case) -> Diagnostic | None:
    """Phi-4-multimodal and Gemma-4-26B-A4B-NVFP4 do not start without it."""
    if case.on("--trust-remote-code"):
        return None
    hint = "add trust-remote-code: true"
    if case.is_model(PHI4_MULTIMODAL) or case.is_model(GEMMA4_26B_NVFP4):
        return error("the model's own code must be trusted", hint)
    if case.is_model(QWEN36) or case.is_model(NEMOTRON) or case.is_model(LAGUNA):
        return info("the publisher's recipe gives --trust-remote-code", f"{hint} if the start asks for it")
    return None


@rule(
    "P-09",
    "Mistral Small 4 needs mistral_common 1.11",
    "dgx-vllm 7.4.1; mistral-small-4-spark 2.5; vLLM requires it from 0.20.0",
)
def mistral_tokenizer(case: Case) -> Diagnostic | None:
    """Its tokenizer is of version 15."""
    if not case.is_model(MISTRAL_SMALL_4) or _has_mistral_common(case):
        return None
    text = f"Mistral Small 4 needs mistral_common {MISTRAL_COMMON}; vLLM {case.version} may have an older one"
    return error(text, "use an image with vLLM 0.20.0 or later, or add mistral_common to requires.packages")


@rule("P-10", "clients of Mistral Small 4 send its SYSTEM_PROMPT.txt", "dgx-vllm 7.4.1")
def mistral_prompt(case: Case) -> Diagnostic | None:
    """The client sends it; reasoning_effort goes into each request."""
    if not case.is_model(MISTRAL_SMALL_4):
        return None
    return info("clients of Mistral Small 4 send SYSTEM_PROMPT.txt and reasoning_effort themselves")


@rule(
    "P-11",
    "trusted code is pinned to a commit",
    "derived: it runs in the container with the Spark's GPU",
    needs_lock=True,
)
def mutable_code(case: Case) -> Diagnostic | None:
    """Without a commit, whoever may push to the repository decides what runs."""
    if not case.on("--trust-remote-code") or case.service.weights.revision:
        return None
    text = "--trust-remote-code without a commit: the code may change"
    return warning(text, "run `sparkfleet lock`", "--trust-remote-code")


@rule(
    "P-13",
    "--load-format fastsafetensors requires its package",
    "dgx-vllm 8, 9; a dependency from vLLM 0.20.0",
)
def fastsafetensors(case: Case) -> Diagnostic | None:
    """All releases know the name; the package came later."""
    if case.text("--load-format") != "fastsafetensors" or case.has_package("fastsafetensors"):
        return None
    text = f"fastsafetensors is not a dependency of vLLM {case.schema.version}"
    hint = "add fastsafetensors to requires.packages, or remove load-format"
    flag = "--load-format"
    is_missing = case.has_package("fastsafetensors") is False
    return error(text, hint, flag) if is_missing else warning(text, hint, flag)


@rule("P-14", "gemma-4-12B-coder has no safety training", "dgx-vllm 7.2.3")
def coder(case: Case) -> Diagnostic | None:
    """The publisher's statement."""
    if not case.is_model(GEMMA4_CODER):
        return None
    return info("gemma-4-12B-coder is not safety-aligned; thinking is switched on by each request")


@rule("P-15", "Mistral NeMo has its own chat template", "mistral-nemo-4090; mistral-nemo")
def nemo_template(case: Case) -> Diagnostic | None:
    """The template of Mistral 7B gives poor answers."""
    if not case.is_model(MISTRAL_NEMO):
        return None
    return info("Mistral NeMo: temperature 0.3, and never the chat template of Mistral 7B")


def _has_mistral_common(case: Case) -> bool:
    """Return whether the image certainly has it: requested, installed, or required by the release."""
    if "mistral-common" in case.added_packages or case.version is None:
        return True
    known = case.schema.packages.get("mistral-common", "")
    try:
        return Version(known) >= Version(MISTRAL_COMMON)
    except InvalidVersion:
        return not SpecifierSet(known).contains("1.10.9") if known else False


RULES: tuple[Rule, ...] = (
    tools_off,
    gpt_oss_reasoning,
    gpt_oss_tools,
    phi4_scipy,
    remote_code,
    mistral_tokenizer,
    mistral_prompt,
    mutable_code,
    fastsafetensors,
    coder,
    nemo_template,
)
