"""The ten mistakes of the documents that this project started from, as they have them, and caught."""

import re
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.catalog.load import Catalog
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.check import check_flags
from sparkfleet.engines.vllm.schema import load, versions
from sparkfleet.onhost.gate import diagnosis
from sparkfleet.plan.lint import findings
from tests.unit.engines.vllm.rules.services import HYBRID, QWEN36, STOCK, Sample

METRICS = Path(__file__).parents[2] / "golden" / "real_vllm_0.32_cpu" / "metrics.txt"


def findings_of(sample: Sample) -> dict[str, Diagnostic]:
    """Return what ``sparkfleet check`` and the plan say of a service, by code."""
    return {found.code: found for found in findings(sample.service(), sample.host())}


@pytest.mark.parametrize("version", versions())
def test_1_vllm_serve_is_written_after_an_image_that_runs_it_already(version: Any) -> None:
    argv = ["vllm", "serve", "nvidia/Gemma-4-31B-IT-NVFP4", "--port", "8000"]
    (found,) = check_flags(argv, load(version))
    assert (found.severity, found.code) == ("error", "serve-repeated")
    started = diagnosis.reader("vllm").diagnose(
        "vllm: error: unrecognized arguments: serve nvidia/Gemma-4-31B-IT-NVFP4", 2
    )
    assert started is not None
    assert started.diagnostic.code == "entrypoint-repeated"


@pytest.mark.provokes("unknown-flag")
def test_2_a_flag_is_recommended_that_no_release_has() -> None:
    found = findings_of(Sample(flags={"speculative-disable-by-batch-size": 32}))["unknown-flag"]
    assert found.severity == "error"
    assert "in no release" in found.message
    assert "num_speculative_tokens_per_batch_size" in found.hint


def test_3_a_variable_is_set_that_no_release_reads() -> None:
    found = findings_of(Sample(QWEN36, env={"VLLM_FP8_MOE_BACKEND": "flashinfer_cutlass"}))["unknown-env"]
    assert found.severity == "warning"
    assert "VLLM_FP8_MOE_BACKEND: it has no effect" in found.message


def test_4_prefix_caching_of_a_hybrid_model_is_left_to_the_default() -> None:
    found = findings_of(Sample(QWEN36, config=HYBRID))["CTX-05"]
    assert "prefix caching is off for this hybrid model in vLLM 0.24.0" in found.message
    assert "CTX-05" not in findings_of(Sample(QWEN36, config=HYBRID, vllm="0.28.0"))


def test_5_chunked_prefill_is_thought_to_be_off_without_its_flag() -> None:
    found = findings_of(Sample("Qwen/Qwen3.5-35B-A3B", flags={"enable-chunked-prefill": True}))["KV-02"]
    assert '"about 9 times slower"' in found.message
    assert "vLLM has it on by default" in found.message
    assert "enable-chunked-prefill: false" in found.hint


def test_6_expert_parallel_is_recommended_for_one_gpu() -> None:
    found = findings_of(Sample("openai/gpt-oss-120b", flags={"enable-expert-parallel": True}))["BK-09"]
    assert "no effect on one GPU" in found.message


@pytest.mark.parametrize(
    "line",
    [
        "Using cutlass for NVFP4 GEMM",
        "Using NvFp4LinearBackend.VLLM_CUTLASS for NVFP4 GEMM",
        "Using CutlassNvFp4LinearKernel for NVFP4 GEMM",
    ],
)
def test_7_a_line_is_looked_for_that_only_a_few_releases_log(line: str) -> None:
    kernel = line.split()[1]
    assert diagnosis.reader("vllm").phase_of(
        f"(EngineCore pid=7) INFO 06-20 10:00:00 [nvfp4.py:1] {line}\n"
    ) == (
        "load",
        f"NVFP4 kernels: {kernel}",
    )


@pytest.mark.provokes("bad-choice")
@pytest.mark.parametrize("version", ["0.19.0", "0.24.0", "0.33.0"])
def test_7_the_name_in_that_line_is_no_value_of_a_flag(version: str) -> None:
    (found,) = check_flags(["m", "--moe-backend", "VLLM_CUTLASS"], load(version))
    assert (found.severity, found.code) == ("error", "bad-choice")
    assert "cutlass" in found.hint


def test_8_metrics_are_read_by_names_that_the_engine_does_not_have() -> None:
    real = set(re.findall(r"^(vllm:\w+)", METRICS.read_text(), re.MULTILINE))
    assert not real & {
        "vllm:num_generation_tokens_total",
        "vllm:num_running_requests",
        "vllm:gpu_cache_usage_perc",
    }
    assert real >= set(engines.on_host("vllm").metrics.tokens)


def test_9_the_number_of_sequences_is_left_to_the_default() -> None:
    found = findings_of(Sample(without=("max-num-seqs",)))["MEM-02"]
    assert found.severity == "warning"
    assert "vLLM's default on GB10 is 1024" in found.message
    assert all("max-num-seqs" in one.flags for one in Catalog.of().values() if not one.engine)


def test_10_stock_images_are_reported_not_to_run_on_gb10_but_newer_ones_do() -> None:
    assert "IMG-01" not in findings_of(Sample(**STOCK, tag="v0.24.0-ubuntu2404"))
    assert findings_of(Sample(**STOCK, tag="v0.22.0", vllm="0.22.0"))["IMG-01"].severity == "error"
