"""Credentials for image registries, from where ``docker login`` stores them.

One reader for the operator's machine (``sparkfleet lock``) and for hosts (pulls). A registry's credential
helper comes first, then the general one, then the file itself. Standard library alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet.contract import command
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

HUB = "docker.io"
HUB_SERVER = "https://index.docker.io/v1/"
"""What the credentials of Docker Hub are stored under."""
IDENTITY_TOKEN_USER = "<token>"  # noqa: S105  (a user name)
"""User name of a credential that is an identity token."""
NOT_FOUND = "credentials not found in native keychain"
"""What a helper prints when it has nothing for a registry."""
TIMEOUT_S = 60
HELPER = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Credential:
    """A user and a password, or an identity token."""

    user: str
    password: str = field(repr=False)
    server: str = field(default="", compare=False)
    """What it is stored under."""

    @property
    def is_identity_token(self) -> bool:
        """Return whether the password is an identity token."""
        return self.user == IDENTITY_TOKEN_USER


@dataclass(frozen=True)
class ConfigFile:
    """A docker config.json, and the user whose credential helpers it names (None: the current one)."""

    path: Path
    uid: int | None = None
    gid: int | None = None


class CredentialError(SparkfleetError):
    """Credentials exist, but cannot be read. Its diagnostic has no secret."""

    def __init__(self, location: str, found: str, hint: str) -> None:
        """Build the diagnostic; ``location`` is a file or a command."""
        super().__init__(Diagnostic(location, found, hint=hint, code="registry-credentials-unreadable"))


def user_file(home: str, uid: int, gid: int) -> ConfigFile:
    """Return the file of a user."""
    return ConfigFile(Path(home) / ".docker" / "config.json", uid, gid)


def default_file() -> ConfigFile:
    """Return the file of the current user."""
    return ConfigFile(Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json")


def server_of(registry: str) -> str:
    """Return what the credentials of a registry are stored under."""
    return HUB_SERVER if registry == HUB else registry


def find(registry: str, files: Sequence[ConfigFile] = ()) -> Credential | None:
    """Return the credential for a registry's host name from the first file that has one; None for none.

    Without ``files`` it is that of the current user. Raise CredentialError when no file has a credential, and
    one cannot be read.
    """
    failure: CredentialError | None = None
    for file in files or (default_file(),):
        try:
            credential = _find(registry, file)
        except CredentialError as error:
            failure = failure or error
        else:
            if credential:
                return credential
    if failure:
        raise failure
    return None


def _find(registry: str, file: ConfigFile) -> Credential | None:
    config = read_config(file.path)
    server = server_of(registry)
    helpers, logins = _mapping(config, "credHelpers"), _mapping(config, "auths")
    key = _key(helpers, server)
    helper = helpers[key] if key else config.get("credsStore")
    if helper:
        return _from_helper(str(helper), key or server, file)
    key = _key(logins, server)
    return _from_file(logins[key], key, file.path) if key else None


def read_config(path: Path) -> dict[str, Any]:
    """Return a docker config.json; {} without the file. Raise CredentialError when it cannot be read."""
    try:
        config = json.loads(path.read_bytes() or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise CredentialError(str(path), message, "correct its owner and mode") from None
    except ValueError as error:
        raise CredentialError(str(path), f"is not JSON: {error}", "correct it, or move it away") from None
    if not isinstance(config, dict):
        raise CredentialError(str(path), "is not a JSON object", "correct it, or move it away")
    return config


def _mapping(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _key(entries: dict[str, Any], server: str) -> str:
    """Return the key of a registry; "" for none. Some files have URLs instead of host names."""
    if server in entries:
        return server
    return next((key for key in entries if _host(key) == _host(server)), "")


def _host(server: str) -> str:
    host = re.sub(r"^https?://", "", server).partition("/")[0]
    return HUB if host in {"index.docker.io", "registry-1.docker.io"} else host


def _from_file(entry: Any, server: str, path: Path) -> Credential | None:
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return Credential(IDENTITY_TOKEN_USER, str(entry["identitytoken"]), server)
    if entry.get("username") and entry.get("password"):
        return Credential(str(entry["username"]), str(entry["password"]), server)
    if not entry.get("auth"):
        return None  # an entry of a credential store
    try:
        text = base64.b64decode(str(entry["auth"]), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    user, _, password = text.partition(":")
    if not user or not password:
        message = f"auths.{server}.auth is not user:password in base64"
        raise CredentialError(str(path), message, f"docker login {_host(server)}")
    return Credential(user, password.rstrip("\0"), server)


def _from_helper(helper: str, server: str, file: ConfigFile) -> Credential | None:
    program = f"docker-credential-{helper}"
    if not HELPER.fullmatch(helper):
        message = f"{helper!r} is not the name of a credential helper"
        raise CredentialError(str(file.path), message, "correct it")
    if shutil.which(program) is None:
        raise CredentialError(
            str(file.path),
            f"names the credential helper {helper}, but {program} is not on PATH",
            f"install {program}, or remove it from credsStore and credHelpers and run docker login",
        )
    output = run_helper(helper, "get", server, file)
    if output is None:
        return None
    try:
        data = json.loads(output)
        credential = Credential(str(data["Username"]), str(data["Secret"]), server)
    except (ValueError, KeyError, TypeError):
        command, message = f"{program} get", f"its output for {server} is not a credential"
        raise CredentialError(command, message, f"run it: {program} list") from None
    return credential if credential.password else None


def run_helper(helper: str, verb: str, text: str, file: ConfigFile | None = None) -> str | None:
    """Run a credential helper with ``text`` on stdin; return its output, None for "not found".

    Raise CredentialError when it fails. Its output is never part of an error: it may have the secret.
    """
    program = f"docker-credential-{helper}"
    ran = command.run([program, verb], TIMEOUT_S, stdin=text, **_as_owner(file))
    if ran.code == command.TIMED_OUT:
        message = f"took more than {TIMEOUT_S} s"
        raise CredentialError(f"{program} {verb}", message, "run it by hand: it may ask for input")
    if ran.code in {command.MISSING, command.NOT_STARTED}:
        message = f"cannot be started: {ran.text}"
        raise CredentialError(f"{program} {verb}", message, f"install {program}")
    if not ran.code:
        return ran.out
    if NOT_FOUND in ran.out + ran.err:
        return None
    message = f"failed with exit code {ran.code}"
    raise CredentialError(
        f"{program} {verb}", message, f"run it by hand as the user of the login: {program} list"
    )


def _as_owner(file: ConfigFile | None) -> dict[str, Any]:
    """Return the options of a process that runs as the file's user."""
    if file is None or file.uid is None:
        return {}
    environment = {**os.environ, "HOME": str(file.path.parents[1])}  # a systemd unit has none
    if file.uid == os.geteuid():
        return {"env": environment}
    return {"env": environment, "user": file.uid, "group": file.gid, "extra_groups": []}
