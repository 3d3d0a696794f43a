import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.gate import diagnosis

READER = diagnosis.reader("vllm")
diagnose, last_meaningful_lines = READER.diagnose, READER.last_meaningful_lines
phase_of, warnings = READER.phase_of, READER.warnings

LOGS = Path(__file__).parents[3] / "golden" / "real_vllm_0.32_cpu"
"""What vLLM 0.32.0 really logged; the last line of a failed start is its exit code."""
FAILURES = diagnosis.patterns("vllm")["failures"]
HARMLESS = diagnosis.patterns("vllm")["harmless"]


def log_and_exit(name: str) -> tuple[str, int | None]:
    text = (LOGS / f"{name}.log").read_text()
    match = re.search(r"^exit (\d+)\s*\Z", text, re.MULTILINE)
    return (text[: match.start()], int(match[1])) if match else (text, None)


@pytest.mark.parametrize("entry", FAILURES, ids=lambda entry: entry["id"])
def test_every_failure_is_recognised_by_the_engines_own_wording(entry: dict[str, Any]) -> None:
    found = diagnose(f"INFO 11-20 10:00:00 [x.py:1] loads\n{entry['sample']}\n", entry.get("exit", 1))
    assert found is not None
    assert found.id == entry["id"]
    assert "{" not in found.cause
    assert found.remedy
    assert found.line


@pytest.mark.parametrize("entry", FAILURES, ids=lambda entry: entry["id"])
def test_every_failure_says_where_its_wording_comes_from(entry: dict[str, Any]) -> None:
    assert entry["source"]
    assert entry["cause"]


def test_failure_ids_are_unique() -> None:
    ids = [entry["id"] for entry in FAILURES]
    assert len(ids) == len(set(ids))


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
    assert found.id == expected


def test_a_good_start_and_stop_has_nothing_to_diagnose() -> None:
    text, _ = log_and_exit("good_start")
    assert diagnose(text, 0) is None


def test_the_cause_names_what_the_engine_named() -> None:
    found = diagnose(*log_and_exit("context_too_long"))
    assert found is not None
    assert "999999" in found.cause
    assert "2048" in found.cause
    assert "max-model-len to 2048" in found.remedy


def test_a_root_cause_wins_over_the_wrapper_that_follows_it() -> None:
    text = (
        "(EngineCore pid=7) ERROR 11-20 10:00:00 [core.py:1] torch.OutOfMemoryError: CUDA out of memory.\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    found = diagnose(text, 1)
    assert found is not None
    assert found.id == "out-of-memory"


def test_of_two_root_causes_the_last_one_counts() -> None:
    first, last = "OSError: [Errno 28] No space left on device", "OSError: [Errno 98] Address already in use"
    found = diagnose(f"{first}\n{last}\n", 1)
    assert found is not None
    assert found.id == "port-taken"


def test_what_is_said_below_error_level_is_no_failure() -> None:
    prefix = "(Worker pid=1) WARNING 11-20 10:00:00 [x.py:1]"
    assert diagnose(f"{prefix} CUDA error: an illegal instruction was encountered, retrying") is None


def test_a_command_line_error_needs_its_exit_code() -> None:
    line = "vllm: error: unrecognized arguments: --foo"
    assert diagnose(line, 1) is None
    assert diagnose(line, None) is not None


def test_a_refused_config_shows_what_it_refuses() -> None:
    found = diagnose(
        "pydantic: 1 validation error for SpeculativeConfig\nfoo\n  Extra inputs are not permitted"
    )
    assert found is not None
    assert found.cause == "vLLM refused the settings: foo"


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
    assert found.id == expected


@pytest.mark.parametrize("code", [None, 0, 1, 2, 3])
def test_an_unknown_failure_is_not_given_a_cause(code: int | None) -> None:
    assert diagnose("Segfault in the coffee machine\n", code) is None


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
    assert len(found.cause) < 200
    assert len(found.line) <= 400


@pytest.mark.parametrize("entry", diagnosis.patterns("vllm")["phases"], ids=lambda entry: entry["re"][:40])
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


@pytest.mark.parametrize("entry", diagnosis.patterns("vllm")["warnings"], ids=lambda entry: entry["re"][:30])
def test_warnings_that_an_operator_should_know_are_reported_once(entry: dict[str, Any]) -> None:
    assert len(warnings(f"{entry['sample']}\n{entry['sample']}\n")) == 1


def test_patterns_that_are_missing_from_an_installation_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkgutil, "get_data", lambda *_: None)
    diagnosis.patterns.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"failure_patterns\.json"):
        diagnosis.patterns("vllm")


SAMPLES = [
    entry["sample"]
    for kind in ("harmless", "warnings", "phases")
    for entry in diagnosis.patterns("vllm")[kind]
]


@pytest.mark.parametrize("exit_code", [None, 1, 2])
def test_no_line_of_a_good_start_is_taken_for_a_failure(exit_code: int | None) -> None:
    lines = [*log_and_exit("good_start")[0].splitlines(), *SAMPLES]
    assert len(lines) > 80
    assert [line for line in lines if diagnose(line, exit_code)] == []


def test_ports_that_no_cable_joins_are_named_by_their_addresses() -> None:
    (entry,) = (one for one in FAILURES if one["id"] == "rdma-no-way")
    found = diagnose(f"{entry['sample']}\nRuntimeError: NCCL error: unhandled system error\n", 1)
    assert found is not None
    assert found.cause.endswith("192.168.176.1 to 192.168.178.2")
    assert "NCCL 2.30" in found.remedy
