"""The stand-in of llama-server, checked against what the real one printed and answered (tests/golden)."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.engines.llamacpp.onhost import ENGINE
from sparkfleet_lab.standins import tiny_gguf
from sparkfleet_lab.standins.package import write_llama_server
from tests.unit.standins.conftest import Engine, free_port

GOLDEN = Path(__file__).parents[2] / "golden" / "real_llamacpp_0.5.0"
QUESTION = "What is 12*17? Answer with the number only."
CHAT = {
    "model": "tiny",
    "temperature": 0,
    "max_tokens": 512,
    "messages": [{"role": "user", "content": QUESTION}],
}


Start = Callable[..., Engine]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("llama-server")
    write_llama_server(made, "0.5.0")
    return made


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Models and files that are none, named as in the recorded logs."""
    folder = tmp_path / "models"
    folder.mkdir()
    whole = tiny_gguf.file("Q4_K_M")
    (folder / "tiny-Q4_K_M.gguf").write_bytes(whole)
    (folder / "bad.gguf").write_text("not a model at all\n")
    first, _ = tiny_gguf.parts("F32", 2)
    (folder / "tiny-F32-00001-of-00002.gguf").write_bytes(first)
    return tmp_path


@pytest.fixture
def start(package: Path, models: Path) -> Iterator[Start]:
    running: list[Engine] = []

    def begin(*args: str, port: int = 0, **env: str) -> Engine:
        port = port or free_port()
        log = models / f"server-{len(running)}.log"
        variables = {"PATH": os.environ["PATH"], "LAB_ENGINE_SLOW": "0.05", "PYTHONPATH": str(package), **env}
        argv = [sys.executable, "-m", "sparkfleet_lab.standins.llama_server", *args]
        if "--port" not in args:
            argv += ["--port", str(port)]
        with log.open("wb") as file:
            process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, env=variables, cwd=models)
        running.append(Engine(process, log, port))
        return running[-1]

    yield begin
    for server in running:
        server.process.kill()
        server.process.wait()


def serve(start: Start, *args: str, **env: str) -> Engine:
    server = start("-m", "models/tiny-Q4_K_M.gguf", "--alias", "tiny", "--metrics", *args, **env)
    return server.until("listening on")


def shape(log: str) -> list[str]:
    """Return a log's lines without times and numbers; the warning about CORS is one of them."""
    lines = [re.sub(r"^\d+\.\d\d\.\d{3}\.\d{3} ", "", line) for line in log.splitlines()]
    return [re.sub(r"\d+", "N", line) for line in lines if line.strip()]


@pytest.mark.parametrize(
    "name, args",
    [
        ("unknown_flag", ["--ctx-sizes", "4096"]),
        ("missing_file", ["-m", "models/none.gguf"]),
        ("bad_magic", ["-m", "models/bad.gguf"]),
        ("missing_part", ["-m", "models/tiny-F32-00001-of-00002.gguf"]),
        ("missing_draft", ["-m", "models/tiny-Q4_K_M.gguf", "-md", "models/none.gguf"]),
    ],
)
def test_what_cannot_start_ends_with_1_and_the_real_last_lines(
    start: Start, name: str, args: list[str]
) -> None:
    server = start(*args)
    assert server.process.wait(20) == 1
    recorded = shape((GOLDEN / f"{name}.log").read_text())
    assert set(shape(server.log)) <= set(recorded)
    assert shape(server.log)[-1] == recorded[-1]


@pytest.mark.parametrize(
    "name, args",
    [
        ("bad_value", ["--flash-attn", "maybe"]),
        ("bad_number", ["--ctx-size", "big"]),
        ("removed_flag", ["--draft-max", "3"]),
        ("no_value", ["--port"]),
        ("bad_cache_type", ["-ctk", "q3_0"]),
    ],
)
def test_a_value_that_is_refused_is_named_as_by_the_real_program(
    start: Start, name: str, args: list[str]
) -> None:
    server = start("-m", "models/tiny-Q4_K_M.gguf", "--port", "1", *args)
    assert server.process.wait(20) == 1
    assert server.log.splitlines()[0] == (GOLDEN / f"{name}.log").read_text().splitlines()[0]


def test_a_start_logs_what_the_real_one_logs(start: Start) -> None:
    server = serve(start, "--ctx-size", "1024", "--parallel", "2")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert shape(server.log) == shape((GOLDEN / "good_start.log").read_text())


def test_a_taken_port_ends_the_start(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = start("-m", "models/tiny-Q4_K_M.gguf", port=taken.getsockname()[1])
        assert server.process.wait(20) == 1
    assert shape(server.log) == shape((GOLDEN / "port_taken.log").read_text())


def test_models_and_answers_have_the_real_form(start: Start) -> None:
    server = serve(start)
    for path, body, recorded in (
        ("/v1/models", None, "v1_models.json"),
        ("/v1/chat/completions", CHAT, "chat.json"),
    ):
        status, text = server.ask(path, body)
        real = json.loads((GOLDEN / recorded).read_text())
        real.pop("timings", None)
        assert status == 200
        assert skeleton(json.loads(text)) == skeleton(real)


def skeleton(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: skeleton(value) for key, value in data.items()}
    return [skeleton(item) for item in data] if isinstance(data, list) else type(data).__name__


def test_metrics_have_the_real_names_and_the_token_counter_moves(start: Start) -> None:
    server = serve(start)
    assert server.ask("/v1/chat/completions", CHAT)[0] == 200
    _, text = server.ask("/metrics")
    recorded = (GOLDEN / "metrics.txt").read_text().splitlines()
    assert [line for line in text.splitlines() if line[0] == "#"] == [x for x in recorded if x[0] == "#"]
    (counter,) = ENGINE.metrics.tokens
    assert float(re.search(rf"^{counter} (\S+)", text, re.MULTILINE)[1]) > 0  # type: ignore[index]


def test_without_its_flag_there_are_no_metrics(start: Start) -> None:
    server = start("-m", "models/tiny-Q4_K_M.gguf").until("listening on")
    assert server.ask("/metrics")[0] == 501


def test_it_says_503_until_the_model_is_loaded(start: Start) -> None:
    server = start("-m", "models/tiny-Q4_K_M.gguf", LAB_ENGINE_SLOW="5").until("loading model")
    for path in ("/health", "/v1/models"):
        status, text = server.ask(path)
        assert (status, json.loads(text)["error"]["message"]) == (503, "Loading model")


def test_a_key_is_required_for_all_but_health(start: Start) -> None:
    server = serve(start, "--api-key", "one,two")
    assert server.ask("/health")[0] == 200
    assert server.ask("/v1/models")[0] == 401
    assert server.ask("/v1/models", token="two")[0] == 200


@pytest.mark.parametrize(
    "mode, code",
    [("crash-at-start:3", 3), ("crash-after-load:4", 4), ("cuda-oom", 1), ("crash-later:0:5", 5)],
)
def test_modes_end_it_as_they_say(start: Start, mode: str, code: int) -> None:
    assert start("-m", "models/tiny-Q4_K_M.gguf", LAB_ENGINE=mode).process.wait(20) == code


def test_a_wrong_name_is_served_under_another_one(start: Start) -> None:
    _, text = serve(start, LAB_ENGINE="wrong-name").ask("/v1/models")
    assert json.loads(text)["data"][0]["id"] == "some-other-model"
