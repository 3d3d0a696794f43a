"""Credentials for registries, from where ``docker login`` keeps them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
_HELPER_TIMEOUT_S = 20


@dataclass(frozen=True)
class Credential:
    """A user and a password, or an identity token (then the user is ``<token>``)."""

    user: str
    password: str = field(repr=False)


def config_path() -> Path:
    """Return the path of docker's config on this machine."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def find(registry: str, config: Path | None = None) -> Credential | None:
    """Return the credential for a registry's host name; None when there is none."""
    try:
        data = json.loads((config or config_path()).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    keys = _HUB_KEYS if registry == "docker.io" else (registry, f"https://{registry}")
    for key in keys:
        helper = _mapping(data, "credHelpers").get(key) or data.get("credsStore")
        found = _from_helper(str(helper), key) if helper else _from_auths(_mapping(data, "auths").get(key))
        if found:
            return found
    return None


def _mapping(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _from_auths(entry: Any) -> Credential | None:
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return Credential("<token>", str(entry["identitytoken"]))
    try:
        user, colon, password = (
            base64.b64decode(str(entry.get("auth", "")), validate=True).decode().partition(":")
        )
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Credential(user, password) if colon and user else None


def _from_helper(helper: str, key: str) -> Credential | None:
    if not re.fullmatch(r"[\w.-]+", helper):
        return None
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            check=True,
        )
        answer = json.loads(done.stdout)
        return Credential(str(answer["Username"]), str(answer["Secret"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
