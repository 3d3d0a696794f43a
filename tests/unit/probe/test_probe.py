"""The probe of a Spark: one command, one answer, and a reason for each broken part."""

from __future__ import annotations

import ast
import errno
import hashlib
import http.server
import io
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.probe import ProbeRequest, ProbeResponse
from sparkfleet.onhost import collectors
from sparkfleet.onhost.artifacts.fetch import hash_record
from sparkfleet.onhost.collectors import basics, main, paths, ports, state, weights
from sparkfleet.onhost.collectors.paths import collect_path
from sparkfleet.probe import frame
from sparkfleet.probe.command import (
    LOADER,
    has_no_python,
    minified,
    more_parts,
    packed_program,
    probe_command,
)
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.preflight import read_preflight
from sparkfleet.probe.response import DISKS, read_response
from sparkfleet.runtimes import errors
from sparkfleet.runtimes.docker.collectors import probe as docker_look
from sparkfleet.runtimes.docker.onhost import api
from sparkfleet.runtimes.docker.operator import Docker
from tests.unit.frames import text_of
from tests.unit.probe.requests import request_of

ME = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


NONCE = frame.new_nonce()


def run_command(request: ProbeRequest, **env: str) -> str:
    argv = ["/bin/sh", "-c", probe_command(request, NONCE)]
    response = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, **env})
    return response.stdout


def test_the_command_answers_for_this_very_machine() -> None:
    response = text_of(run_command(request_of(paths=("/etc/passwd", "~/no such, 'file'"))), NONCE)
    assert response is not None
    data = json.loads(response)
    assert data["user"]["name"] == ME
    assert data["paths"]["/etc/passwd"]["kind"] == "file"
    assert data["paths"]["~/no such, 'file'"]["kind"] == "absent"
    assert data["memory"]["total_mib"] > 0


def test_a_spark_without_python3_says_so(tmp_path: Path) -> None:
    output = run_command(request_of(), PATH=str(tmp_path))
    assert has_no_python(output.splitlines())
    assert text_of(output, NONCE) is None


def program(text: str) -> str:
    """Return what a text does, without docstrings and imports for annotations; columns do not count."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            node.body = [one for one in node.body if not for_people(one)]
    return re.sub(r"(end_)?col_offset=\d+", "", ast.dump(tree, include_attributes=True))


def for_people(node: ast.stmt) -> bool:
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        return node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id == "TYPE_CHECKING"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize(
    "path",
    [
        *sorted(Path(collectors.__file__).parent.glob("*.py")),
        *sorted(Path(docker_look.__file__).parent.glob("*.py")),
        Path(api.__file__),
        Path(errors.__file__),
    ],
    ids=lambda path: path.stem,
)
def test_what_is_sent_is_the_program_without_what_only_people_need(path: Path) -> None:
    text = path.read_text()
    sent = minified(text)
    assert program(sent) == program(text)
    assert sent.count("\n") == text.count("\n")
    assert '"""' not in sent
    assert "TYPE_CHECKING" not in sent


class FakeDocker(http.server.BaseHTTPRequestHandler):
    contents: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        body = json.dumps(self.contents.get(self.path, {"message": "no such thing"})).encode()
        self.send_response(200 if self.path in self.contents else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def inspect(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "Id": name * 3, "Name": f"/{name}", "Image": "sha256:1",
        "State": {"Status": "running", "StartedAt": "t"},
        "Config": {"Image": "x", "Cmd": ["serve"], "Env": ["SECRET=canary"], "Labels": labels},
        "HostConfig": {"NetworkMode": "host", "Memory": 0},
    }  # fmt: skip


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(docker_look, "SOCKET", str(path))
    FakeDocker.contents = {
        "/containers/json?all=1": [
            {
                "Id": "ours",
                "Names": ["/nano"],
                "Labels": {docker_look.LABEL_SERVICE: "nano"},
                "State": "exited",
            },
            {"Id": "webui", "Names": ["/webui"], "Labels": None, "State": "running"},
            {"Id": "old", "Names": ["/old"], "Labels": {}, "State": "exited"},
        ],
        "/containers/ours/json": inspect("ours", {docker_look.LABEL_SERVICE: "nano"}),
        "/containers/webui/json": inspect("webui", {}),
        "/images/repo@sha256:2/json": {"Id": "sha256:2", "Config": {"Entrypoint": ["vllm", "serve"]}},
        "/images/sha256:1/json": {"Id": "sha256:1", "Config": {}},
        "/info": {"DockerRootDir": "/data/docker"},
    }
    with UnixServer(str(path), FakeDocker) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield FakeDocker.contents
        server.shutdown()


def test_our_containers_are_seen_whole_and_foreign_ones_only_by_who_they_are(docker: dict[str, Any]) -> None:
    seen = docker_look.collect({"images": ["repo@sha256:2", "repo@sha256:9"]})
    ours, foreign = seen["containers"]
    assert ours["config"]["Env"] == ["SECRET=canary"]
    assert "Env" not in foreign["config"]
    assert seen["images"]["repo@sha256:9"] is None
    assert seen["images"]["repo@sha256:2"]["entrypoint"] == ["vllm", "serve"]
    assert "sha256:1" in seen["images"]


@pytest.mark.parametrize("name", ["nano", "nano.next", "other.old"])
def test_a_foreign_container_is_seen_while_it_is_stopped_if_a_rollout_could_need_its_name(
    docker: dict[str, Any], name: str
) -> None:
    docker["/containers/json?all=1"] = [{"Id": "x", "Names": [f"/{name}"], "Labels": {}, "State": "created"}]
    docker["/containers/x/json"] = inspect(name, {})
    (seen,) = docker_look.collect({"services": ["nano"]})["containers"]
    assert (seen["name"], "Env" in seen["config"]) == (name, False)


def test_an_image_is_seen_by_its_digest_under_whatever_name_it_came(docker: dict[str, Any]) -> None:
    digest = "sha256:" + "d" * 64
    docker["/images/json"] = [
        {"Id": "sha256:1", "RepoDigests": None},
        {"Id": "sha256:7", "RepoDigests": [f"127.0.0.1:7355/sparkfleet/repo@{digest}"]},
    ]
    docker["/images/sha256:7/json"] = {"Id": "sha256:7", "Config": {}}
    images = docker_look.collect({"images": [f"repo@{digest}", "repo@sha256:" + "e" * 64]})["images"]
    assert images[f"repo@{digest}"]["id"] == "sha256:7"
    assert images["repo@sha256:" + "e" * 64] is None


def test_an_image_without_settings_is_seen_as_docker_29_reports_it(docker: dict[str, Any]) -> None:
    docker["/images/repo@sha256:2/json"] = {"Id": "sha256:2", "RootFS": {"Layers": ["sha256:a", "sha256:b"]}}
    seen = docker_look.collect({"images": ["repo@sha256:2"]})["images"]["repo@sha256:2"]
    assert (seen["entrypoint"], seen["labels"], seen["user"], seen["top_layer"]) == ([], {}, "", "sha256:b")


def test_the_image_of_a_container_is_read_once_if_it_has_a_declared_name_too(docker: dict[str, Any]) -> None:
    docker["/containers/json?all=1"] = [
        {"Id": "x", "Names": ["/nano"], "Labels": {docker_look.LABEL_SERVICE: "nano"}}
    ]
    docker["/containers/x/json"] = {
        **inspect("nano", {docker_look.LABEL_SERVICE: "nano"}),
        "Image": "sha256:7",
    }
    docker["/images/repo@sha256:2/json"] = {"Id": "sha256:7", "Config": {}}
    images = docker_look.collect({"images": ["repo@sha256:2"]})["images"]
    assert images["sha256:7"]["id"] == images["repo@sha256:2"]["id"] == "sha256:7"
    # There is no response to a second request, by the id: FakeDocker would have replied 404.


def test_the_image_store_is_asked_for_only_where_an_image_is_missing(docker: dict[str, Any]) -> None:
    assert docker_look.collect({"images": ["repo@sha256:9"]})["data"] == "/data/docker"
    docker["/info"] = None
    assert "data" not in docker_look.collect({"images": ["repo@sha256:2"]})


def test_a_daemon_that_answers_with_an_error_is_an_error_and_no_empty_list(docker: dict[str, Any]) -> None:
    docker["/containers/json?all=1"] = None
    with pytest.raises(TypeError):
        docker_look.collect({})


def test_no_docker_and_a_daemon_that_is_down_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_look, "SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(basics, "which", lambda _: False)
    assert main.part(docker_look.collect, {})["state"] == "missing"
    monkeypatch.setattr(basics, "which", lambda _: True)
    assert main.part(docker_look.collect, {})["state"] == "down"
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(stale))
    monkeypatch.setattr(docker_look, "SOCKET", str(stale))
    assert main.part(docker_look.collect, {})["state"] == "down"


def test_a_daemon_that_hangs_or_hangs_up_is_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_look, "SOCKET", str(tmp_path / "docker.sock"))
    monkeypatch.setattr(docker_look, "TIMEOUT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(docker_look.SOCKET)
        silent.listen()
        assert main.part(docker_look.collect, {})["state"] == "hangs"
    (tmp_path / "docker.sock").unlink()
    with UnixServer(docker_look.SOCKET, socketserver.BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        assert main.part(docker_look.collect, {})["state"] == "down"
        server.shutdown()


def test_permission_denied_is_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(socket.socket):
        def connect(self, _: object) -> None:
            raise PermissionError

    monkeypatch.setattr(socket, "socket", Denied)
    assert main.part(docker_look.collect, {})["state"] == "denied"


def test_weights_are_seen_with_size_blob_and_broken_links(tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--a--b"
    snapshot = repo / "snapshots" / "c1"
    (repo / "blobs").mkdir(parents=True)
    (snapshot / "sub").mkdir(parents=True)
    (repo / "blobs" / "b1").write_bytes(b"12345")
    (snapshot / "sub" / "w").symlink_to("../../../blobs/b1")
    (snapshot / "gone").symlink_to("../../blobs/none")
    (snapshot / "plain").write_bytes(b"1")
    found = weights.collect_weights(str(tmp_path), [["a/b", "c1"], ["a/b", "c2"]])["models"]
    assert found["a/b@c1"] == {
        "sub/w": {"size": 5, "blob": "b1"},
        "gone": {"size": -1, "blob": "none"},
        "plain": {"size": 1, "blob": ""},
    }
    assert found["a/b@c2"] == {}


def test_a_hash_is_reported_only_for_a_file_in_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basics, "STATE_DIR", str(tmp_path))
    repo = tmp_path / "hub" / "models--a--b"
    for name in ("same", "touched"):
        (repo / "blobs").mkdir(parents=True, exist_ok=True)
        (repo / "snapshots" / "c1").mkdir(parents=True, exist_ok=True)
        (repo / "blobs" / name).write_text("x")
        (repo / "snapshots" / "c1" / name).symlink_to(f"../../blobs/{name}")
        assert hash_record.check(
            tmp_path, [hash_record.FileToVerify(repo / "blobs" / name, name)], lambda _: None
        )
    os.utime(repo / "blobs" / "touched", ns=(1, 1))
    found = weights.collect_weights(str(tmp_path), [["a/b", "c1"]])["models"]["a/b@c1"]
    assert found["same"] == {"size": 1, "blob": "same", "hashed": "same", "ok": False}
    assert found["touched"] == {"size": 1, "blob": "touched"}
    for broken in ("{", '{"files": []}', "[]", "null", '{"files": {"/x": 1}}'):
        (tmp_path / "verified.json").write_text(broken)
        files, error = weights.hashed()
        assert files == {}
        assert "error" in error


def test_state_has_the_text_of_each_file_and_a_rollout_without_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basics, "STATE_DIR", str(tmp_path))
    assert state.collect_state() == {"files": {}, "rollout": "", "recorded": None}
    for name, content in (("nano", '{"id": "1"}'), ("broken", "{")):
        (tmp_path / "services" / name).mkdir(parents=True)
        (tmp_path / "services" / name / "current.json").write_text(content)
    (tmp_path / "rates.json").mkdir()
    for name, files in (("s1", ("request.json", "result.json")), ("s2", ("request.json",))):
        (tmp_path / "rollouts" / name).mkdir(parents=True)
        for file in files:
            (tmp_path / "rollouts" / name / file).write_text("{}")
    seen = state.collect_state()
    assert seen["files"]["services/nano/current.json"] == '{"id": "1"}'
    assert seen["files"]["services/broken/current.json"] == "{"
    assert "Is a directory" in seen["files"]["rates.json"]["error"]
    assert seen["rollout"] == "s2"
    monkeypatch.setattr(state, "RUN_DIR", str(tmp_path / "run"))
    (tmp_path / "run" / "rollouts" / "s2").mkdir(parents=True)
    (tmp_path / "run" / "rollouts" / "s2" / "result.json").write_text("{}")  # the disk could not be written
    assert state.collect_state()["rollout"] == ""


def state_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(basics, "STATE_DIR", str(folder))
    return main.part(state.collect_state)


SHAPES = ["[]", "[1]", "{", "", "null", "7", '"x"', '{"version": "x"}', "[" * 100_000]
FILES = ["services/nano/current.json", "rates.json", "staged.json", "prepared.json"]


@pytest.mark.parametrize("text", SHAPES, ids=[text[:20] for text in SHAPES])
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_shape_is_named_and_everything_else_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    seen = read_response("spark-01", response(state=state_of(tmp_path, monkeypatch)))
    assert isinstance(seen, Observed)
    (found,) = seen.unreadable.values()
    assert found.location == "spark-01"
    assert found.message.startswith(f"/var/lib/sparkfleet/{file}: ")
    assert found.hint.startswith("restore it, or ")


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_a_newer_version_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text('{"version": 99}')
    seen = read_response("spark-01", response(state=state_of(tmp_path, monkeypatch)))
    assert isinstance(seen, Observed)
    (found,) = seen.unreadable.values()
    assert found.code == codec.NEWER
    assert "of version 99, written by a newer sparkfleet" in found.message
    assert "update sparkfleet" in found.hint


def test_a_process_that_ends_while_it_is_read_has_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(io.StringIO):
        def read(self, *_: Any) -> str:
            raise ProcessLookupError(errno.ESRCH, "No such process")

    monkeypatch.setattr("builtins.open", lambda *_, **__: Ended())
    assert ports.process(7) == {"pid": 7, "command": "", "cgroup": ""}


def test_a_listening_port_is_seen_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = ports.listeners()[str(server.getsockname()[1])]
    assert seen["pid"] == os.getpid()


def test_of_the_requested_ports_only_those_with_a_listener_are_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = server.getsockname()[1], 1
        seen = ports.listeners([port, free])
        assert str(other.getsockname()[1]) not in seen
    assert list(seen) == [str(port)]
    assert seen[str(port)]["pid"] == os.getpid()


def test_likely_processes_are_looked_at_before_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    listdir = os.listdir

    def listing(path: str) -> list[str]:
        read.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", listing)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.listeners([port], [os.getpid()])[str(port)]["pid"] == os.getpid()
    assert read == [f"/proc/{os.getpid()}/fd"]


def row(number: int, port: int, state: str, inode: int) -> str:
    zeros = "00000000:00000000 00:00000000 00000000     0        0"
    text = f"{number:4}: 0100007F:{port:04X} 00000000:0000 {state} {zeros} {inode} 1 0000000000000000 100 0"
    return f"{text:149}\n"


def test_of_several_listeners_on_a_port_the_likely_process_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        inode = os.fstat(server.fileno()).st_ino
        table = tmp_path / "tcp"
        table.write_text(row(0, 0, "", 0) + row(0, 80, "0A", 1) + row(1, 80, "0A", inode))
        monkeypatch.setattr(ports, "TABLES", (str(table),))
        assert ports.listeners([80], [os.getpid()])["80"]["pid"] == os.getpid()


@pytest.mark.parametrize("requested", [(), (1, 2), (1,)])
def test_the_kernel_s_table_is_read_as_far_as_there_are_listeners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requested: tuple[int, ...]
) -> None:
    many = "".join(row(n, 1, "01", 7000 + n) for n in range(2, 1000))
    table = tmp_path / "tcp"
    table.write_text("  sl  local_address".ljust(149) + "\n" + row(0, 1, "0A", 5) + row(1, 2, "0A", 6) + many)
    monkeypatch.setattr(ports, "TABLES", (str(table), str(tmp_path / "none")))
    taken = 0
    read = os.read

    def reading(file: int, count: int) -> bytes:
        nonlocal taken
        chunk = read(file, count)
        taken += len(chunk)
        return chunk

    monkeypatch.setattr(os, "read", reading)
    assert set(ports.listeners(requested)) == {str(port) for port in requested or (1, 2)}
    assert taken <= 4 * ports.LINE


def test_an_answer_that_is_cut_off_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b'HTTP/1.0 200 OK\r\nContent-Length: 30\r\n\r\n{"Version": "28"')

    monkeypatch.setattr(docker_look, "SOCKET", str(tmp_path / "docker.sock"))
    with UnixServer(docker_look.SOCKET, Cut) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        seen = main.part(docker_look.collect, {})
        server.shutdown()
    assert seen["state"] == "down"
    assert seen["error"].endswith("the daemon hung up in the middle of a response")


DECLARED = (("package", "bash", ""), ("sysctl", "vm.swappiness", ""), ("linux_swap", "", ""))


@pytest.mark.parametrize("resources", [None, DECLARED], ids=["a host", "the Spark itself, too"])
def test_the_packed_probe_runs_alone_and_answers_what_was_requested(
    resources: tuple[tuple[str, str, str], ...] | None,
) -> None:
    request = request_of(resources=resources)
    argv = [sys.executable, "-I", "-S", "-B", "-c", LOADER, codec.dumps(request)]
    packed = packed_program(more_parts(request), request.kinds)
    output = subprocess.run(argv, input=packed, capture_output=True, text=True, check=True).stdout
    seen = (json.loads(output)["resources"] or {}).get("live", {})
    assert len(seen) == len(resources or ())
    assert not any("error" in one for one in seen.values())


def response(**changes: Any) -> str:
    data: dict[str, Any] = {
        "host": {"arch": "aarch64"},
        "sudo": {"state": "ok"},
        "user": {"name": "n", "home": "/home/n", "uid": 1, "gid": 1, "group": "n", "groups": ["n"]},
        "memory": {"total_mib": 1, "available_mib": 1, "swap_total_mib": 0},
        "disks": {name: {"path": "/", "total": 1, "free": 1, "read_only": False} for name in DISKS},
        "runtimes": {
            "docker": changes.pop("docker", {"state": "ok", "containers": [], "images": {"r@d": None}})
        },
        "systemd": {"state": "ok", "units": {}},
        "state": {"files": {}, "rollout": ""},
        "paths": {
            "/x": {"kind": "link", "mode": "0777", "user": "root", "group": "root", "size": 1, "target": "/y"}
        },
        "weights": {"models": {"a/b@c": {"f": {"size": 1, "blob": "b"}}}},
        "listeners": {"22": {"pid": 1, "command": "sshd"}},
        "toolkit": {"programs": ["nvidia-ctk"], "cdi": []},
    }
    return json.dumps({**data, **changes})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_an_answer_of_any_shape_is_observed_or_a_diagnostic_of_that_host(data: st.DataObject) -> None:
    whole = json.loads(response(stored={}, fabric={}, packages={}, resources={}))
    folder = whole
    while True:
        key = data.draw(st.sampled_from(sorted(folder)))
        if not isinstance(folder[key], dict) or not folder[key] or data.draw(st.booleans()):
            break
        folder = folder[key]
    folder[key] = data.draw(anything)
    found = read_response("spark-01", json.dumps(whole))
    assert isinstance(found, Observed) or found.location == "spark-01"


NO_RUNTIME = json.dumps({**json.loads(response()), "runtimes": {}})
NEW_RUNTIME = json.dumps({**json.loads(response()), "runtimes": {"new": {"state": "ok"}}})


@pytest.mark.parametrize("text", ["[]", "7", "{}", "[" * 100_000, NO_RUNTIME, NEW_RUNTIME])
def test_an_answer_that_is_no_answer_is_a_diagnostic(text: str) -> None:
    found = read_response("spark-01", text)
    assert isinstance(found, Diagnostic)
    assert found.message.startswith("the probe's response ")


@pytest.mark.parametrize("reader", [read_response, read_preflight])
def test_an_answer_of_another_version_makes_that_host_unknown_with_a_remedy(
    reader: Callable[[str, str], Any],
) -> None:
    found = reader("spark-01", response(version=ProbeResponse.VERSION + 1))
    assert isinstance(found, Diagnostic)
    assert (found.location, found.code) == ("spark-01", codec.NEWER)
    assert "response of the probe of version 2" in found.message
    assert "reinstall sparkfleet" in found.hint


def test_the_collectors_answer_in_the_version_and_with_the_parts_of_the_document() -> None:
    request = request_of(stored=True, resources=(), fabric=("192.0.2.1/24",)).to_json()
    found = main.collect(json.loads(json.dumps(request)), "root")
    assert found["version"] == ProbeResponse.VERSION
    assert set(found) - {"version"} <= {one.name for one in fields(ProbeResponse)}
    assert ProbeResponse.from_json(json.loads(json.dumps(found))).stored


def test_a_whole_answer_becomes_observed() -> None:
    seen = read_response("spark-01", response())
    assert isinstance(seen, Observed)
    assert seen.user.expand("~/vllm") == "/home/n/vllm"
    assert seen.images == {"r@d": None}
    assert seen.weights["a/b@c"]["f"] == (1, "b")


def container(bindings: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "name": "other",
        "image_id": "sha256:1",
        "state": "running",
        "started_at": "",
        "config": {"Image": "web", "Labels": {}},
        "host": {"NetworkMode": "default", "PortBindings": bindings},
    }


@pytest.mark.parametrize(
    ("host_port", "ports"),
    [("8100-8102", {8100, 8101, 8102}), ("8000", {8000}), ("", set()), (None, set())],
)
def test_a_container_holds_each_port_that_it_publishes(host_port: str | None, ports: set[int]) -> None:
    bindings = {"80/tcp": [{"HostIp": "", "HostPort": host_port}], "81/tcp": None}
    docker = {"state": "ok", "containers": [container(bindings)], "images": {}}
    seen = read_response("spark-01", response(docker=docker))
    assert isinstance(seen, Observed)
    assert seen.instances[0].ports == ports


@pytest.mark.parametrize(
    "bindings",
    [[1], {"80/tcp": "x"}, {"80/tcp": [1]}, {"80/tcp": [{"HostPort": 8000}]}]
    + [{"80/tcp": [{"HostPort": port}]} for port in ("http", "8000-", "1-9999999", "٣")],
)
def test_ports_of_another_shape_make_that_host_unknown_and_are_named(bindings: Any) -> None:
    docker = {"state": "ok", "containers": [container(bindings)], "images": {}}
    diagnostic = read_response("spark-01", response(docker=docker))
    assert isinstance(diagnostic, Diagnostic)
    assert diagnostic.location == "spark-01"
    assert "PortBindings" in diagnostic.message
    assert diagnostic.expected


def test_an_unexpected_error_while_a_runtime_is_read_is_a_diagnostic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_self: object, _part: object) -> None:
        raise AttributeError("'int' object has no attribute 'get'")

    monkeypatch.setattr(Docker, "read_response", fail)
    diagnostic = read_response("spark-01", response())
    assert isinstance(diagnostic, Diagnostic)
    assert "docker: AttributeError: 'int' object" in diagnostic.message


BROKEN = {
    "not JSON": ("{", "cannot be read"),
    "sudo refused": (
        response(sudo={"state": "refused", "error": "a password is required"}),
        "sudo refused: a password",
    ),
    "docker missing": (
        response(docker={"state": "missing", "error": "Docker is not installed"}),
        "Docker missing",
    ),
    "daemon down": (response(docker={"state": "down", "error": "no socket"}), "Docker down"),
    "permission denied": (response(docker={"state": "denied", "error": "denied"}), "Docker denied"),
    "daemon hangs": (response(docker={"state": "hangs", "error": "no answer"}), "Docker hangs"),
    "docker failed otherwise": (response(docker={"error": "KeyError: 'x'"}), "Docker error"),
    "no systemd": (response(systemd={"state": "missing"}), "systemd missing"),
    "memory unreadable": (response(memory={"error": "OSError"}), "memory could not be read"),
    "weights unreadable": (response(weights={"error": "PermissionError"}), "weights could not be read"),
    "a path unreadable": (response(paths={"/x": {"error": "PermissionError"}}), "/x could not be read"),
}


@pytest.mark.provokes("host-state-unreadable")
@pytest.mark.parametrize("text, found", BROKEN.values(), ids=BROKEN)
def test_what_could_not_be_read_is_a_diagnostic_of_its_own_and_never_absence(text: str, found: str) -> None:
    diagnostic = read_response("spark-01", text)
    assert isinstance(diagnostic, Diagnostic)
    assert found in diagnostic.message
    assert diagnostic.hint or diagnostic.expected


def test_a_link_to_nothing_is_distinguished_from_one_that_leads_somewhere(tmp_path: Path) -> None:
    for name, target in (("there", "."), ("nowhere", "/mnt/nothing")):
        (tmp_path / name).symlink_to(target)
    seen = {name: collect_path(str(tmp_path / name)) for name in ("there", "nowhere")}
    assert [seen[name]["kind"] for name in seen] == ["link", "broken link"]
    assert seen["nowhere"]["target"] == "/mnt/nothing"


def test_the_content_of_files_is_hashed_by_one_command_or_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("plain", "with blank", "back\\slash", "-dash")
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "directory").mkdir()
    expanded = {name: str(tmp_path / name) for name in (*names, "directory", "absent")}
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}

    def digests() -> dict[str, str]:
        return {name: one["sha256"] for name, one in main.collect_paths(expanded).items() if "sha256" in one}

    assert digests() == expected
    monkeypatch.setattr(basics, "sha256_of", lambda path: pytest.fail(f"{path} was read a second time"))
    assert digests() == expected
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert digests() == expected


def test_a_file_that_cannot_be_hashed_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str) -> str:
        raise PermissionError(path)

    (tmp_path / "a").write_text("")
    monkeypatch.setattr(paths, "hashes", lambda _: {})
    monkeypatch.setattr(basics, "sha256_of", refused)
    assert "PermissionError" in main.collect_paths({"a": str(tmp_path / "a")})["a"]["error"]
