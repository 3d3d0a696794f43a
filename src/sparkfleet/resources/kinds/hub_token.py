"""The Hugging Face token of the login user, kept on the Spark in a file that only that user can read."""

from __future__ import annotations


def observe(host: ObservedHost, path: str, _: str = "") -> dict[str, str]:
    """Return the file, its content by a salted hash."""
    observed = host.file(path)
    if observed.pop("sha256", ""):
        with open(host.path(path), "rb") as opened:
            observed.update(host.secret(opened.read().strip()))
    return observed


# --- Only what is above this line is sent with the probe. ---

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files, secrets
from sparkfleet.resources.base import (
    CURRENT,
    Declaration,
    Fields,
    Host,
    ObservedHost,
    Resource,
    ResourceKind,
    Setting,
    Target,
    not_a_file,
)

PATH = "~/.cache/huggingface/token"


class HubToken(ResourceKind):
    """A file with the hub's token."""

    name = "hub_token"
    order = 120
    whole_by = "hash"
    credential_field = "hub_token"
    settings = (
        Setting(
            "keep_hf_token",
            bool,
            "true: hf_token of group_data is kept on the Spark, in ~/.cache/huggingface/token (0600). "
            "Otherwise it is there only in memory, and only for the time of a download.",
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return the file of the login user."""
        if not declaration.values.get("keep_hf_token"):
            return
        where = declaration.where("keep_hf_token")
        if not declaration.hf_token:
            message = "'keep_hf_token' is true, and there is no hf_token"
            declaration.error(
                where, message, "hf_token in group_data", "set hf_token, for example to env:HF_TOKEN"
            )
        fields = (("secret", CURRENT), ("mode", "0600"), ("owner", "@login"))
        yield Resource("hub_token", PATH, fields, source=declaration.hf_token, where=where)

    def summary(self, resource: Resource) -> str:
        """Return mode and owner."""
        fields = dict(resource.fields)
        return f"{fields.get('mode', '')} {fields.get('owner', '')}".strip()

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return what is in the file's place, or that it has another token that is not ours."""
        secret = secrets.blocker(resource, live, f"remove {resource.key}", recorded=recorded)
        return not_a_file(resource, live) or secret

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Return the directories above it that are missing."""
        return host_files.missing_parents(Path(host.path(target.key)))

    def apply(self, host: Host, target: Target) -> None:
        """Write the file for its one reader."""
        path, owner = Path(host.path(target.key)), host_files.ids(target.fields["owner"])
        host_files.make_parents(path, owner)
        host_files.write(path, f"{target.hub_token}\n".encode(), int(target.fields["mode"], 8), owner)

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Remove the file."""
        Path(host.path(entry.key)).unlink(missing_ok=True)
        host_files.remove_parents(entry.before)


KIND = HubToken()
