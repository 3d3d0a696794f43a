"""The Engine API client against a server on a unix socket, in the words of a real dockerd."""

from __future__ import annotations

import json
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.machine.container import Container
from sparkfleet.onhost.machine.docker import DockerEngine
from sparkfleet.onhost.machine.system import DockerError, DockerGoneError

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
        self.asked: list[str] = []
        self.table: dict[str, tuple[int, bytes]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                outer.asked.append(f"{self.command} {self.path} {body}".strip())
                status, data = outer.table.get(
                    self.path.partition("?")[0], (404, b'{"message":"No such container: x"}')
                )
                self.send_response(status)
                self.send_header("Api-Version", "1.44")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

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
    assert container == Container(
        id="c" * 64, name="nano", running=True, pid=4711, started_at="2026-11-21T09:43:10.1Z",
        labels=INSPECT["Config"]["Labels"], env=("HF_HOME=/models",),  # type: ignore[index]
        command=("vllm", "serve", "org/model", "--port", "8000"), restart_policy="unless-stopped",
        ports=(8001,),
    )  # fmt: skip
    assert (container.service, container.generation) == ("nano", "872520d1c28d")


def test_the_newest_version_that_both_sides_know_is_spoken(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/nano/json", INSPECT)
    docker.inspect("nano")
    assert dockerd.asked == ["GET /_ping", "GET /v1.44/containers/nano/json"]


def test_no_container_is_none_and_no_error(docker: DockerEngine) -> None:
    assert docker.inspect("x") is None
    docker.remove("x")
    docker.kill("x")
    docker.stop("x", 1)


def test_killing_a_container_that_does_not_run_is_fine(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/x/kill", {"message": "Container x is not running"}, 409)
    docker.kill("x")


def test_starting_a_running_container_is_fine(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/x/start", b"", 304)
    docker.start("x")


def test_dockerds_refusal_is_told_in_its_own_words(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/x/start", {"message": "could not select device driver"}, 500)
    with pytest.raises(DockerError, match="could not select device driver") as error:
        docker.start("x")
    assert error.value.status == 500


def test_no_socket_means_that_dockerd_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DockerGoneError, match="does not answer"):
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
    assert "since=12.500000" in dockerd.asked[-1]


def test_a_restart_policy_is_set_to_no(dockerd: Dockerd, docker: DockerEngine) -> None:
    dockerd.says("/containers/nano/update", {})
    docker.never_restart("nano")
    assert dockerd.asked[-1] == 'POST /v1.44/containers/nano/update {"RestartPolicy": {"Name": "no"}}'


def test_an_api_key_is_found_in_environment_or_words() -> None:
    def key(**config: Any) -> str:
        return Container.parse({"Id": "x", "Config": config}).api_key

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
    wanted = f"docker.io/vllm/vllm-openai:v1@{DIGEST}"
    dockerd.says("/images/json", [{"RepoDigests": None}, {"RepoDigests": ["a@sha256:" + "0" * 64, CARRIED]}])
    dockerd.says(f"/images/{CARRIED}/json", {"Size": 7})
    assert docker.name_of(wanted) == CARRIED
    assert docker.has_image(wanted)
    assert docker.image_size(wanted) == 7
    assert docker.name_of(wanted.replace("d" * 64, "e" * 64)) == ""
    assert docker.image_size("docker.io/vllm/vllm-openai:v1") == 0  # a tag alone is no digest


def test_its_own_name_comes_first(dockerd: Dockerd, docker: DockerEngine) -> None:
    own = f"docker.io/vllm/vllm-openai@{DIGEST}"
    dockerd.says(f"/images/{own}/json", {"Size": 7})
    dockerd.says("/images/json", [{"RepoDigests": [CARRIED]}])
    assert docker.name_of(f"docker.io/vllm/vllm-openai:v1@{DIGEST}") == own
    assert not any(line.endswith("/images/json") for line in dockerd.asked)


def test_a_container_is_created_of_the_name_that_its_image_has_here(
    dockerd: Dockerd, docker: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dockerd.says("/images/json", [{"RepoDigests": [CARRIED]}])
    ran: list[tuple[str, ...]] = []

    def run(words: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        return subprocess.CompletedProcess(words, 0, "c" * 64, "")

    monkeypatch.setattr("sparkfleet.onhost.machine.docker.subprocess.run", run)
    image = f"docker.io/vllm/vllm-openai:v1@{DIGEST}"
    docker.create("nano", ["--env", f"IMAGE={image}", "--label", "a=b", image, "org/model"])
    assert ran[0][-5:] == (f"IMAGE={image}", "--label", "a=b", CARRIED, "org/model")
    other = image.replace("d" * 64, "e" * 64)
    docker.create("nano", [other])
    assert ran[1][-1] == other  # docker itself says that it is not here
    dockerd.says(f"/images/docker.io/vllm/vllm-openai@{DIGEST}/json", {"Size": 7})
    docker.create("nano", [image])
    assert ran[2][-1] == image  # people see the tag
