"""The real vLLM on CPU, in a container, and the stand-in with the same flags."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

import sparkfleet.engines.vllm
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import real_vllm
from sparkfleet_lab.base import make_base
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.standins import tiny_model
from sparkfleet_lab.standins.package import write_engine

ASK = Path(sparkfleet.engines.vllm.__file__).parent / "data" / "ask_parser.py"
READY = "Application startup complete"
START_SECONDS = 300
STOP_AGAIN_SECONDS = 20


class Engine(Protocol):
    """One engine, real or stand-in."""

    url: str

    def log(self) -> str: ...
    def running(self) -> bool: ...
    def ended(self) -> int: ...
    def stop(self) -> int: ...


@dataclass
class Container:
    """The real engine."""

    id: str
    url: str

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, check=True)
        return (done.stdout + done.stderr).decode()

    def running(self) -> bool:
        shown = ["docker", "inspect", self.id, "--format", "{{.State.Running}}"]
        return subprocess.run(shown, capture_output=True, check=True).stdout.strip() == b"true"

    def ended(self, within_s: int = START_SECONDS) -> int:
        done = subprocess.run(["docker", "wait", self.id], capture_output=True, check=True, timeout=within_s)
        return int(done.stdout)

    def stop(self) -> int:
        """Send SIGTERM, repeatedly: Python drops a signal's exception that is raised in a destructor or a
        callback, and there are many while the engine is imported (observed).
        """
        for _ in range(START_SECONDS // STOP_AGAIN_SECONDS):
            # Not checked: the engine may have ended already.
            subprocess.run(["docker", "kill", "-s", "TERM", self.id], capture_output=True, check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.ended(STOP_AGAIN_SECONDS)
        raise AssertionError(f"it does not stop:\n{self.log()}")


@dataclass
class Process:
    """The stand-in."""

    process: subprocess.Popen[bytes]
    file: Path
    url: str

    def log(self) -> str:
        return self.file.read_text()

    def running(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> int:
        return self.process.wait(30)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


def until(engine: Engine, text: str) -> Engine:
    """Wait for a text in the engine's log."""
    for _ in range(START_SECONDS * 2):
        if text in engine.log():
            return engine
        if not engine.running() and text not in engine.log():
            break
        time.sleep(0.5)
    raise AssertionError(f"no {text!r} in the log:\n{engine.log()}")


def ask(engine: Engine, path: str, body: Any = None) -> tuple[int, str]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(engine.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture(scope="session")
def image() -> str:
    """The image with the real engine; built when this machine does not have it."""
    docker = Docker()
    try:
        docker.require()
        return real_vllm.make_image(docker, make_base(docker, print), print)
    except SparkfleetError as error:
        pytest.fail(f"the image of the real vLLM cannot be built: {error}", pytrace=False)


def in_image(image: str, program: str, *args: str) -> Any:
    """Run a Python program inside the image without a network; return the JSON that it prints."""
    command = [
        "docker",
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "--entrypoint",
        "python3",
        image,
        "-",
        *args,
    ]
    done = subprocess.run(command, input=program.encode(), capture_output=True, check=False)
    assert done.stdout, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def schema(image: str) -> dict[str, Any]:
    """The output of the real engine's own parser and registries."""
    schema_of_image: dict[str, Any] = in_image(image, ASK.read_text(), "schema")
    return schema_of_image


@pytest.fixture(scope="session")
def package(schema: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's package, for exactly that release."""
    created = tmp_path_factory.mktemp("standin")
    write_engine(created, real_vllm.VERSION, schema)
    return created


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the model ``tiny``."""
    created = tmp_path_factory.mktemp("models")
    (created / "tiny").mkdir()
    for name, data in tiny_model.files().items():
        (created / "tiny" / name).write_bytes(data)
    created.chmod(0o755)
    return created


@pytest.fixture(scope="session")
def start_real(image: str, models: Path) -> Iterator[Callable[..., Container]]:
    """Start the real engine with the arguments after ``vllm serve``; MODELS is the models' directory."""
    created: list[str] = []

    def start(*args: str) -> Container:
        command = ["docker", "create", "--shm-size", "1g", "-p", "127.0.0.1::8000", "-e", "HF_HUB_OFFLINE=1"]
        command += [
            "-v",
            f"{models}:/models:ro",
            image,
            *(arg.replace("MODELS", "/models") for arg in args),
        ]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        created.append(done.stdout.strip())
        subprocess.run(["docker", "start", created[-1]], capture_output=True, check=True)
        shown = subprocess.run(
            ["docker", "port", created[-1], "8000"], capture_output=True, text=True, check=False
        )
        return Container(created[-1], f"http://{shown.stdout.strip()}")

    yield start
    if created:
        subprocess.run(["docker", "rm", "-f", "-v", *created], capture_output=True, check=True)


@pytest.fixture(scope="session")
def start_standin(
    package: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Process]]:
    """Start the stand-in with the same arguments."""
    created: list[Process] = []

    def start(*args: str, **more: str) -> Process:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        file = tmp_path_factory.mktemp("log") / "log"
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
        command += [arg.replace("MODELS", str(models)) for arg in args] + ["--port", str(port)]
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(package),
            "HF_HUB_OFFLINE": "1",
            "LAB_ENGINE_SLOW": "0.01",
        }
        with file.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env | more)
        created.append(Process(process, file, f"http://127.0.0.1:{port}"))
        return created[-1]

    yield start
    for one in created:
        one.process.kill()
        one.process.wait()


def error_line(log: str) -> str:
    """Return the line that names the error, without parts that differ from machine to machine."""
    lines = [line for line in log.splitlines() if re.search(r"Error|error:", line)]
    return re.sub(r"0x[0-9a-f]+", "0x", lines[-1])
