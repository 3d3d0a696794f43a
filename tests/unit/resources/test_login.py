"""root's login at a registry: stored where Docker reads it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparkfleet.contract import registry_credentials
from sparkfleet.resources.base import ResourceError, Target
from sparkfleet.resources.kinds import login


def check(tmp_path: Path, config: dict[str, Any], helper: str = "") -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    host: Any = SimpleNamespace(path=lambda _: str(path))
    login.KIND.check(host, Target("login", "nvcr.io", {}, helper))


def test_a_login_in_a_file_that_docker_ignores_is_refused_with_the_helper_to_declare(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="has credsStore pass, so Docker ignores logins") as raised:
        check(tmp_path, {"credsStore": "pass"})
    assert "helper: pass" in raised.value.diagnostic.hint
    check(tmp_path, {"auths": {}})


@pytest.mark.parametrize("text", ["[]", "no JSON"])
def test_a_file_that_is_not_dockers_is_refused_by_the_reader_of_pulls(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    host: Any = SimpleNamespace(path=lambda _: str(path))
    with pytest.raises(ResourceError, match=r"is not (a )?JSON") as raised:
        login.KIND.check(host, Target("login", "nvcr.io", {}))
    assert raised.value.diagnostic.code == "registry-credentials-unreadable"


@pytest.mark.parametrize("registry", ["docker.io", "nvcr.io", "127.0.0.1:5000"])
def test_the_probe_finds_a_login_under_the_name_that_pulls_use(registry: str, tmp_path: Path) -> None:
    server = registry_credentials.server_of(registry)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {server: {"auth": base64.b64encode(b"user:pass").decode()}}}))
    hashed: list[bytes] = []

    def secret(value: bytes) -> dict[str, str]:
        hashed.append(value)
        return {}

    host: Any = SimpleNamespace(read=lambda _: path.read_text(), parse_json=json.loads, secret=secret)
    login.observe(host, registry, "")
    found = registry_credentials.find(registry, [registry_credentials.ConfigFile(path)])
    assert found is not None
    assert hashed == [f"{found.user}:{found.password}".encode()]


def test_a_helper_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="docker-credential-nowhere is not on the Spark"):
        check(tmp_path, {}, "nowhere")


def test_an_error_of_the_helper_does_not_show_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-broken"
    helper.write_text("#!/bin/sh\necho canary; exit 3\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(
        ResourceError, match="docker-credential-broken store: failed with exit code 3"
    ) as raised:
        login._run_helper("broken", "store", "{}")
    assert "canary" not in str(raised.value)
