"""Observes declared resources and those that a run applied: by the ``observe`` of each kind.

Sent only with a probe that needs it, and part of the programs on a Spark, so that a plan and a run observe by
the same code. Values are text; a field without a value is "".
"""

from __future__ import annotations

import json
import os
import stat

from sparkfleet.onhost.collectors import basics, commands, state

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

ROUNDS = 20000
"""Rounds of the hash by which a secret is compared: the hash leaves the Spark, the secret does not."""
KINDS = "sparkfleet.resources.kinds"


RENAMED_KINDS = {"swap": "linux_swap", "token": "hub_token"}
"""Kinds of resources by their names in version 1 of the record, as in ``contract.resources``."""


def expand(text: str, user: str, home: str) -> str:
    """Return a key or value with the login user's name and home filled in."""
    text = text.replace("@login", user)
    return home + text[1:] if text == "~" or text.startswith("~/") else text


def digest(secret: bytes, salt: bytes) -> str:
    """Return the hash by which the operator's machine compares its secret."""
    import hashlib  # noqa: PLC0415  (2 ms, for Sparks with a secret alone)

    return hashlib.pbkdf2_hmac("sha256", secret, salt, ROUNDS).hex()


class ObservedHost:
    """The Spark as ``observe`` sees it (``resources/base.py`` has the Protocol)."""

    def path(self, path: str) -> str:
        """Return where a path is."""
        return path

    def read(self, path: str) -> str | None:
        """Return a file's text, None without a file."""
        return basics.read_text(self.path(path))

    def output(self, *argv: str, stdin: str = "") -> str:
        """Return what a command prints, whatever its exit code; "" without the command."""
        try:
            return commands.output(*argv, stdin=stdin)
        except FileNotFoundError:
            return ""

    def file(self, path: str) -> dict[str, str]:
        """Return what is at a path."""
        path = self.path(path)
        try:
            info = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return {"is": "absent"}
        user, group = basics.owner_of(info)
        names = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
        seen = {"is": names.get(stat.S_IFMT(info.st_mode), "other")}
        seen.update(mode="%04o" % stat.S_IMODE(info.st_mode), owner=user, group=group)
        if seen["is"] == "file":
            seen["sha256"] = basics.sha256_of(path)
        return seen

    def unit(self, name: str) -> dict[str, str]:
        """Return whether a systemd unit runs, and whether it starts at boot."""
        output = self.output("systemctl", "show", "--property=LoadState,UnitFileState,ActiveState", name)
        found = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        enabled = found.get("UnitFileState", "").startswith("enabled")
        running = found.get("ActiveState", "") in {"active", "activating", "reloading"}
        seen = {"at boot": "enabled" if enabled else "disabled", "now": "active" if running else "inactive"}
        return {**seen, "unit": "missing"} if found.get("LoadState") == "not-found" else seen

    def secret(self, value: bytes) -> dict[str, str]:
        """Return a secret's hash, with the salt of this Spark (of this probe, where it has none yet)."""
        record = state.document(state.RECORD)
        salt = bytes.fromhex(record.get("salt", "") if record else "") or os.urandom(16)
        return {"secret": "there", "salt": salt.hex(), "hash": digest(value, salt)}

    def parse_json(self, text: str) -> Any:
        """Return what a JSON text holds."""
        return json.loads(text)


def observe(host: ObservedHost, kind: str, key: str, arg: str) -> dict[str, Any]:
    """Return the fields of one resource. Raise ValueError for an unknown kind."""
    try:
        module = __import__(KINDS + "." + kind, fromlist=["observe"])
    except ModuleNotFoundError:
        raise ValueError("unknown kind of resource %r" % kind) from None
    fields: dict[str, Any] = module.observe(host, key, arg)
    return fields


def observe_all(requested: list[list[str]], user: str, home: str) -> dict[str, Any]:
    """Return the record of applied resources, and the state of these and of the requested ones.

    The operator's side checks the record: of one with another shape, no resource is observed.
    """
    record, host, targets, live = state.document(state.RECORD), ObservedHost(), {}, {}
    try:
        for entry in (record.get("resources") or record.get("items") or {}).values() if record else ():
            kind = RENAMED_KINDS.get(entry["kind"], entry["kind"])
            targets["%s %s" % (kind, entry["key"])] = (kind, entry["key"], entry["arg"])
    except (AttributeError, KeyError, TypeError):
        targets.clear()
    for kind, written, arg in requested:
        key = expand(written, user, home)
        targets["%s %s" % (kind, key)] = (kind, key, expand(arg, user, home))
    for name, (kind, key, arg) in targets.items():
        try:
            live[name] = observe(host, kind, key, arg)
        except Exception as error:
            live[name] = {"error": "%s: %s" % (type(error).__name__, error)}
    return {"record": record, "live": live}
