"""The Engine API client against a server on a unix socket, with the responses of a real dockerd."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.contract import command
from sparkfleet.contract.command import CommandResult
from sparkfleet.contract.generation import LABEL_GENERATION, Generation
from sparkfleet.runtimes.base import (
    BindMount,
    Instance,
    Limits,
    Role,
    RuntimeRefusedError,
    RuntimeUnavailableError,
)
from sparkfleet.runtimes.docker.onhost.container import parse, restart_policy
from sparkfleet.runtimes.docker.onhost.driver import DockerRuntime
from sparkfleet.runtimes.docker.onhost.engine import LOG_LIMIT, DockerEngine
from sparkfleet.runtimes.docker.onhost.images import DockerImages
from sparkfleet.runtimes.docker.onhost.workload import workload_of

INSPECT = {
    "Id": "c" * 64,
    "Name": "/nano",
    "State": {
        "Running": True,
        "Pid": 4711,
        "ExitCode": 0,
        "OOMKilled": False,
        "StartedAt": "2026-11-21T09:43:10.1Z",
    },
    "Config": {
        "Labels": {"io.sparkfleet.service": "nano", "io.sparkfleet.generation": "872520d1c28d"},
        "Env": ["HF_HOME=/models"],
        "Entrypoint": ["vllm", "serve"],
        "Cmd": ["org/model", "--port", "8000"],
        "Tty": False,
    },
    "HostConfig": {"RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}},
    "NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8001"}], "9/tcp": None}},
}


def frame(kind: int, text: str) -> bytes:
    data = text.encode()
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class Dockerd:
    """A dockerd that answers from a table and remembers what was asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[str] = []
        self.table: dict[str, tuple[int, bytes]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def response(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                outer.requests.append(f"{self.command} {self.path} {body}".strip())
                status, data = outer.table.get(
                    self.path.partition("?")[0], (404, b'{"message":"No such container: x"}')
                )
                self.send_response(status)
                self.send_header("Api-Version", "1.44")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = response  # noqa: N815

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: Any) -> None:
                pass

        self.server = socketserver.ThreadingUnixStreamServer(self.path, Handler)
        self.table["/_ping"] = (200, b"OK")

    def says(self, path: str, data: Any, status: int = 200) -> None:
        self.table[f"/v1.44{path}"] = (status, data if isinstance(data, bytes) else json.dumps(data).encode())


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[Dockerd]:
    made = Dockerd(tmp_path / "docker.sock")
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def docker(dockerd: Dockerd) -> DockerEngine:
    return DockerEngine(dockerd.path)


def test_a_container_is_read_with_what_is_decided_by(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/nano/json", INSPECT)
    container = docker.inspect("nano")
    assert container == Instance(
        id="c" * 64, name="nano", running=True, pid=4711, started_at="2026-11-21T09:43:10.1Z",
        labels=INSPECT["Config"]["Labels"], env=("HF_HOME=/models",),  # type: ignore[index]
        command=("vllm", "serve", "org/model", "--port", "8000"), service="nano",
        generation="872520d1c28d",
        ports=(8001,),
    )  # fmt: skip
    assert (container.service, container.generation) == ("nano", "872520d1c28d")


def test_the_newest_version_that_both_sides_know_is_used(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/nano/json", INSPECT)
    docker.inspect("nano")
    assert dockerd.requests == ["GET /_ping", "GET /v1.44/containers/nano/json"]


def test_no_container_is_none_and_no_error(docker: DockerEngine) -> None:
    assert docker.inspect("x") is None
    docker.remove("x")
    docker.kill("x")
    docker.stop("x", 1)


def test_killing_a_container_that_does_not_run_is_fine(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/x/kill", {"message": "Instance x is not running"}, 409)
    docker.kill("x")


def test_starting_a_running_container_is_fine(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/x/start", b"", 304)
    docker.start("x")


def test_dockerds_refusal_is_reported_with_its_own_message(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/x/start", {"message": "could not select device driver"}, 500)
    with pytest.raises(RuntimeRefusedError, match="could not select device driver") as error:
        docker.start("x")
    assert error.value.status == 500


def test_no_socket_means_that_dockerd_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="does not answer"):
        DockerEngine(str(tmp_path / "nothing")).ping()


def test_a_tag_beside_a_digest_plays_no_part(dockerd: Dockerd, docker: DockerEngine) -> None:
    digest = "sha256:" + "d" * 64
    dockerd.says(f"/images/nvcr.io/nvidia/vllm@{digest}/json", {"Id": "x"})
    assert docker.has_image(f"nvcr.io/nvidia/vllm:26.04-py3@{digest}")
    assert docker.has_image(f"nvcr.io/nvidia/vllm@{digest}")
    assert not docker.has_image("nvcr.io/nvidia/vllm:26.04-py3")


def test_a_registry_with_a_port_keeps_it(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/images/registry:5000/a@sha256:1/json", {"Id": "x"})
    assert docker.has_image("registry:5000/a:1@sha256:1")


def test_output_is_unframed_and_both_streams_are_in_order(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/nano/json", INSPECT)
    dockerd.says(f"/containers/{'c' * 64}/logs", frame(1, "one\n") + frame(2, "two\n") + frame(1, "three"))
    assert docker.log("nano", 10) == "one\ntwo\nthree"


def test_a_log_of_long_lines_is_read_from_its_end(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/nano/json", INSPECT)
    dockerd.says(f"/containers/{'c' * 64}/logs", frame(1, "x" * LOG_LIMIT) + frame(2, "\nthe cause"))
    found = docker.log("nano", 10)
    assert (len(found), found[-10:]) == (LOG_LIMIT, "\nthe cause")


def test_followed_lines_are_whole_though_frames_cut_them(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/nano/json", INSPECT)
    body = frame(1, "he") + frame(2, "err\r\n") + frame(1, "llo\nwor") + frame(1, "ld")
    dockerd.says(f"/containers/{'c' * 64}/logs", body)
    lines: list[str] = []
    ended = threading.Event()

    def take(line: str) -> None:
        lines.append(line)
        if line == "world":
            ended.set()

    docker.follow("nano", 12.5, take)
    assert ended.wait(10)
    assert lines == ["err", "hello", "world"]
    assert "since=12.500000" in dockerd.requests[-1]


def test_an_adopted_container_is_restarted_by_its_unit_alone(dockerd: Dockerd) -> None:
    dockerd.says("/containers/nano/json", INSPECT)
    dockerd.says(f"/containers/{'c' * 64}/update", {})
    runtime = DockerRuntime(dockerd.path)
    found = runtime.find("nano")
    assert found
    assert restart_policy(found) == "unless-stopped"
    runtime.adopt(found.id)
    assert not any("/update" in line for line in dockerd.requests), "it has no container of that id"
    runtime.adopt("nano")
    assert dockerd.requests[-1].endswith('/update {"RestartPolicy": {"Name": "no"}}')


def test_a_role_of_a_service_is_a_container_name(dockerd: Dockerd) -> None:
    runtime = DockerRuntime(dockerd.path)
    names = [runtime.name("nano", role) for role in Role]
    assert names == ["nano", "nano.next", "nano.old"]
    dockerd.says("/containers/nano.next/json", {**INSPECT, "Name": "/nano.next"})
    found = runtime.find("nano", Role.CANDIDATE)
    assert found
    assert found.name == "nano.next"
    assert runtime.find("nano", Role.REPLACED) is None


@pytest.mark.parametrize(
    ("state", "available"),
    [("active", True), ("inactive", False), ("deactivating", False), ("failed", False)],
)
def test_a_dockerd_that_was_stopped_on_purpose_is_not_asked(
    dockerd: Dockerd, monkeypatch: pytest.MonkeyPatch, state: str, available: bool
) -> None:
    monkeypatch.setattr(command, "run", lambda *_, **__: CommandResult(0, f"{state}\n"))
    runtime = DockerRuntime(dockerd.path)
    assert runtime.available() is available
    assert runtime.is_stopping() is not available
    assert bool(dockerd.requests) is available


@pytest.mark.parametrize("paused", [True, False])
def test_a_paused_container_is_continued_before_its_stop_because_it_would_not_see_the_signal(
    dockerd: Dockerd, paused: bool
) -> None:
    dockerd.says("/containers/nano/json", {**INSPECT, "State": {"Running": True, "Paused": paused}})
    dockerd.says("/containers/nano/unpause", "", 204)
    dockerd.says("/containers/nano/stop", "", 204)
    DockerEngine(dockerd.path).stop("nano", 60)
    posted = [request.split()[1].rpartition("/")[2] for request in dockerd.requests if "POST" in request]
    assert posted == [*["unpause"][:paused], "stop?t=60"]


def test_a_recorded_docker_create_is_read_as_a_workload() -> None:
    generation = Generation(
        "nano", "org/img@sha256:1", "org/model", "c", "nano", 8000,
        definition=(
            "--gpus", "all", "--memory", "9g", "--ulimit", "memlock=-1",
            "--device", "/dev/infiniband:/dev/ib", "--env", "A=b=c",
            "--mount", "type=bind,source=/home/me,target=/models,readonly",
            "org/img@sha256:1", "vllm", "serve", "--gpus-per-node", "1",
        ),
        unit="", engine="vllm", runtime="docker",
    )  # fmt: skip
    workload = workload_of(generation)
    assert workload.argv == ("vllm", "serve", "--gpus-per-node", "1")
    assert (workload.gpus, workload.devices) == ("all", ("/dev/infiniband",))
    assert workload.environment == (("A", "b=c"),)
    assert workload.mounts == (BindMount("/home/me", "/models", True),)
    assert workload.limits == Limits("9g", (("memlock", "-1"),))
    assert workload.definition == ("--label", f"{LABEL_GENERATION}={generation.id}", *generation.definition)
    repaired = replace(generation, served_name="small")
    assert repaired.id != generation.id
    assert workload_of(repaired).identity == workload.identity
    with pytest.raises(RuntimeRefusedError, match="nano runs in venv"):
        DockerRuntime().workload(replace(generation, runtime="venv"))


def test_an_api_key_is_found_in_environment_or_arguments() -> None:
    def key(**config: Any) -> str:
        instance = parse({"Id": "x", "Config": config})
        return engines.on_host("vllm").api_key.find(instance.env, instance.command)

    assert key(Env=["VLLM_API_KEY=one"]) == "one"
    assert key(Cmd=["serve", "--api-key", "two"]) == "two"
    assert key(Cmd=["serve", "--api-key=three"]) == "three"
    assert key(Cmd=["serve", "--api-key"]) == ""
    assert key() == ""


DIGEST = "sha256:" + "d" * 64
CARRIED = f"127.0.0.1:7355/sparkfleet/docker.io/vllm/vllm-openai@{DIGEST}"


def test_an_image_is_found_by_its_digest_under_whatever_name_it_came(
    dockerd: Dockerd, docker: DockerEngine
) -> None:
    expected = f"docker.io/vllm/vllm-openai:v1@{DIGEST}"
    dockerd.says("/images/json", [{"RepoDigests": None}, {"RepoDigests": ["a@sha256:" + "0" * 64, CARRIED]}])
    dockerd.says(f"/images/{CARRIED}/json", {"Id": "sha256:1", "Size": 7})
    assert docker.name_of(expected) == CARRIED
    assert docker.has_image(expected)
    image = DockerImages(dockerd.path).find_image(expected)
    assert image
    assert (image.id, image.size) == ("sha256:1", 7)
    assert docker.name_of(expected.replace("d" * 64, "e" * 64)) == ""
    assert docker.name_of("docker.io/vllm/vllm-openai:v1") == ""  # a tag alone is no digest


def test_its_own_name_comes_first(dockerd: Dockerd, docker: DockerEngine) -> None:
    own = f"docker.io/vllm/vllm-openai@{DIGEST}"
    dockerd.says(f"/images/{own}/json", {"Size": 7})
    dockerd.says("/images/json", [{"RepoDigests": [CARRIED]}])
    assert docker.name_of(f"docker.io/vllm/vllm-openai:v1@{DIGEST}") == own
    assert not any(line.endswith("/images/json") for line in dockerd.requests)


def test_a_container_is_created_of_the_name_that_its_image_has_here(
    dockerd: Dockerd, docker: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dockerd.says("/images/json", [{"RepoDigests": [CARRIED]}])
    ran: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...], _: float) -> CommandResult:
        ran.append(argv)
        return CommandResult(0, "c" * 64)

    monkeypatch.setattr(command, "run", run)
    image = f"docker.io/vllm/vllm-openai:v1@{DIGEST}"
    docker.create_container("nano", ["--env", f"IMAGE={image}", "--label", "a=b", image, "org/model"])
    assert ran[0][-5:] == (f"IMAGE={image}", "--label", "a=b", CARRIED, "org/model")
    other = image.replace("d" * 64, "e" * 64)
    docker.create_container("nano", [other])
    assert ran[1][-1] == other  # docker itself says that it is not here
    dockerd.says(f"/images/docker.io/vllm/vllm-openai@{DIGEST}/json", {"Size": 7})
    docker.create_container("nano", [image])
    assert ran[2][-1] == image  # people see the tag
