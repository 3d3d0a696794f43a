import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.gate import diagnosis, failure_patterns
from sparkfleet.onhost.gate.diagnosis import Sources

READER = diagnosis.reader("vllm")
diagnose, last_meaningful_lines = READER.diagnose, READER.last_meaningful_lines
phase_of, warnings = READER.phase_of, READER.warnings

LOGS = Path(__file__).parents[3] / "golden" / "real_vllm_0.32_cpu"
"""What vLLM 0.32.0 really logged; the last line of a failed start is its exit code."""
FAILURES = failure_patterns.read("vllm")["failures"]
HARMLESS = failure_patterns.read("vllm")["harmless"]


def log_and_exit(name: str) -> tuple[str, int | None]:
    text = (LOGS / f"{name}.log").read_text()
    match = re.search(r"^exit (\d+)\s*\Z", text, re.MULTILINE)
    return (text[: match.start()], int(match[1])) if match else (text, None)


@pytest.mark.parametrize("entry", HARMLESS, ids=lambda entry: entry["re"][:30])
def test_a_harmless_line_is_not_taken_for_a_failure(entry: dict[str, Any]) -> None:
    assert re.search(entry["re"], entry["sample"])
    assert diagnose(entry["sample"]) is None
    assert last_meaningful_lines(entry["sample"], 5) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bad_choice", "bad-value"),
        ("bad_json", "bad-json"),
        ("context_too_long", "context-too-long"),
        ("port_taken", "port-taken"),
        ("quant_mismatch", "quantization-no-config"),
        ("serve_twice", "model-named-serve"),
        ("unknown_flag", "unknown-flag"),
        ("unknown_parser", "tool-parser"),
        ("vllm_serve_twice", "entrypoint-repeated"),
    ],
)
def test_the_logs_of_real_failed_starts_are_diagnosed(name: str, expected: str) -> None:
    found = diagnose(*log_and_exit(name))
    assert found is not None
    assert found.diagnostic.code == expected


def test_a_good_start_and_stop_has_nothing_to_diagnose() -> None:
    text, _ = log_and_exit("good_start")
    assert diagnose(text, 0) is None


def test_the_cause_names_what_the_engine_named() -> None:
    found = diagnose(*log_and_exit("context_too_long"))
    assert found is not None
    assert "999999" in found.diagnostic.message
    assert "2048" in found.diagnostic.message
    assert "max-model-len to 2048" in found.diagnostic.hint


def test_a_root_cause_wins_over_the_wrapper_that_follows_it() -> None:
    text = (
        "(EngineCore pid=7) ERROR 11-20 10:00:00 [core.py:1] torch.OutOfMemoryError: CUDA out of memory.\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    found = diagnose(text, 1)
    assert found is not None
    assert found.diagnostic.code == "out-of-memory"


def test_of_two_root_causes_the_last_one_counts() -> None:
    first, last = "OSError: [Errno 28] No space left on device", "OSError: [Errno 98] Address already in use"
    found = diagnose(f"{first}\n{last}\n", 1)
    assert found is not None
    assert found.diagnostic.code == "port-taken"


def test_output_below_error_level_is_no_failure() -> None:
    prefix = "(Worker pid=1) WARNING 11-20 10:00:00 [x.py:1]"
    assert diagnose(f"{prefix} CUDA error: an illegal instruction was encountered, retrying") is None


def test_a_command_line_error_needs_its_exit_code() -> None:
    line = "vllm: error: unrecognized arguments: --foo"
    known, other = diagnose(line, None), diagnose(line, 1)
    assert known is not None
    assert other is not None
    assert (known.diagnostic.code, other.diagnostic.code) == ("unknown-flag", "unknown")


def test_a_refused_config_shows_what_it_refuses() -> None:
    found = diagnose(
        "pydantic: 1 validation error for SpeculativeConfig\nfoo\n  Extra inputs are not permitted"
    )
    assert found is not None
    assert (
        found.diagnostic.message
        == "vLLM refused the settings (SpeculativeConfig): foo: Extra inputs are not permitted"
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (132, "illegal-instruction"),
        (134, "aborted"),
        (137, "killed"),
        (139, "crashed"),
        (127, "command-missing"),
    ],
)
def test_a_silent_death_is_read_from_the_exit_code(code: int, expected: str) -> None:
    found = diagnose("INFO 11-20 10:00:00 [x.py:1] all is well\n", code)
    assert found is not None
    assert found.diagnostic.code == expected


def test_a_log_without_a_failure_gets_no_diagnosis() -> None:
    assert diagnose("Segfault in the coffee machine\n", None) is None


@pytest.mark.parametrize("code", [1, 2, 3])
def test_an_unknown_failure_is_not_given_a_cause(code: int) -> None:
    found = diagnose("ValueError: the coffee machine is on fire\n", code)
    assert found is not None
    assert (found.diagnostic.code, found.line) == ("unknown", "ValueError: the coffee machine is on fire")
    assert "without a known cause" in found.diagnostic.message


def test_unknown_failures_show_the_last_lines_that_say_something() -> None:
    text = (
        "ValueError: the coffee machine is on fire\n"
        '  File "/opt/vllm/x.py", line 3, in f\n'
        "    raise ValueError\n"
        "    ^^^^^^^^\n"
        "Loading safetensors checkpoint shards:  23% Completed | 3/13 [00:07<00:24]\n"
        "(APIServer pid=1) INFO 11-20 19:36:19 [launcher.py:304] bye\n"
        "(APIServer pid=1) ERROR 11-20 19:36:19 [x.py:1] [shutdown] forced\n"
        "\n"
    )
    assert last_meaningful_lines(text, 3) == ["ValueError: the coffee machine is on fire"]
    assert last_meaningful_lines(text, 0) == []


def test_a_very_long_line_is_shortened() -> None:
    found = diagnose(
        "vllm serve: error: argument --x: invalid choice: 'y' (choose from " + "'z', " * 500 + ")", 2
    )
    assert found is not None
    assert len(found.diagnostic.message) < 200
    assert len(found.line) <= 400


@pytest.mark.parametrize("entry", failure_patterns.read("vllm")["phases"], ids=lambda entry: entry["re"][:40])
def test_every_progress_marker_is_recognised(entry: dict[str, Any]) -> None:
    found = phase_of(entry["sample"] + "\n")
    assert found is not None
    assert found[0] == entry["phase"]
    assert "{" not in found[1]


def test_progress_counts_the_shards() -> None:
    line = "Loading safetensors checkpoint shards:  23% Completed | 3/13 [00:07<00:24,  2.5s/it]"
    assert phase_of(line) == ("load", "shards 3/13")


def test_of_a_progress_bar_that_redraws_itself_the_last_state_counts() -> None:
    bar = "Loading shards:  {}% Completed | {}/3"
    assert phase_of(bar.format(33, 1) + "\r" + bar.format(66, 2) + "\n") == ("load", "shards 2/3")


def test_a_good_start_walks_through_the_phases_in_order() -> None:
    text, _ = log_and_exit("good_start")
    phases = [found[0] for line in text.splitlines() if (found := phase_of(line))]
    assert list(dict.fromkeys(phases)) == ["start", "load", "memory", "warm-up", "ready"]


@pytest.mark.parametrize(
    "entry", failure_patterns.read("vllm")["warnings"], ids=lambda entry: entry["re"][:30]
)
def test_warnings_that_an_operator_should_know_are_reported_once(entry: dict[str, Any]) -> None:
    assert len(warnings(f"{entry['sample']}\n{entry['sample']}\n")) == 1


def test_patterns_that_are_missing_from_an_installation_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkgutil, "get_data", lambda *_: None)
    failure_patterns.read.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"failure_patterns\.json"):
        failure_patterns.read("vllm")


SAMPLES = [
    entry["sample"]
    for kind in ("harmless", "warnings", "phases")
    for entry in failure_patterns.read("vllm")[kind]
]


def test_no_line_of_a_good_start_is_taken_for_a_failure() -> None:
    started = log_and_exit("good_start")[0].partition("[shutdown]")[0]
    lines = [*started.splitlines(), *SAMPLES]
    assert len(lines) > 80
    assert [(line, found) for line in lines if (found := diagnose(line))] == []


def test_ports_that_no_cable_joins_are_named_by_their_addresses() -> None:
    entry = next(one for one in FAILURES if one["id"] == "rdma-no-way")
    found = diagnose(f"{entry['samples'][0]['text']}\nRuntimeError: NCCL error: unhandled system error\n", 1)
    assert found is not None
    assert found.diagnostic.message.endswith("192.168.176.1 to 192.168.178.2")
    assert "NCCL 2.30" in found.diagnostic.hint


WRAPPED = (
    "{}",
    "\x1b[36m(EngineCore_DP0 pid=120)\x1b[0;0m {}",
    "[36m(EngineCore_DP0 pid=120)[0;0m {}",
    "2026-09-14T08:11:40.123456789Z {}",
    "Sep 14 08:11:40 spark-01 docker[1234]: {}",
    "2026-09-14T08:11:40+0200 spark-01 sparkfleet-nano[1234]: {}",
    "vllm-head-1  | {}",
    "(EngineCore_DP0 pid=120) ERROR 01-28 06:36:45 [core.py:946] {}",
    "ERROR 04-12 10:00:00 core.py:340] {}",
    "(APIServer pid=1) (EngineCore_DP0 pid=68) ERROR 02-06 16:34:06 [core.py:936] {}",
    "(EngineCore_DP0 pid=9) (RayWorkerWrapper pid=7, ip=10.0.0.2) ERROR 02-06 16:34:06 [worker.py:1] {}",
    "[rank1]: {}",
    "[2026-09-14 08:11:40 TP1] {}",
    "2026-09-14 08:11:40,123 - ERROR - {}",
    "2026-09-14T08:11:40Z stderr F {}",
    "vllm-1 | 2026-09-14T08:11:40Z (Worker_TP1 pid=3) ERROR 02-06 16:34:06 [x.py:1] [rank1]: {}",
)
"""How one line looks by docker, compose, journald, Kubernetes, vLLM, Ray, NCCL and SGLang."""


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_what_surrounds_a_message_does_not_hide_it(wrapper: str) -> None:
    line = "ValueError: num_speculative_tokens:4 must be divisible by n_predict=3"
    found = diagnose(wrapper.format(line), 1)
    assert found is not None
    assert (found.diagnostic.code, found.line) == ("speculative-tokens", line)


def test_docker_s_own_log_file_is_read() -> None:
    found = diagnose('{"log":"OSError: [Errno 98] Address already in use\\n","stream":"stderr","time":"x"}\n')
    assert found is not None
    assert found.diagnostic.code == "port-taken"


def test_the_innermost_level_counts() -> None:
    prefix = "(EngineCore pid=1) ERROR 11-20 10:00:00 [x.py:1] (RayWorkerWrapper pid=2, ip=10.0.0.2)"
    assert (
        diagnose(f"{prefix} WARNING 11-20 10:00:00 [y.py:1] OSError: [Errno 98] Address already in use")
        is None
    )


FATAL = (
    "(EngineCore_DP0 pid=120) ERROR 01-28 06:36:45 [core.py:946] EngineCore failed to start.\n"
    "(EngineCore_DP0 pid=120) ERROR 01-28 06:36:45 [core.py:946] {}\n"
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.\n"
)


def test_an_error_that_the_engine_survived_does_not_beat_the_fatal_one() -> None:
    survived = "OSError: [Errno 98] Address already in use\n"
    out_of_memory = FATAL.format("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    found = diagnose(survived + out_of_memory, 1)
    assert found is not None
    assert found.diagnostic.code == "out-of-memory"


def test_an_error_before_progress_was_survived() -> None:
    progress = (
        "(EngineCore_DP0 pid=9) INFO 02-04 18:47:06 [core.py:97] Initializing a V1 LLM engine (v0.15.0)\n"
    )
    log = f"ModuleNotFoundError: No module named 'vllm._version'\n{progress}" + FATAL.format(
        "KeyError: 'x.y'"
    )
    found = diagnose(log, 1)
    assert found is not None
    assert (found.diagnostic.code, found.line) == ("unknown", "KeyError: 'x.y'")


def test_an_error_that_only_the_wrapper_quotes_is_shown() -> None:
    found = diagnose(
        "(EngineCore pid=7) RuntimeError: Worker failed with error 'no such layer: x', please check\n", 1
    )
    assert found is not None
    assert (found.diagnostic.code, found.line) == ("unknown", "no such layer: x")


def test_progress_of_another_worker_does_not_make_an_error_survived() -> None:
    log = (
        "(Worker_TP0 pid=3) ERROR 01-28 06:36:45 [x.py:1] torch.OutOfMemoryError: CUDA out of memory.\n"
        "(Worker_TP1 pid=4) INFO 01-28 06:36:46 [x.py:1] Loading weights took 3.10 seconds\n"
    )
    found = diagnose(log, 1)
    assert found is not None
    assert found.diagnostic.code == "out-of-memory"


def test_a_failure_of_an_earlier_start_is_no_failure_of_one_that_serves() -> None:
    start = "(APIServer pid=1) INFO 10-22 09:32:12 [api_server.py:1839] vLLM API server version 0.11.0\n"
    failed = f"{start}OSError: [Errno 98] Address already in use\n"
    assert diagnose(failed) is not None
    assert diagnose(f"{failed}{start}INFO:     Application startup complete.\n") is None


def test_a_restart_that_has_not_failed_yet_leaves_the_failure_before_it() -> None:
    start = "(APIServer pid=1) INFO 10-22 09:32:12 [api_server.py:1839] vLLM API server version 0.11.0\n"
    found = diagnose(f"{start}OSError: [Errno 98] Address already in use\n{start}")
    assert found is not None
    assert found.diagnostic.code == "port-taken"


def test_an_engine_that_ends_silently_is_distinguished_from_a_log_that_is_cut() -> None:
    wrapper = "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.\n"
    worker = "(EngineCore pid=410) INFO 09-14 08:11:40 [kv_cache.py:9] GPU KV cache size: 443,242 tokens\n"
    silent, cut = diagnose(worker + wrapper, 1), diagnose(wrapper, 1)
    assert silent is not None
    assert cut is not None
    assert (silent.diagnostic.code, cut.diagnostic.code) == ("engine-ended-silently", "engine-failed")
    assert "kernel log" in silent.diagnostic.hint
    assert "missing here" in cut.diagnostic.hint


KERNEL = "[51234.118822] Out of memory: Killed process 4242 (VLLM::EngineCor) total-vm:1kB"
LOST = (
    "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined.\n"
)


def test_the_kernel_explains_an_engine_that_was_killed() -> None:
    found = READER.diagnose_all(Sources("", 137, KERNEL))
    assert found is not None
    assert (found.diagnostic.code, found.diagnostic.location) == ("killed-for-memory", "kernel log")
    assert "VLLM::EngineCor" in found.diagnostic.message


def test_the_kernel_does_not_beat_the_engine_s_own_root_cause() -> None:
    found = READER.diagnose_all(Sources("OSError: [Errno 98] Address already in use\n", 1, KERNEL))
    assert found is not None
    assert (found.diagnostic.code, found.diagnostic.location) == ("port-taken", "engine log")


def test_a_kernel_s_complaint_is_no_failure_of_an_engine_without_one() -> None:
    text, _ = log_and_exit("good_start")
    assert diagnose(text, None) is None


def test_a_consequence_gives_way_to_the_root_cause_on_another_rank() -> None:
    other = FATAL.format(
        "RuntimeError: Failed to find C compiler. Please specify via CC environment variable"
    )
    found = READER.diagnose_all(Sources(LOST, 1, rank_logs={"spark-02": other}))
    assert found is not None
    assert (found.diagnostic.code, found.diagnostic.location) == ("no-compiler", "spark-02")


def test_a_consequence_alone_names_the_other_place() -> None:
    found = diagnose(LOST, 1)
    assert found is not None
    assert found.diagnostic.code == "rank-missing"
    assert "1/2" in found.diagnostic.message
    assert "log of the rank that did not come" in found.diagnostic.hint


def test_the_remedy_removes_only_a_flag_that_is_set() -> None:
    line = "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=576)"
    without = READER.diagnose_all(Sources(line, 1, argv=["--port", "8000"]))
    by_argv = READER.diagnose_all(Sources(line, 1, argv=["--attention-backend=FLASHINFER"]))
    by_log = diagnose(
        f"INFO 11-20 10:00:00 [x.py:1] non-default args: {{'port': 1, 'attention_backend': 'X'}}\n{line}", 1
    )
    assert without is not None
    assert by_argv is not None
    assert by_log is not None
    assert "remove" not in without.diagnostic.hint
    assert "remove attention-backend" in by_argv.diagnostic.hint
    assert "remove attention-backend" in by_log.diagnostic.hint


def test_ranks_that_wait_for_each_other_are_named_only_while_nothing_goes_on() -> None:
    waits = (
        "(EngineCore pid=7) INFO 10-22 09:43:49 [shm_broadcast.py:466] "
        "No available shared memory broadcast block found in 60 seconds.\n"
    )
    loads = "(Worker pid=9) INFO 10-22 09:43:52 [x.py:1] Loading weights took 61.2 seconds\n"
    ready = "INFO:     Application startup complete.\n"
    found = diagnose(waits)
    assert found is not None
    assert found.diagnostic.code == "ranks-wait"
    assert diagnose(waits + loads) is None
    assert diagnose(ready + waits) is None


@pytest.mark.parametrize("code", [125, 126, 127, 135, 143])
def test_docker_s_exit_codes_are_explained(code: int) -> None:
    found = diagnose("", code)
    assert found is not None
    assert found.diagnostic.code in {entry["id"] for entry in failure_patterns.read("vllm")["endings"]}
    assert found.diagnostic.hint


def test_a_value_that_the_log_does_not_have_leaves_no_gap_in_the_sentence() -> None:
    found = diagnose("ValueError: Following weights were not initialized from checkpoint: {'x'}", 1)
    assert found is not None
    assert found.diagnostic.message == "checkpoint and model code do not fit together"
