"""Secrets that stay on the Spark: root's docker logins, the hub's token of the login user. Never in argv."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import System
from sparkfleet.onhost.resources.base import RefusedError, Thing
from sparkfleet.onhost.resources.files import ids, make_parents, new_parents, remove_parents, write

ROOT = (0, 0)


def put_token(_: System, thing: Thing) -> None:
    """Write the file, for its one reader."""
    path, owner = Path(thing.key), ids(thing.want["owner"])
    make_parents(path, owner)
    write(path, f"{thing.secret}\n".encode(), int(thing.want["mode"], 8), owner)


def back_token(_: System, entry: Mapping[str, Any], __: tuple[str, ...]) -> None:
    """Remove the file."""
    Path(entry["key"]).unlink(missing_ok=True)
    remove_parents(entry["before"])


def check_login(_: System, thing: Thing) -> None:
    """Refuse a credential helper that is not there."""
    if thing.arg and shutil.which(f"docker-credential-{thing.arg}") is None:
        found = f"docker-credential-{thing.arg} is not on the Spark"
        raise RefusedError(found, "the program of the helper on PATH", "install it, or take 'helper:' out")


def before_login(system: System, _: Thing) -> dict[str, Any]:
    """Return whether there was a file, and which directories were missing."""
    config = Path(resources.DOCKER_CONFIG)
    made = new_parents(system, Thing("login", str(config), "", {}, {}))
    return {"file": "there" if config.exists() else "absent", **made}


def put_login(_: System, thing: Thing) -> None:
    """Log root in: by the declared helper, or in root's own file."""
    config, server = _config(), resources.SERVERS.get(thing.key, thing.key)
    if thing.arg:
        words = {
            "ServerURL": server,
            "Username": thing.user,
            "Secret": thing.secret.removeprefix(f"{thing.user}:"),
        }
        _helper(thing.arg, "store", json.dumps(words))
        config.get("auths", {}).pop(server, None)
        config.setdefault("credHelpers", {})[server] = thing.arg
    else:
        _leave_helper(config, server)
        auth = base64.b64encode(thing.secret.encode()).decode()
        config.setdefault("auths", {})[server] = {"auth": auth}
    _write(config)


def back_login(_: System, entry: Mapping[str, Any], __: tuple[str, ...]) -> None:
    """Log root out; the file is removed if it was made for this."""
    config, server = _config(), resources.SERVERS.get(entry["key"], entry["key"])
    _leave_helper(config, server)
    config.get("auths", {}).pop(server, None)
    kept = {name: value for name, value in config.items() if value not in ({}, None)}
    if kept or entry["before"].get("file") == "there":
        _write(kept if entry["before"].get("file") == "absent" else config)
        return
    Path(resources.DOCKER_CONFIG).unlink(missing_ok=True)
    remove_parents(entry["before"])


def _leave_helper(config: dict[str, Any], registry: str) -> None:
    helper = config.get("credHelpers", {}).pop(registry, "")
    if helper:
        _helper(helper, "erase", registry)


def _helper(name: str, verb: str, given: str) -> None:
    """Run a credential helper. What it says is not told: it may be the secret."""
    words = [f"docker-credential-{name}", verb]
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RefusedError(f"{words[0]} {verb} failed with exit code {done.returncode}", "", "try it by hand")


def _config() -> dict[str, Any]:
    path = Path(resources.DOCKER_CONFIG)
    config = files.read_json(path)
    if config is None and path.exists():
        raise RefusedError(f"{path} is not JSON", "docker's settings", "mend it, or move it away")
    return config or {}


def _write(config: Mapping[str, Any]) -> None:
    path = Path(resources.DOCKER_CONFIG)
    make_parents(path, ROOT, 0o700)
    write(path, (json.dumps(config, indent="\t") + "\n").encode(), 0o600, ROOT)
