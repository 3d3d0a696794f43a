"""Rules for speculative decoding: methods, drafters, number of tokens."""

from __future__ import annotations

import re

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning
from sparkfleet.engines.vllm.rules.model_names import DRAFTERS, NEMOTRON3_NANO

FLAG = "--speculative-config"
MOST_MTP = 3
DFLASH_TOKENS = (5, 15)
MANY_SEQS = 8


@rule(
    "SD-01",
    "DFlash needs vLLM 0.20.0, better 0.21.0",
    "vLLM: the method is there from 0.20.0; dgx-vllm 13 says 0.21.0",
)
def dflash_version(case: Case) -> Diagnostic | None:
    """Both sources are named, since they disagree by one release."""
    if case.method != "dflash":
        return None
    if case.below("0.20"):
        text = f"DFlash is in vLLM from 0.20.0 on; this is {case.version}"
        return error(text, "use an image with vLLM 0.21.0 or later")
    if case.below("0.21"):
        text = f'vLLM {case.version} has DFlash; dgx-vllm 13 says "0.21.0 or later"'
        return warning(text, "use an image with vLLM 0.21.0 or later")
    return None


@rule("SD-02", "a drafter is trained for one model", "dgx-vllm 13.4, 13.6: the published pairs")
def drafter(case: Case) -> Diagnostic | None:
    """Another one drafts tokens that the model throws away."""
    drafter_model = str(case.speculative.get("model", ""))
    if case.method != "dflash" or not drafter_model or drafter_model.startswith("/"):
        return None
    for model, published in DRAFTERS.items():
        fits = re.search(published, drafter_model, re.IGNORECASE) is not None
        if case.is_model(model) != fits:
            hint = "use the drafter that is published for this very model"
            text = f"the drafter {drafter_model} is not the one of {case.service.weights.repo}"
            return error(text, hint, FLAG)
    return None


@rule("SD-03", "MTP needs vLLM 0.11.0, better 0.19.0", "vLLM: generic mtp from 0.11.0; dgx-vllm 13.6")
def mtp_version(case: Case) -> Diagnostic | None:
    """Nemotron-H and Qwen3.5 have theirs from 0.17.1, Gemma 4 from 0.21.0."""
    if case.method != "mtp":
        return None
    if case.below("0.11"):
        return error(f"MTP is in vLLM from 0.11.0 on; this is {case.version}", "use a newer image")
    if case.below("0.19"):
        text = f'MTP in vLLM {case.version}; dgx-vllm 13.6 says "fine on 0.19.0 and later"'
        return warning(text, "use an image with vLLM 0.19.0 or later")
    return None


@rule("SD-05", "MTP drafts 1 to 3 tokens", "dgx-vllm 13.5")
def mtp_tokens(case: Case) -> Diagnostic | None:
    """More are seldom accepted, and cost."""
    tokens = case.speculative.get("num_speculative_tokens")
    if case.method != "mtp" or not isinstance(tokens, int) or tokens <= MOST_MTP:
        return None
    text = f"MTP with {tokens} draft tokens: few beyond the third are accepted"
    return warning(text, "set 1 to 3", FLAG)


@rule("SD-06", "DFlash drafts 5 to 15 tokens", "dgx-vllm 13.3: 15 for one user, 5 for many")
def dflash_tokens(case: Case) -> Diagnostic | None:
    """The drafter makes a block at once."""
    tokens = case.speculative.get("num_speculative_tokens")
    least, most = DFLASH_TOKENS
    if case.method != "dflash" or not isinstance(tokens, int) or least <= tokens <= most:
        return None
    return info(f"DFlash with {tokens} draft tokens", "15 for one user at a time, 5 for many", FLAG)


@rule("SD-08", "Nemotron 3 Nano has no drafter", "dgx-vllm 13.1")
def nano(case: Case) -> Diagnostic | None:
    """Nothing is published that drafts for it."""
    if not case.is_model(NEMOTRON3_NANO) or not case.method or case.method == "ngram":
        return None
    return error("there is no drafter for Nemotron 3 Nano", "remove speculative-config", FLAG)


@rule("SD-10", "speculative decoding is for few users at a time", "dgx-vllm 13")
def under_load(case: Case) -> Diagnostic | None:
    """Under load the GPU has no idle time to draft in."""
    seqs = case.number("--max-num-seqs")
    if not case.speculative or seqs is None or seqs <= MANY_SEQS:
        return None
    text = f"speculative decoding with up to {seqs:.0f} sequences: it costs throughput under load"
    return warning(text, "lower max-num-seqs, or remove speculative-config", "--max-num-seqs")


@rule("SD-11", "prefix caching and MTP at lowest latency", "dgx-vllm 13.2: the recipe suggests to disable it")
def mtp_prefix_caching(case: Case) -> Diagnostic | None:
    """Hybrids keep more state for it."""
    if case.method != "mtp" or not case.on("--enable-prefix-caching"):
        return None
    text = "dgx-vllm 13.2 disables prefix caching for the lowest latency with MTP"
    return info(text, at="--enable-prefix-caching")


RULES: tuple[Rule, ...] = (
    dflash_version,
    drafter,
    mtp_version,
    mtp_tokens,
    dflash_tokens,
    nano,
    under_load,
    mtp_prefix_caching,
)
