"""Credentials of registries: what ``docker login`` and credential helpers stored is found, nothing else."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import command, registry_credentials
from sparkfleet.contract.command import CommandResult
from sparkfleet.contract.registry_credentials import (
    HUB_SERVER,
    NOT_FOUND,
    ConfigFile,
    Credential,
    CredentialError,
    find,
)


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


Lookup = Callable[..., Credential | None]


@pytest.fixture
def lookup(tmp_path: Path) -> Lookup:
    """Find a registry's credential in a config of that content."""

    def lookup(registry: str, config: object) -> Credential | None:
        path = tmp_path / ".docker" / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        return find(registry, [ConfigFile(path)])

    return lookup


Helper = Callable[[str, str], None]


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """Create a credential helper by name and shell commands; ``$server`` is its input."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def create(name: str, commands: str) -> None:
        program = folder / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 9\nread server\n{commands}\n')
        program.chmod(0o755)

    return create


def prints(user: str, password: str = "of $server") -> str:
    return f'echo "{{\\"Username\\": \\"{user}\\", \\"Secret\\": \\"{password}\\"}}"'


MISSING = f'echo "{NOT_FOUND}"; exit 1'


def test_a_login_in_the_file_is_found_by_its_registry(lookup: Lookup) -> None:
    config = {"auths": {"nvcr.io": auth("$oauthtoken", "ke:y")}}
    found = lookup("nvcr.io", config)
    assert found == Credential("$oauthtoken", "ke:y")
    assert found.server == "nvcr.io"
    assert lookup("ghcr.io", config) is None


@pytest.mark.parametrize("key", [HUB_SERVER, "docker.io", "index.docker.io", "https://index.docker.io/v2/"])
def test_docker_hub_is_found_under_each_of_its_names(lookup: Lookup, key: str) -> None:
    assert lookup("docker.io", {"auths": {key: auth("me", "pass")}}) == Credential("me", "pass")


def test_the_usual_name_of_docker_hub_comes_first(lookup: Lookup) -> None:
    config = {"auths": {"docker.io": auth("old", "x"), HUB_SERVER: auth("me", "pass")}}
    assert lookup("docker.io", config) == Credential("me", "pass")


def test_a_registry_with_a_url_as_its_name_is_found(lookup: Lookup) -> None:
    config = {"auths": {"https://registry.example:5000/v1/": auth("me", "pass")}}
    assert lookup("registry.example:5000", config) == Credential("me", "pass")
    assert lookup("registry.example", config) is None


def test_an_identity_token_is_one_of_the_file_or_of_a_helper(lookup: Lookup, helper: Helper) -> None:
    in_file = lookup("x.io", {"auths": {"x.io": {"auth": "", "identitytoken": "t"}}})
    assert in_file is not None
    assert (in_file.is_identity_token, in_file.password) == (True, "t")
    helper("store", prints("<token>", "t"))
    stored = lookup("x.io", {"credsStore": "store", "auths": {"x.io": {}}})
    assert stored is not None
    assert (stored.is_identity_token, stored.password) == (True, "t")


def test_a_helper_gets_the_registrys_name_on_stdin(lookup: Lookup, helper: Helper) -> None:
    helper("store", prints("me"))
    assert lookup("nvcr.io", {"credsStore": "store"}) == Credential("me", "of nvcr.io")
    assert lookup("docker.io", {"credsStore": "store"}) == Credential("me", f"of {HUB_SERVER}")


def test_a_registrys_own_helper_comes_before_the_general_one_and_that_before_the_file(
    lookup: Lookup, helper: Helper
) -> None:
    helper("store", prints("general"))
    helper("own", prints("own"))
    config = {
        "credHelpers": {"nvcr.io": "own", HUB_SERVER: "own"},
        "credsStore": "store",
        "auths": {name: auth("file", "x") for name in ("nvcr.io", "ghcr.io")},
    }
    users = {name: lookup(name, config) for name in ("nvcr.io", "docker.io", "ghcr.io")}
    assert {name: found and found.user for name, found in users.items()} == {
        "nvcr.io": "own", "docker.io": "own", "ghcr.io": "general",
    }  # fmt: skip


def test_a_helper_without_the_registry_means_no_credentials(lookup: Lookup, helper: Helper) -> None:
    helper("store", MISSING)
    assert lookup("nvcr.io", {"credsStore": "store", "auths": {"nvcr.io": {}}}) is None


@pytest.mark.provokes("registry-credentials-unreadable")
def test_a_helper_that_fails_is_named_without_its_output(lookup: Lookup, helper: Helper) -> None:
    helper("store", "echo canary; echo canary >&2; exit 3")
    with pytest.raises(CredentialError) as raised:
        lookup("nvcr.io", {"credsStore": "store"})
    found = raised.value.diagnostic
    assert (found.location, found.message) == ("docker-credential-store get", "failed with exit code 3")
    assert "docker-credential-store list" in found.hint
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("commands", ["echo canary", "echo '[]'", "echo '{}'"])
def test_a_helper_without_a_credential_in_its_output_is_named(
    lookup: Lookup, helper: Helper, commands: str
) -> None:
    helper("store", commands)
    with pytest.raises(
        CredentialError, match=r"docker-credential-store get: its output for nvcr\.io"
    ) as raised:
        lookup("nvcr.io", {"credsStore": "store"})
    assert "canary" not in str(raised.value)


def test_a_helper_that_is_not_installed_is_named_with_its_file(lookup: Lookup, helper: Helper) -> None:
    helper("other", prints("me"))
    with pytest.raises(CredentialError) as raised:
        lookup("nvcr.io", {"credHelpers": {"nvcr.io": "missing"}})
    found = raised.value.diagnostic
    assert "docker-credential-missing is not on PATH" in found.message
    assert "config.json" in found.location
    assert "install docker-credential-missing" in found.hint


def test_a_name_that_is_a_path_is_never_run(lookup: Lookup, helper: Helper) -> None:
    helper("x", "touch ran")
    with pytest.raises(CredentialError, match="is not the name of a credential helper"):
        lookup("nvcr.io", {"credsStore": "../docker-credential-x"})


def test_a_helper_that_hangs_is_named(
    lookup: Lookup, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_credentials, "TIMEOUT_S", 0.05)
    helper("store", "exec sleep 60")
    with pytest.raises(CredentialError, match=r"took more than 0\.05 s"):
        lookup("nvcr.io", {"credsStore": "store"})


@pytest.mark.parametrize("config", ["", "{}", {"auths": []}, {"auths": {"x.io": 3}}, {"auths": {"x.io": {}}}])
def test_a_file_without_a_login_means_no_credentials(lookup: Lookup, config: object) -> None:
    assert lookup("x.io", config) is None


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("no json", "is not JSON"),
        ([], "is not a JSON object"),
        ({"auths": {"x.io": {"auth": "%%"}}}, r"auths\.x\.io\.auth is not user:password"),
        ({"auths": {"x.io": auth("canary", "")}}, r"auths\.x\.io\.auth is not user:password"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(lookup: Lookup, config: object, error: str) -> None:
    with pytest.raises(CredentialError, match=error) as raised:
        lookup("x.io", config)
    assert "canary" not in str(raised.value)


def test_the_first_file_with_a_login_wins_and_an_unreadable_one_hinders_nothing(tmp_path: Path) -> None:
    broken, root = tmp_path / "user.json", tmp_path / "root.json"
    broken.write_text("no json")
    root.write_text(json.dumps({"auths": {"x.io": auth("root", "pass")}}))
    files = [ConfigFile(broken), ConfigFile(root)]
    assert find("x.io", files) == Credential("root", "pass")
    with pytest.raises(CredentialError, match=r"user\.json: is not JSON"):
        find("y.io", files)


def test_the_current_users_file_is_where_docker_config_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert find("x.io") is None
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"x.io": auth("me", "pass")}}))
    assert find("x.io") == Credential("me", "pass")


def test_a_helper_of_another_user_runs_as_that_user(
    tmp_path: Path, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper("store", prints("me"))
    path = tmp_path / "home" / ".docker" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"credsStore": "store"}))
    options: dict[str, Any] = {}

    def run(_: list[str], _timeout_s: float, **keywords: Any) -> CommandResult:
        options.update(keywords)
        return CommandResult(0, '{"Username": "me", "Secret": "s"}')

    monkeypatch.setattr(command, "run", run)
    assert find("x.io", [ConfigFile(path, os.geteuid() + 1, 1001)]) == Credential("me", "s")
    assert (options["user"], options["group"], options["extra_groups"]) == (os.geteuid() + 1, 1001, [])
    assert options["env"]["HOME"] == str(tmp_path / "home")


def test_a_password_is_in_no_repr() -> None:
    assert "secret-word" not in repr(Credential("me", "secret-word"))
