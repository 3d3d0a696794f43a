"""Running stand-ins: a hub in a thread, engines as processes with the same files as in an image."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab.standins.hub import Hub
from sparkfleet_lab.standins.hub_models import make_cache, make_models
from sparkfleet_lab.standins.package import write_engine

GOLDEN = Path(__file__).parents[2] / "golden" / "real_vllm_0.32_cpu"
READY = "Application startup complete"


@dataclass
class Engine:
    """One running (or ended) engine."""

    process: subprocess.Popen[bytes]
    log_file: Path
    port: int

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def until(self, text: str) -> Engine:
        """Wait for a text in the log; an engine that ends without it fails the test with its log."""
        for _ in range(2000):
            if text in self.log:
                return self
            if self.process.poll() is not None and text not in self.log:
                break
            time.sleep(0.01)
        raise AssertionError(f"no {text!r} in the engine's log:\n{self.log}")

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(20)

    def ask(self, path: str, body: Any = None, token: str = "", timeout: float = 10) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def chat(self, question: str, model: str = "tiny", **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        status, text = self.ask("/v1/chat/completions", {"model": model, "messages": messages, **more})
        assert status == 200, text
        response: dict[str, Any] = json.loads(text)
        return response

    def counter(self, name: str) -> float:
        """Return a metric's value, summed over its labels."""
        lines = self.ask("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"vllm:{name}[{{ ]", line))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The Python package that an image of one release gets."""
    made: dict[str, Path] = {}

    def package(version: str) -> Path:
        if version not in made:
            made[version] = tmp_path_factory.mktemp(f"engine-{version}-")
            write_engine(made[version], version, version)
        return made[version]

    return package


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache with every synthetic model at its newest commit."""
    home = tmp_path_factory.mktemp("hf-home")
    make_cache(home)
    return home


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model directory: the figures of the one that the recorded real engine served."""
    model = tmp_path / "tiny"
    model.mkdir()
    config = {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 2048,
    }  # fmt: skip
    (model / "config.json").write_text(json.dumps(config))
    write_safetensors(model / "model.safetensors", 1000)
    return model


def write_safetensors(path: Path, size: int) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * size)


Start = Callable[..., Engine]


@pytest.fixture
def engine(
    packages: Callable[[str], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Engine]]:
    """Start engines: ``engine(*args of vllm serve, release=, env=...)``."""
    running: list[Engine] = []

    def start(*args: str, release: str = "0.24.0", port: int = 0, **env: str) -> Engine:
        port = port or free_port()
        log = tmp_path / f"engine-{len(running)}.log"
        setting = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(packages(release)), "HF_HUB_OFFLINE": "1",
            "LAB_ENGINE_SLOW": "0.01", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path), **env,
        }  # fmt: skip
        program = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *args, "--port", str(port)]
        with log.open("wb") as out:
            process = subprocess.Popen(program, stdout=out, stderr=subprocess.STDOUT, env=setting)
        running.append(Engine(process, log, port))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGKILL)
        one.process.wait()


@pytest.fixture(scope="session")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a hub: nothing but the hub reads them."""
    root = tmp_path_factory.mktemp("hub")
    make_models(root)
    return root


@pytest.fixture
def hub(hub_root: Path) -> Iterator[Hub]:
    """A hub of the synthetic models."""
    server = Hub(("127.0.0.1", 0), hub_root)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
