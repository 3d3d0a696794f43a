"""root's ``docker login`` at a registry: in root's config.json, or in a credential helper. Never in argv."""

from __future__ import annotations

import binascii

CONFIG = "/root/.docker/config.json"
SERVERS = {"docker.io": "https://index.docker.io/v1/"}
"""As ``registry_credentials.server_of``, which is not sent with the probe."""
HELPER_LETTERS = set("abcdefghijklmnopqrstuvwxyz0123456789-")
"""Of the names of Docker's credential helpers."""


def observe(host: ObservedHost, registry: str, helper: str) -> dict[str, str]:
    """Return root's login by a salted hash; ``helper`` is expected to store it, or the file itself."""
    config, server = host.parse_json(host.read(CONFIG) or "{}"), SERVERS.get(registry, registry)
    stored_by = (config.get("credHelpers") or {}).get(server, "")
    entry = (config.get("auths") or {}).get(server) or {}
    secret = binascii.a2b_base64(entry.get("auth") or "")
    if stored_by and set(stored_by) <= HELPER_LETTERS:
        output = host.output("docker-credential-" + stored_by, "get", stdin=server)
        found = host.parse_json(output) if output.startswith("{") else {}
        secret = (found["Username"] + ":" + found["Secret"]).encode() if found.get("Secret") else b""
    observed = {"is": "login", "helper": stored_by, **host.secret(secret)} if secret else {"is": "absent"}
    if secret and stored_by != helper:
        observed["secret"] = "kept by " + (stored_by or "the file")
    return observed


# --- Only what is above this line is sent with the probe. ---

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from sparkfleet.contract import registry_credentials
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files, secrets
from sparkfleet.resources.base import (
    CURRENT,
    Declaration,
    Fields,
    Host,
    Limits,
    ObservedHost,
    Resource,
    ResourceError,
    ResourceKind,
    SecretSource,
    Setting,
    Target,
    described,
)

Registry = Annotated[str, Limits(r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?$")]


@dataclass(frozen=True, kw_only=True)
class LoginSpec:
    """root's `docker login` at a registry."""

    user: str = described("The default is what NGC expects with an API key.", "$oauthtoken")
    password: SecretSource = described(
        "Where it comes from: env:NAME, file:PATH or command:WORDS. Never the password itself."
    )
    helper: str | None = described(
        "docker-credential-NAME of the Spark stores it; default: root's config.json, mode 0600.",
        None,
        pattern=r"^[a-z0-9-]+$",
    )


class Login(ResourceKind):
    """A login at a registry."""

    name = "login"
    order = 110
    whole_by = "hash"
    credential_field = "registry_password"
    settings = (
        Setting(
            "logins",
            dict[Registry, LoginSpec | None],
            "Registry (for example nvcr.io) -> login. Removed when it is no longer declared.",
            merged=True,
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return each login."""
        for registry, spec, where in declaration.entries("logins"):
            yield Resource(
                "login",
                registry,
                (("secret", CURRENT),),
                spec.helper or "",
                source=spec.password,
                user=spec.user,
                where=where,
            )

    def summary(self, resource: Resource) -> str:
        """Return user and helper."""
        return f"as {resource.user}" + (f", kept by {resource.arg}" if resource.arg else "")

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return that there is a login that is not ours, or no secret for it."""
        return secrets.blocker(resource, live, f"docker logout {resource.key} as root", recorded=recorded)

    def check(self, host: Host, target: Target) -> None:
        """Refuse a helper that is not installed, and a file that Docker would not read."""
        store = _read(host).get("credsStore")
        if store and not target.arg:
            raise ResourceError(
                f"{host.path(CONFIG)} has credsStore {store}, so Docker ignores logins in the file",
                "a helper for the login",
                f"declare 'helper: {store}', or remove credsStore",
            )
        if target.arg and shutil.which(f"docker-credential-{target.arg}") is None:
            message = f"docker-credential-{target.arg} is not on the Spark"
            raise ResourceError(message, "the helper's program on PATH", "install it, or remove 'helper:'")

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Return whether there is a file, and which directories above it are missing."""
        del target
        path = Path(host.path(CONFIG))
        return {"file": "there" if path.exists() else "absent", **host_files.missing_parents(path)}

    def apply(self, host: Host, target: Target) -> None:
        """Store the login in the declared helper, or in root's own file."""
        config, server = _read(host), registry_credentials.server_of(target.key)
        if target.arg:
            credentials = {"ServerURL": server, "Username": target.user, "Secret": target.registry_password}
            _run_helper(target.arg, "store", json.dumps(credentials))
            config.get("auths", {}).pop(server, None)
            config.setdefault("credHelpers", {})[server] = target.arg
        else:
            _erase_from_helper(config, server)
            auth = base64.b64encode(f"{target.user}:{target.registry_password}".encode()).decode()
            config.setdefault("auths", {})[server] = {"auth": auth}
        _write(host, config)

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Remove the login, and the file if it was created for it."""
        config, server = _read(host), registry_credentials.server_of(entry.key)
        _erase_from_helper(config, server)
        config.get("auths", {}).pop(server, None)
        remaining = {name: value for name, value in config.items() if value not in ({}, None)}
        if remaining or entry.before.get("file") == "there":
            _write(host, remaining if entry.before.get("file") == "absent" else config)
            return
        Path(host.path(CONFIG)).unlink(missing_ok=True)
        host_files.remove_parents(entry.before)


def _erase_from_helper(config: dict[str, Any], server: str) -> None:
    helper = config.get("credHelpers", {}).pop(server, "")
    if helper:
        _run_helper(helper, "erase", server)


def _run_helper(name: str, verb: str, stdin: str) -> None:
    """Run a credential helper. Its output is never shown: it may be the secret."""
    try:
        registry_credentials.run_helper(name, verb, stdin)
    except registry_credentials.CredentialError as error:
        raise _refused(error) from None


def _refused(error: registry_credentials.CredentialError) -> ResourceError:
    one = error.diagnostic
    return ResourceError(f"{one.location}: {one.message}", "", one.hint, code=one.code)


def _read(host: Host) -> dict[str, Any]:
    try:
        return registry_credentials.read_config(Path(host.path(CONFIG)))
    except registry_credentials.CredentialError as error:
        raise _refused(error) from None


def _write(host: Host, config: Mapping[str, Any]) -> None:
    path = Path(host.path(CONFIG))
    host_files.make_parents(path, host_files.ROOT, 0o700)
    content = (json.dumps(config, indent="\t") + "\n").encode()
    host_files.write(path, content, 0o600, host_files.ROOT)


KIND = Login()
