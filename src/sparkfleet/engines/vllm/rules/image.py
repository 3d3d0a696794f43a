"""Rules for images: what runs on GB10, and which vLLM a model requires."""

from __future__ import annotations

import re
from collections.abc import Mapping

from packaging.version import Version

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm import history, images
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, info, rule, warning
from sparkfleet.engines.vllm.rules.model_names import DIFFUSION_GEMMA, NEMOTRON3_NANO, NVFP4

FIRST_STOCK = "0.24.0"
"""The first release of vllm/vllm-openai that is known to run on GB10 as it is."""
FIRST_NGC = "25.09"


@rule(
    "IMG-01",
    "vllm/vllm-openai runs on GB10 from v0.24.0 on, or as a cu130 build",
    "dgx-vllm 2 and 11; vllm#30855; vLLM's recipes for dgx_spark_gb10 (v0.24.0-ubuntu2404)",
)
def stock_image(case: Case) -> Diagnostic | None:
    """Older stock images have no code for sm_121: "no kernel image is available"."""
    image = case.image
    if not image.repository.endswith("vllm/vllm-openai") or "cu130" in image.tag:
        return None
    if not case.below(FIRST_STOCK):
        return None
    text = f"{image.display} has no code for GB10 (sm_121): the engine ends with `no kernel image`"
    return error(text, "use v0.24.0-ubuntu2404 or later, a cu130 build, or nvcr.io/nvidia/vllm", "image")


@rule("IMG-04", "the image's entrypoint runs vllm serve, or its arguments", "docker; dgx-vllm 6")
def entrypoint(case: Case) -> Diagnostic | None:
    """An image that runs something else cannot take ``vllm serve`` as its command."""
    entrypoint = case.image.entrypoint
    if images.serve_prefix(entrypoint) is not None:
        return None
    text = f"the entrypoint of {case.image.display} is {' '.join(entrypoint)}: it does not run vLLM"
    return error(text, "use an image of vLLM", "image")


@rule("IMG-06", "the image's vLLM knows the model's architecture", "dgx-vllm 6 and 11; vLLM's model registry")
def architecture(case: Case) -> Diagnostic | None:
    """One that came later ends the start; one that no release has may run through Transformers."""
    names = case.config.get("architectures")
    missing = [
        name
        for name in names or ()
        if case.schema.has("architectures", str(name)) is False
        and case.schema.has("spec_architectures", str(name)) is not True
    ]
    if not missing:
        return None
    name = str(missing[0])
    spans = history.of_name("architectures", name)
    text = f"{name} is not in vLLM {case.schema.version} ({history.text(spans)})"
    later = [span.first for span in spans if Version(span.first) > Version(case.schema.version)]
    if later and case.exact:
        return error(text, f"use an image with vLLM {later[0]} or later", "image")
    hint = "use a newer image, unless the model runs through --model-impl transformers"
    return warning(text, hint, "image")


@rule("IMG-08", "nvcr.io/nvidia/vllm runs on a Spark from 25.09 on", "mistral-nemo-spark; dgx-vllm 2")
def first_ngc(case: Case) -> Diagnostic | None:
    """Earlier ones have no code for GB10."""
    image = case.image
    match = re.match(r"(\d\d\.\d\d)", image.tag)
    if not image.repository.startswith("nvcr.io/nvidia/vllm") or not match or match[1] >= FIRST_NGC:
        return None
    text = f"{image.display} is older than the first image for the Spark"
    return error(text, "use 25.09-py3 or later", "image")


@rule(
    "IMG-09",
    "Nemotron 3 Nano NVFP4 needs vLLM 0.12.0 (nvcr.io/nvidia/vllm:25.12.post1-py3) or later",
    "dgx-vllm 7.3.1",
)
def nemotron_nano(case: Case) -> Diagnostic | None:
    """NVIDIA's image for it is 25.12.post1; newer ones have the reasoning parser built in, too."""
    if not case.is_model(NEMOTRON3_NANO) or not case.is_model(NVFP4) or not case.below("0.12.0"):
        return None
    text = f"Nemotron 3 Nano NVFP4 is served from vLLM 0.12.0 on; this is {case.version}"
    return warning(text, "use nvcr.io/nvidia/vllm:26.03-py3 or later: nemotron_v3 is built in", "image")


@rule(
    "IMG-11",
    "DiffusionGemma needs vLLM 0.24.0 and a --diffusion-config",
    "dgx-vllm 7.2.4 (tentative); vLLM's recipe",
)
def diffusion_gemma(case: Case) -> Diagnostic | None:
    """The architecture DiffusionGemmaForBlockDiffusion was released in 0.24.0."""
    if not case.is_model(DIFFUSION_GEMMA):
        return None
    if case.below("0.24.0"):
        text = f"DiffusionGemma is in vLLM from 0.24.0 on; this is {case.version}"
        return error(text, "use vllm/vllm-openai:v0.24.0-ubuntu2404 or later", "image")
    if not isinstance(case.values.get("--diffusion-config"), Mapping):
        return info(
            "vLLM's recipe gives --diffusion-config {canvas_length: 256}", "add it if answers are cut"
        )
    return None


@rule(
    "IMG-12",
    "NVIDIA's images start by their own entrypoint",
    "gb10-inference-wiki (reported): it sets up forward compatibility, else cudaErrorUnsupportedPtxVersion",
)
def replaced_entrypoint(case: Case) -> Diagnostic | None:
    """An image built on top may have another one; its driver libraries are then those of the Spark."""
    image, own = case.image, case.service.container.entrypoint
    entrypoint = (own,) if own else image.entrypoint
    is_known = image.repository.startswith("nvcr.io/nvidia/") and entrypoint
    if not is_known or any("nvidia_entrypoint" in part for part in entrypoint):
        return None
    text = (
        f"{image.display} starts by {' '.join(entrypoint)} instead of NVIDIA's entrypoint, which sets up "
        "forward compatibility: kernels that the driver does not know have been reported"
    )
    return warning(text, "use the image as NVIDIA publishes it, or a driver as new as its CUDA", "image")


@rule(
    "IMG-13",
    "nvcr.io/nvidia/vllm:26.06-py3 answers requests",
    "gb10-inference-wiki (reported): HTTP 500, '_IncludedRouter' object has no attribute 'path'",
)
def broken_router(case: Case) -> Diagnostic | None:
    """Its fastapi and its metrics middleware do not fit together; the gate would notice it."""
    image = case.image
    if not image.repository.endswith("nvidia/vllm") or not re.match(r"26\.06-py3", image.tag):
        return None
    text = f"{image.display} has been reported to answer every request with HTTP 500 (_IncludedRouter)"
    return warning(text, "use 26.07-py3 or later", "image")


RULES: tuple[Rule, ...] = (
    stock_image,
    entrypoint,
    architecture,
    first_ngc,
    nemotron_nano,
    diffusion_gemma,
    replaced_entrypoint,
    broken_router,
)
