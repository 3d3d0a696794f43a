"""How the engine starts, and how it does not: against what the real one printed (tests/golden)."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.gate import diagnosis
from sparkfleet_lab.standins.engine.modes import MODES
from sparkfleet_lab.standins.hub import Hub
from sparkfleet_lab.standins.hub_models import MODELS, NANO, QWEN
from tests.unit.standins.conftest import GOLDEN, READY, Start, free_port, write_safetensors

PHASES = (
    "non-default args: {",
    "Resolved architecture: ",
    "Using max model len ",
    "Initializing a V1 LLM engine (v",
    "Starting to load model ",
    "Loading safetensors checkpoint shards:   0% Completed | 0/",
    "Loading safetensors checkpoint shards: 100% Completed | ",
    "Loading weights took ",
    "KV cache size: ",
    "init engine (profile, create kv cache, warmup model) took ",
    "Supported tasks: ",
    "Starting vLLM server on http://0.0.0.0:",
    "Available routes are:",
    "Started server process [",
    "Waiting for application startup.",
    READY,
)
"""What both print, in this order. The recorded engine ran on CPU, eagerly: it compiled nothing."""

ON_GPU = (
    "Model loading took ",
    "Using cache directory: ",
    "Dynamo bytecode transform time: ",
    "torch.compile took ",
    "Available KV cache memory: ",
    "GPU KV cache size: ",
    "Maximum concurrency for ",
    "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%",
    "Capturing CUDA graphs (decode, FULL): 100%",
    "Graph capturing finished in ",
)


def in_order(log: str, marks: tuple[str, ...]) -> list[str]:
    """Return the marks that are not found, or not after the one before."""
    place, lost = 0, []
    for mark in marks:
        found = log.find(mark, place)
        place = found if found >= 0 else place
        lost += [] if found >= 0 else [mark]
    return lost


def last_line(text: str) -> str:
    """Return the line that names the error, as far as it is the same on every machine and release."""
    lines = [line for line in text.splitlines() if re.search(r"Error|error:", line)]
    return re.sub(r" \(chose from .*| \(choose from .*|0x[0-9a-f]+.*", "", lines[-1])


def recorded(name: str) -> tuple[str, int]:
    text = (GOLDEN / name).read_text()
    found = re.search(r"exit (\d+)\s*$", text)
    assert found
    return text, int(found[1])


def test_the_phases_of_a_start_are_those_of_the_real_engine(engine: Start, tiny: Path) -> None:
    log = engine(str(tiny), "--served-model-name", "tiny").until(READY).log
    assert in_order((GOLDEN / "good_start.log").read_text(), PHASES) == []
    assert in_order(log, PHASES) == []
    assert in_order(log, ON_GPU) == []


def test_an_eager_start_neither_compiles_nor_captures(engine: Start, tiny: Path) -> None:
    log = engine(str(tiny), "--enforce-eager").until(READY).log
    assert "torch.compile" not in log
    assert "Capturing CUDA graphs" not in log


def test_shards_are_counted_while_they_load(engine: Start, cache: Path) -> None:
    log = engine(NANO, HF_HOME=str(cache)).until(READY).log
    assert re.findall(r"\| (\d/\d) ", log)[:4] == ["0/3", "1/3", "2/3", "3/3"]


FAILURES = [
    ("unknown_flag.log", ["{tiny}", "--speculative-disable-by-batch-size", "32"]),
    ("vllm_serve_twice.log", ["vllm", "serve", "/models/tiny"]),
    ("bad_choice.log", ["{tiny}", "--kv-cache-dtype", "fp9"]),
    ("bad_json.log", ["{tiny}", "--speculative-config", '{"method":']),
    ("context_too_long.log", ["{tiny}", "--max-model-len", "999999"]),
    ("quant_mismatch.log", ["{tiny}", "--quantization", "modelopt"]),
    ("unknown_parser.log", ["{tiny}", "--enable-auto-tool-choice", "--tool-call-parser", "nano_v9"]),
    ("serve_twice.log", ["serve"]),
]


@pytest.mark.parametrize(("golden", "args"), FAILURES, ids=[golden for golden, _ in FAILURES])
def test_a_start_fails_with_the_message_and_the_exit_code_of_the_real_engine(
    engine: Start, tiny: Path, golden: Any, args: Any
) -> None:
    text, code = recorded(golden)
    args = [str(tiny) if word == "{tiny}" else word for word in args]
    nowhere = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:1"}
    failed = engine(*args, release="0.30.0", **nowhere)
    assert failed.ended() == code
    expected, got = last_line(text), last_line(failed.log)
    if golden == "serve_twice.log":
        expected, got = (re.sub(r"https?://[^']+", "the hub", line) for line in (expected, got))
    if golden == "context_too_long.log":  # the lines that name the error are pydantic's; the reason is below
        pattern = r"User-specified max_model_len .*? in model's config.json\)"
        expected, got = (re.findall(pattern, log)[-1] for log in (text, failed.log))
    assert got == expected
    cause = diagnosis.reader("vllm").diagnose(text, code)
    assert cause is not None
    found = diagnosis.reader("vllm").diagnose(failed.log, code)
    assert found is not None
    assert found.diagnostic.code == cause.diagnostic.code


def test_a_taken_port_ends_it_as_it_ends_the_real_engine(engine: Start, tiny: Path) -> None:
    text, code = recorded("port_taken.log")
    first = engine(str(tiny)).until(READY)
    second = engine(str(tiny), port=first.port)
    assert second.ended() == code
    assert last_line(second.log) == last_line(text)


REFUSALS = [
    (["--max-num-seqs", "many"], 2, "argument --max-num-seqs: invalid int value: 'many'"),
    (["--max-model-len", "12.5K"], 2, "Decimals are not allowed with binary suffixes like K"),
    (["--compilation-config", '{"levle": 3}'], 2, "1 validation error for CompilationConfig"),
    (["--max-num-s", "4", "--max-num-b"], 2, "expected one argument"),
    (["--speculative-config", '{"method":"mtp","tokens":3}'], 1, "1 validation error for SpeculativeConfig"),
    (["--enable-auto-tool-choice"], 1, "--enable-auto-tool-choice requires --tool-call-parser"),
    (["--reasoning-parser", "nano_v3"], 1, "invalid reasoning parser: nano_v3"),
    (["--quantization", "fp99"], 1, "Unknown quantization method: fp99"),
]


@pytest.mark.parametrize(("args", "code", "text"), REFUSALS, ids=[" ".join(args) for args, _, _ in REFUSALS])
def test_what_the_release_does_not_take_is_refused(
    engine: Start, tiny: Path, args: Any, code: Any, text: Any
) -> None:
    failed = engine(str(tiny), *args)
    assert failed.ended() == code
    assert text in failed.log


def test_a_quantization_that_contradicts_the_model_is_refused(engine: Start, cache: Path) -> None:
    failed = engine(QWEN, "--quantization", "compressed-tensors", HF_HOME=str(cache))
    assert failed.ended() == 1
    assert "in the model config (modelopt) does not match" in failed.log


def test_a_parser_plugin_brings_the_names_that_it_registers(engine: Start, cache: Path) -> None:
    plugin = next(cache.glob("hub/models--nvidia--NVIDIA*/snapshots/*/nano_v3_reasoning_parser.py"))
    args = [NANO, "--reasoning-parser-plugin", str(plugin), "--reasoning-parser", "nano_v3"]
    engine(*args, HF_HOME=str(cache)).until(READY)


def test_a_parser_plugin_that_is_not_there_leaves_its_names_unknown(engine: Start, tiny: Path) -> None:
    failed = engine(str(tiny), "--reasoning-parser-plugin", "/no/file.py", "--reasoning-parser", "nano_v3")
    assert failed.ended() == 1
    assert "Failed to load module 'file' from /no/file.py" in failed.log
    assert "invalid reasoning parser: nano_v3" in failed.log


def test_an_architecture_that_the_release_does_not_know_is_refused(engine: Start, tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text()) | {"architectures": ["TomorrowForCausalLM"]}
    (tiny / "config.json").write_text(json.dumps(config))
    failed = engine(str(tiny))
    assert failed.ended() == 1
    assert "Model architectures ['TomorrowForCausalLM'] are not supported for now" in failed.log


def test_a_model_that_is_not_staged_ends_an_offline_start(engine: Start, tmp_path: Path) -> None:
    failed = engine(NANO, HF_HOME=str(tmp_path))
    assert failed.ended() == 1
    assert "couldn't find them in the cached files" in failed.log
    assert "outgoing traffic has been disabled" in failed.log


def test_a_commit_that_is_not_staged_ends_an_offline_start(engine: Start, cache: Path) -> None:
    engine(NANO, "--revision", MODELS[0].commit("second"), HF_HOME=str(cache)).until(READY)
    failed = engine(NANO, "--revision", MODELS[0].commit("first"), HF_HOME=str(cache))
    assert failed.ended() == 1
    assert "couldn't find them in the cached files" in failed.log


def test_online_a_missing_model_is_downloaded_as_the_real_engine_does(
    engine: Start, hub: Hub, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    engine(NANO, HF_HOME=str(home), HF_HUB_OFFLINE="0", HF_ENDPOINT=hub.endpoint).until(READY)
    assert list(home.glob("hub/models--nvidia--NVIDIA*/snapshots/*/config.json"))


@pytest.mark.parametrize(
    ("content", "diagnostic"),
    [
        (b"", "header too small"),
        (b"\xff" * 8, "header too large"),
        (b"\x40" + b"\0" * 7 + b"{}", "invalid header length"),
        (b"\x02" + b"\0" * 7 + b"[]", "invalid JSON in header"),
    ],
)
def test_broken_weights_end_the_start_with_the_loader_s_message(
    engine: Start, tiny: Path, content: Any, diagnostic: str
) -> None:
    (tiny / "model.safetensors").write_bytes(content)
    failed = engine(str(tiny))
    assert failed.ended() == 1
    assert f"SafetensorError: Error while deserializing header: {diagnostic}" in failed.log
    assert "Engine core initialization failed. See root cause above" in failed.log


def test_a_truncated_shard_ends_the_start(engine: Start, tiny: Path) -> None:
    weights = tiny / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    failed = engine(str(tiny))
    assert failed.ended() == 1
    assert "incomplete metadata, file not fully covered" in failed.log


def test_a_missing_shard_ends_the_start(engine: Start, tiny: Path) -> None:
    index = {"metadata": {}, "weight_map": {"w": "model.safetensors", "v": "model-2.safetensors"}}
    (tiny / "model.safetensors.index.json").write_text(json.dumps(index))
    failed = engine(str(tiny))
    assert failed.ended() == 1
    assert "Following weights were not initialized from checkpoint: {'v'}" in failed.log


MEMORY = [
    ({"LAB_ENGINE_FREE_GIB": "60"}, [], "memory-at-start"),
    ({"LAB_ENGINE_TOTAL_GIB": "1.5", "LAB_ENGINE_FREE_GIB": "1.5"}, [], "memory-no-cache"),
    ({}, ["--kv-cache-memory-bytes", "64k"], "memory-one-sequence"),
]


@pytest.mark.parametrize(("env", "args", "cause"), MEMORY, ids=[cause for _, _, cause in MEMORY])
def test_too_little_memory_is_refused_by_each_of_the_engine_s_checks(
    engine: Start, tiny: Path, env: Any, args: Any, cause: Any
) -> None:
    failed = engine(str(tiny), *args, **env)
    assert failed.ended() == 1
    found = diagnosis.reader("vllm").diagnose(failed.log, 1)
    assert found is not None
    assert found.diagnostic.code == cause


MODE_ENDS = [
    ("crash-at-start", 1, None),
    ("crash-at-start:3", 3, None),
    ("crash-after-load", 1, None),
    ("crash-later:0.1", 1, None),
    ("crash-later:0.1:0", 0, None),
    ("crash-later:0.1:137", -signal.SIGKILL, None),
    ("cuda-oom", 1, "out-of-memory"),
    ("nv-illegal-instruction", 1, "illegal-instruction"),
    ("port-taken", 1, "port-taken"),
]


@pytest.mark.parametrize(("mode", "code", "cause"), MODE_ENDS, ids=[mode for mode, _, _ in MODE_ENDS])
def test_a_mode_ends_the_engine_as_it_says(
    engine: Start, tiny: Path, mode: Any, code: Any, cause: Any
) -> None:
    failed = engine(str(tiny), LAB_ENGINE=mode)
    assert failed.ended() == code
    assert ("crash-later" in mode) == (READY in failed.log)
    if cause:
        found = diagnosis.reader("vllm").diagnose(failed.log, code)
        assert found is not None
        assert found.diagnostic.code == cause


def test_an_engine_that_hangs_while_loading_neither_ends_nor_serves(engine: Start, tiny: Path) -> None:
    hung = engine(str(tiny), LAB_ENGINE="hangs-loading").until("0% Completed | 0/1")
    with pytest.raises(OSError, match="refused"):
        hung.ask("/health")
    hung.process.send_signal(signal.SIGTERM)
    assert hung.ended() == 130
    assert READY not in hung.log


def test_an_engine_that_eats_memory_holds_the_configured_amount_and_never_serves(
    engine: Start, tiny: Path
) -> None:
    eater = engine(str(tiny), LAB_ENGINE="eats-memory", LAB_ENGINE_EAT_MIB="128")
    status = Path(f"/proc/{eater.process.pid}/status")

    def resident_mib() -> int:
        return int(re.findall(r"VmRSS:\s+(\d+)", status.read_text())[0]) // 1024

    while resident_mib() < 128:
        assert eater.process.poll() is None, eater.log
    assert READY not in eater.log


def test_modes_may_stand_in_a_file_beside_the_models(engine: Start, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").symlink_to(cache / "hub")
    (tmp_path / "lab-engine.env").write_text("# for this test\nLAB_ENGINE=crash-at-start:7\n")
    assert engine(NANO, HF_HOME=str(tmp_path)).ended() == 7


def test_a_mode_that_does_not_exist_is_an_error(engine: Start, tiny: Path) -> None:
    failed = engine(str(tiny), LAB_ENGINE="cras-at-start")
    assert failed.ended() == 1
    assert "no mode 'cras-at-start'" in failed.log
    assert "crash-at-start" in MODES


def test_after_a_stop_signal_it_ends_with_0(engine: Start, tiny: Path) -> None:
    served = engine(str(tiny)).until(READY)
    served.process.send_signal(signal.SIGTERM)
    assert served.ended() == 0
    assert "[shutdown] API server: shutdown triggered" in served.log


def test_an_engine_that_ignores_sigterm_goes_on_serving(engine: Start, tiny: Path) -> None:
    deaf = engine(str(tiny), LAB_ENGINE="ignores-sigterm").until(READY)
    deaf.process.send_signal(signal.SIGTERM)
    assert deaf.ask("/health")[0] == 200
    assert deaf.process.poll() is None


def test_a_headless_node_serves_nothing(engine: Start, tiny: Path) -> None:
    port = free_port()
    node = engine(str(tiny), "--headless", port=port).until("Supported tasks")
    with pytest.raises(OSError, match="refused"):
        node.ask("/health")
    assert READY not in node.log


def test_weights_are_counted_in_what_is_loaded(engine: Start, tiny: Path) -> None:
    write_safetensors(tiny / "model.safetensors", 32 * 1024 * 1024)
    log = engine(str(tiny)).until(READY).log
    assert "Model loading took 0.03 GiB memory" in log
