"""Images of a dockerd: derived from a base and with its settings, or not at all; commands and pulls."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.registry_credentials import Credential
from sparkfleet.runtimes.base import (
    BindMount,
    DerivedImage,
    DeriveError,
    Image,
    ImageCommand,
    RuntimeRefusedError,
)
from sparkfleet.runtimes.docker.onhost import images as docker_images
from sparkfleet.runtimes.docker.onhost.api import data_of
from sparkfleet.runtimes.docker.onhost.engine import content_of
from sparkfleet.runtimes.docker.onhost.images import DockerImages

BASE, DERIVED = "nvcr.io/nvidia/vllm@sha256:1", "localhost/sparkfleet/derived:0123"
CONFIG = {"Entrypoint": None, "Env": ["PATH=/bin"], "User": "", "WorkingDir": "/workspace", "Cmd": ["x"]}
ORDER = DerivedImage(
    DERIVED, BASE, ("python3", "-c", "install"), ("extra-tool==1.2",), Path("/builds/0123"),
    {"derived": "0123"}, "build-0123", 3600,
)  # fmt: skip


class Dockerd(DockerImages):
    """A dockerd with one image, by its API."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.images: dict[str, dict[str, Any]] = {BASE: {"Id": "sha256:base", "Config": dict(CONFIG)}}
        self.containers: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.auth = ""
        self.exit_code = 0
        self.changes_entrypoint = False
        self.fails = ""

    def name_of(self, reference: str) -> str:
        return reference if reference in self.images else ""

    def _image(self, name: str) -> dict[str, Any] | None:
        return self.images.get(name)

    def _create_from(self, name: str, settings: Mapping[str, Any]) -> None:
        self.containers[name] = dict(settings)

    def start(self, name: str) -> None:
        assert name in self.containers

    def _wait(self, name: str, timeout_s: float) -> int:
        assert timeout_s == ORDER.timeout_s
        return self.exit_code

    def log(self, name: str, tail: int, since: float = 0.0) -> str:
        return "ERROR: no matching distribution"

    def _commit(self, name: str, settings: Mapping[str, Any]) -> str:
        if self.fails:
            raise RuntimeRefusedError(self.fails)
        container = self.containers[name]
        self.created = container
        config = {**settings, "Labels": container["Labels"]}
        if self.changes_entrypoint:
            config["Entrypoint"] = ["python3"]
        self.images["sha256:new"] = {"Id": "sha256:new", "Size": 9, "Config": config}
        return "sha256:new"

    def _ask(
        self, method: str, path: str, data: Any = None, *, timeout: float = 0.0, missing_ok: bool = False
    ) -> tuple[dict[str, str], bytes]:
        assert (method, path) == (
            "POST",
            "/images/sha256:new/tag?repo=localhost%2Fsparkfleet%2Fderived&tag=0123",
        )
        self.images[DERIVED] = self.images["sha256:new"]
        return {}, b""

    def remove(self, name: str) -> None:
        self.containers.pop(name, None)

    def remove_image(self, reference: str) -> None:
        del self.images[reference]

    def pull_events(self, reference: str, auth: str) -> Iterator[dict[str, Any]]:
        self.auth = auth
        yield from self.events


@pytest.fixture
def dockerd() -> Dockerd:
    return Dockerd()


def test_a_derived_image_has_the_settings_of_its_base_and_its_own_labels(dockerd: Dockerd) -> None:
    dockerd.derive(ORDER)
    config = dockerd.images[DERIVED]["Config"]
    assert {key: config[key] or None for key in CONFIG} == {**CONFIG, "User": None}
    content = content_of(dockerd.images[DERIVED])
    assert dockerd.find_image(DERIVED) == Image("sha256:new", 9, {"derived": "0123"}, content)
    assert dockerd.containers == {}


def test_its_program_runs_as_root_without_network_on_files_that_it_cannot_change(dockerd: Dockerd) -> None:
    dockerd.images[BASE]["Config"]["User"] = "vllm"
    dockerd.derive(ORDER)
    host = dockerd.created["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["Mounts"] == [{"Type": "bind", "Source": "/builds/0123", "Target": "/mnt", "ReadOnly": True}]
    assert (dockerd.created["Entrypoint"], dockerd.created["Cmd"]) == (
        ["python3", "-c", "install"], ["extra-tool==1.2"],
    )  # fmt: skip
    assert dockerd.created["User"] == "0:0"
    assert dockerd.images[DERIVED]["Config"]["User"] == "vllm"


def test_a_program_that_fails_leaves_its_output_and_nothing_else(dockerd: Dockerd) -> None:
    dockerd.exit_code = 1
    with pytest.raises(DeriveError, match="no matching distribution"):
        dockerd.derive(ORDER)
    assert (set(dockerd.images), dockerd.containers) == ({BASE}, {})


def test_an_image_that_would_start_otherwise_than_its_base_gets_no_name(dockerd: Dockerd) -> None:
    dockerd.changes_entrypoint = True
    with pytest.raises(RuntimeRefusedError, match="does not have the Entrypoint of its base"):
        dockerd.derive(ORDER)
    assert set(dockerd.images) == {BASE}


def test_the_container_is_removed_when_the_commit_fails(dockerd: Dockerd) -> None:
    dockerd.fails = "no space left on device"
    with pytest.raises(RuntimeRefusedError, match="no space left"):
        dockerd.derive(ORDER)
    assert dockerd.containers == {}


def test_a_pull_reports_the_sum_of_all_layers_and_returns_their_bytes(dockerd: Dockerd) -> None:
    def downloading(layer: str, current: int, total: int) -> dict[str, Any]:
        detail = {"current": current, "total": total}
        return {"status": "Downloading", "id": layer, "progressDetail": detail}

    dockerd.events = [
        downloading("a", 1, 10),
        downloading("b", 2, 20),
        {"status": "Pull complete", "id": "a"},
    ]
    seen: list[tuple[int, int]] = []
    assert dockerd.pull(BASE, None, lambda have, total: seen.append((have, total))) == 30
    assert seen == [(1, 10), (3, 30)]
    assert dockerd.auth == ""


def test_an_error_within_a_pull_is_raised(dockerd: Dockerd) -> None:
    dockerd.events = [{"status": "Pulling"}, {"error": "manifest unknown"}]
    with pytest.raises(RuntimeRefusedError, match="manifest unknown"):
        dockerd.pull(BASE, None, lambda *_: None)


@pytest.mark.parametrize(
    ("credential", "fields"),
    [
        (Credential("$oauthtoken", "key", "nvcr.io"), {"username": "$oauthtoken", "password": "key"}),
        (Credential("<token>", "opaque", "nvcr.io"), {"identitytoken": "opaque"}),
    ],
)
def test_a_credential_becomes_the_registry_header(
    dockerd: Dockerd, credential: Credential, fields: dict[str, str]
) -> None:
    dockerd.pull(BASE, credential, lambda *_: None)
    header = json.loads(base64.urlsafe_b64decode(dockerd.auth))
    assert header == {**fields, "serveraddress": "nvcr.io"}


REMEDIES = {
    "unauthorized: authentication required": "docker login nvcr.io",
    "manifest unknown": "lock --update",
    "no space left on device": "docker image prune",
    "toomanyrequests: You have reached your unauthenticated pull rate limit": "raises the limit",
    "received unexpected HTTP status: 429 Too Many Requests": "wait some minutes",
    "tls: failed to verify certificate: x509: certificate has expired or is not yet valid": "timedatectl",
    "invalid character '<' at the beginning of a value": "curl -v https://nvcr.io/v2/",
    "connection reset": "complete layers are kept",
}


@pytest.mark.parametrize(("error", "remedy"), REMEDIES.items(), ids=REMEDIES)
def test_each_failed_pull_has_its_next_command(dockerd: Dockerd, error: str, remedy: str) -> None:
    assert remedy in dockerd.pull_remedy(error, "nvcr.io")


COMMAND = ImageCommand(
    "fetch-1", "fetch", BASE, ("hf", "download", "org/name"), 1000, 1001,
    (BindMount("/home/me/vllm", "/models"), BindMount("/run/token", "/run/secrets/token", read_only=True)),
    (("HF_HOME", "/models"),),
)  # fmt: skip


def test_a_command_runs_once_as_a_user_in_the_sparks_network() -> None:
    argv = docker_images.run_argv(COMMAND, "local-name")
    text = " ".join(argv)
    assert argv[:5] == ("docker", "run", "--rm", "--name", "fetch-1")
    assert "--label fetch=fetch-1 --network host --user 1000:1001" in text
    assert "type=bind,source=/home/me/vllm,target=/models --mount" in text
    assert "type=bind,source=/run/token,target=/run/secrets/token,readonly" in text
    assert "--env HF_HOME=/models" in text
    assert text.endswith("--entrypoint hf local-name download org/name")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker command on PATH that prints its arguments to both streams and ends with the code in a file."""
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\necho "$@"\necho "unexpected EOF" >&2\nexit $(cat {tmp_path}/code)\n')
    program.chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "code"


def test_an_image_is_exported_by_its_name_on_this_host(dockerd: Dockerd, command: Path) -> None:
    with dockerd.export(BASE) as archive:
        assert archive.read() == f"save {BASE}\n".encode()
    command.write_text("1")
    with pytest.raises(RuntimeRefusedError, match="unexpected EOF"), dockerd.export(BASE) as archive:
        archive.read()


def test_an_archive_that_docker_does_not_load_is_an_error(dockerd: Dockerd, command: Path) -> None:
    dockerd.load(Path("/images/c.tar"))
    command.write_text("1")
    with pytest.raises(RuntimeRefusedError, match="unexpected EOF"):
        dockerd.load(Path("/images/c.tar"))


def test_the_output_of_a_command_has_both_streams(dockerd: Dockerd, command: Path) -> None:
    assert command.exists()
    process = dockerd.start_command(replace(COMMAND, mounts=(), environment=()))
    output, _ = process.communicate()
    assert "run --rm" in output
    assert "unexpected EOF" in output


def test_the_content_of_an_image_is_the_same_in_both_image_stores_and_the_id_plays_no_part() -> None:
    layers = {"Type": "layers", "Layers": ["sha256:a", "sha256:b"]}
    classic = {"Id": "sha256:config", "RootFS": layers, "Config": {**CONFIG, "Hostname": "", "Labels": None}}
    settings = {key: value for key, value in CONFIG.items() if value}  # Docker 29 omits what is empty
    containerd = {"Id": "sha256:index", "RootFS": layers, "Config": settings, "Descriptor": {}}
    assert content_of(classic) == content_of(containerd)


@pytest.mark.parametrize(
    "other",
    [
        {"RootFS": {"Layers": ["sha256:a", "sha256:c"]}},
        {"Config": {**CONFIG, "Cmd": ["y"]}},
        {"Config": {**CONFIG, "Labels": {"build": "2"}}},
    ],
    ids=["a layer", "a setting", "a label"],
)
def test_the_content_of_an_image_changes_with_its_layers_and_settings(other: dict[str, Any]) -> None:
    image = {"RootFS": {"Layers": ["sha256:a", "sha256:b"]}, "Config": CONFIG}
    assert content_of(image) != content_of({**image, **other})


@pytest.mark.parametrize(
    ("info", "directory"),
    [
        (
            {"DockerRootDir": "/data/docker", "DriverStatus": [["Backing Filesystem", "extfs"]]},
            "/data/docker",
        ),
        ({"DockerRootDir": "/data/docker", "DriverStatus": None}, "/data/docker"),
        (
            {
                "DockerRootDir": "/var/lib/docker",
                "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
            },
            "/var/lib/containerd",
        ),
        ({}, "/var/lib/docker"),
    ],
)
def test_the_disk_of_the_images_is_that_of_their_store(info: dict[str, Any], directory: str) -> None:
    assert data_of(info) == directory
