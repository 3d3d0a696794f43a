"""``sparkfleet diagnose``: any log, without a fleet."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparkfleet.cli.diagnose import _diagnose, diagnose
from sparkfleet.onhost.gate.diagnosis import Sources

FIXTURES = Path(__file__).parents[2] / "fixtures" / "diagnosis"
LINE = "ValueError: num_speculative_tokens:4 must be divisible by n_predict=3"


def run(*args: Any, stdin: str = "") -> Result:
    return CliRunner().invoke(diagnose, [*map(str, args)], input=io.BytesIO(stdin.encode()))


def test_cause_line_and_remedy_are_printed(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text(f"(EngineCore pid=7) ERROR 01-28 06:36:45 [core.py:946] {LINE}\n")
    result = run(log, "--exit-code", "1")
    assert result.exit_code == 0
    first, second, third = result.output.splitlines()
    assert first.startswith("speculative-tokens: num_speculative_tokens 4 must be a multiple of 3")
    assert second == f"    engine log: {LINE}"
    assert third.startswith("    do: set num_speculative_tokens")


def test_json_has_the_documented_keys() -> None:
    result = run("-", "--json", stdin=LINE)
    found = json.loads(result.output)
    assert set(found) == {"id", "cause", "remedy", "line", "source"}
    assert (found["id"], found["line"]) == ("speculative-tokens", LINE)


def test_a_log_without_a_failure_gets_no_cause() -> None:
    text = "INFO:     Application startup complete.\n"
    assert json.loads(run("-", "--json", stdin=text).output)["id"] is None
    assert "stdin: no known failure found" in run("-", stdin=text).output


INDENTED = "        {}".format
JSON_FILE = {"stream": "stderr", "time": "2026-09-14T08:11:40Z"}
CARRIERS = {
    "indented in a report": INDENTED,
    "docker's json-file": lambda line: json.dumps({"log": f"{line}\n", **JSON_FILE}),
    "journalctl -o json": lambda line: json.dumps({"MESSAGE": line, "_PID": "7"}),
}


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_a_log_is_read_in_what_carries_it(carrier: Callable[[str], str]) -> None:
    survived = f"(EngineCore pid=7) WARNING 01-28 06:36:45 [core.py:946] {LINE}"
    assert json.loads(run("-", "--json", stdin=carrier(survived)).output)["id"] is None
    lines = (survived, "(EngineCore pid=7) Traceback (most recent call last):", f"(EngineCore pid=7) {LINE}")
    found = json.loads(run("-", "--json", stdin="\n".join(map(carrier, lines))).output)
    assert (found["id"], found["line"]) == ("speculative-tokens", LINE)


@pytest.mark.parametrize("line", ['{"log": 1}', '{"a": ', "{}", '{"MESSAGE": null}'])
def test_other_json_in_a_log_is_a_line_like_any_other(line: str) -> None:
    found = json.loads(run("-", "--json", stdin=f"{line}\n{LINE}\n").output)
    assert (found["id"], found["line"]) == ("speculative-tokens", LINE)


def test_the_banner_of_an_image_for_a_newer_driver_is_read_over_its_two_lines() -> None:
    text = (
        "ERROR: This container was built for NVIDIA Driver Release 590.48 or later, but\n"
        "       version 580.159.03 was detected and compatibility mode is UNAVAILABLE.\n"
    )
    assert json.loads(run("-", "--json", stdin=text).output)["id"] == "driver-too-old"
    works = (
        "NOTE: CUDA Forward Compatibility mode ENABLED.\n"
        "  Using CUDA 13.4 driver version 615.65 with kernel driver version 580.178.04.\n"
    )
    assert json.loads(run("-", "--json", stdin=works).output)["id"] is None


def test_the_kernel_s_log_is_read(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.log"
    kernel.write_text("[51234.118822] Out of memory: Killed process 4242 (VLLM::EngineCor) total-vm:1kB\n")
    result = run("-", "--exit-code", "137", "--kernel-log", kernel)
    assert result.output.startswith("killed-for-memory:")
    assert "    kernel log: Out of memory" in result.output


def test_the_log_of_another_rank_is_read(tmp_path: Path) -> None:
    other = tmp_path / "spark-02.log"
    other.write_text(LINE)
    result = run(
        "-", "--rank-log", other, stdin="NCCL error: remote process exited or there was a network error"
    )
    assert f"    spark-02.log: {LINE}" in result.output


def test_an_evidence_directory_is_read_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "engine.log").write_text("ValueError: No valid attention backend found for cuda\n")
    state = {"State": {"ExitCode": 1}, "Config": {"Cmd": ["--attention-backend", "FLASHINFER"]}}
    (tmp_path / "inspect.json").write_text(json.dumps(state))
    assert "do: remove attention-backend" in run(tmp_path).output
    state = {"State": {"ExitCode": 128, "Error": "failed to inject CDI devices: unresolvable CDI devices"}}
    (tmp_path / "engine.log").write_text("")
    (tmp_path / "inspect.json").write_text(json.dumps(state))
    assert run(tmp_path).output.startswith("nvidia-runtime:")
    (tmp_path / "inspect.json").write_text("{broken")
    (tmp_path / "kernel.log").write_text(
        "NVRM: Xid (PCI:000f:01:00): 79, pid=1, GPU has fallen off the bus.\n"
    )
    result = run(tmp_path)
    assert result.stdout.startswith("gpu-lost:")
    assert f"{tmp_path / 'inspect.json'}: is not JSON" in result.stderr
    (tmp_path / "inspect.json").write_text('{"State": {"ExitCode": "1"}}')
    assert "inspect.json: State.ExitCode: found a string '1'" in run(tmp_path).stderr


def test_a_directory_without_evidence_is_an_error_that_names_the_expected_files(tmp_path: Path) -> None:
    (tmp_path / "vllm.log").write_text(LINE)
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "is not an evidence directory" in result.output
    assert "engine.log" in result.output


def test_an_nccl_error_after_a_failed_connection_names_the_other_rank() -> None:
    error = "DistBackendError: NCCL error in: x.cpp:94, unhandled system error"
    warn = "spark-02:3:3 [0] NCCL WARN socketStartConnect: Connect to 10.0.0.2<4> failed : No route"
    assert run("-", stdin=error).output.startswith("nccl-system-error: NCCL failed at a system call\n")
    assert run("-", stdin=f"{warn}\n{error}").output.startswith("rank-unreachable: ")


@pytest.mark.parametrize("args", [(), ("--engine", "llamacpp")])
def test_the_engine_is_found_by_its_lines_or_named(args: tuple[str, ...]) -> None:
    text = (
        "0.00.003.241 I srv  llama_server: initializing ...\n"
        "0.00.008.803 E srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18082\n"
    )
    assert "port 18082 is in use" in run("-", *args, stdin=text).output


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    result = run("-", "--engine", "vlm")
    assert result.exit_code == 2
    assert "no engine 'vlm'" in result.output
    assert "llamacpp" in result.output


def test_bytes_that_are_no_text_are_read(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"\xff\xfe\x00" + LINE.encode() + b"\r\n")
    assert "speculative-tokens" in run(log).output


ERROR = "frob.FrobError: the frob is off"
TRACEBACK = f"""\
Traceback (most recent call last):
  File "/opt/frob/main.py", line 3, in <module>
    frob()
    ^^^^^^
{ERROR}
"""


@pytest.mark.parametrize(
    "text",
    [
        "INFO 11-20 19:35:15 [model.py:733] Resolved architecture: MistralForCausalLM\n" + TRACEBACK,
        "".join(
            f"(EngineCore pid=7) ERROR 01-28 06:36:45 [core.py:946] {line}\n"
            for line in TRACEBACK.splitlines()
        ),
        TRACEBACK.replace("/opt/frob", "/opt/vllm"),
        "INFO:     started\n"
        + TRACEBACK
        + "\n[W1120 19:35:15.1 ProcessGroupNCCL.cpp:1496] Warning: not destroyed\n\n",
    ],
)
def test_a_log_that_ends_in_a_traceback_has_an_unknown_error(text: str) -> None:
    found = json.loads(run("-", "--json", stdin=text).output)
    assert (found["id"], found["line"]) == ("unknown", ERROR)


def test_any_traceback_is_a_failure_of_an_engine_that_is_named() -> None:
    assert run("-", "--engine", "vllm", stdin=TRACEBACK).output.startswith("unknown: ")


@pytest.mark.parametrize(
    "text",
    [
        TRACEBACK,
        "INFO 11-20 19:35:15 [model.py:733] " + TRACEBACK + "INFO:     Application startup complete.\n",
        f"INFO:     started\n{ERROR}\n",
        "INFO:     started\n" + TRACEBACK.replace(ERROR, "asyncio.exceptions.CancelledError"),
    ],
    ids=["other software", "the engine goes on", "no traceback", "Ctrl-C"],
)
def test_other_errors_at_the_end_are_no_failure(text: str) -> None:
    assert json.loads(run("-", "--json", stdin=text).output)["id"] is None


def test_logs_without_a_failure_get_no_cause_by_their_last_lines() -> None:
    pieces = re.split(r"^### .*\n", (FIXTURES / "no_failure.txt").read_text(), flags=re.MULTILINE)[1:]
    assert len(pieces) >= 200
    assert [piece for piece in pieces if _diagnose(Sources(piece), None)] == []
