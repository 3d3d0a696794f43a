"""The sudoers rule of a user who may run ``spark-valve`` (it drops the page cache) without a password."""

from __future__ import annotations


def rule_path(user: str) -> str:
    """Return where a user's rule is (sudo skips names with a dot)."""
    return "/etc/sudoers.d/spark-valve-" + user.replace(".", "_")


def observe(host: ObservedHost, user: str, _: str = "") -> dict[str, str]:
    """Return the file with a user's rule."""
    observed = host.file(rule_path(user))
    lines = (host.read(rule_path(user)) or "").splitlines() if observed["is"] == "file" else []
    observed["rule"] = "; ".join(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    return observed


# --- Only what is above this line is sent with the probe. ---

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files, validators
from sparkfleet.resources.base import (
    MARK,
    Declaration,
    Fields,
    Host,
    ObservedHost,
    Resource,
    ResourceKind,
    Setting,
    Target,
    UserName,
    not_a_file,
)

VALVE_RULE = 'ALL=(root) NOPASSWD: /usr/local/bin/spark-valve ""'
"""This one command, without arguments."""


class Sudoers(ResourceKind):
    """A sudoers rule."""

    name = "sudoers"
    order = 20
    whole_by = "rule"
    settings = (
        Setting(
            "valve_users",
            tuple[UserName, ...],
            "Users who may run spark-valve with sudo and without a password; it grants nothing else.",
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return a rule for each user."""
        for user, where in declaration.each("valve_users"):
            fields = (("rule", f"{user} {VALVE_RULE}"), ("mode", "0440"), ("owner", "root"))
            yield Resource("sudoers", user, fields, where=where)

    def summary(self, resource: Resource) -> str:
        """Return the rule."""
        return dict(resource.fields)["rule"]

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return what is in the file's place."""
        del recorded
        return not_a_file(resource, live)

    def check(self, host: Host, target: Target) -> None:
        """Have visudo check the rule, alone and with all others."""
        host_files.ids(target.key)
        path = self._path(host, target.key)
        host_files.require_file_or_nothing(target.live, path)
        validators.check_sudoers(host, path, self._content(target))

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Keep a rule that is already there."""
        return host_files.keep_content(host, self._path(host, target.key))

    def apply(self, host: Host, target: Target) -> None:
        """Write the file."""
        host_files.write(self._path(host, target.key), self._content(target), 0o440, host_files.ROOT)

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Restore or remove the file."""
        host_files.restore(host, self._path(host, entry.key), entry.before)

    def _path(self, host: Host, user: str) -> Path:
        return Path(host.path(rule_path(user)))

    def _content(self, target: Target) -> bytes:
        return f"{MARK}\n{target.fields['rule']}\n".encode()


KIND = Sudoers()
