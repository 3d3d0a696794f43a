"""Observes declared resources and those that a run applied: by the ``observe`` of each kind.

Sent only with a probe that needs it, and part of the programs on a Spark: what the plan sees and what a run
sees is seen by the same lines. Values are text; a field that is not there is "".
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
"""Of the hash by which a secret is compared: what leaves the Spark does not reveal it."""
KINDS = "sparkfleet.resources.kinds"


RECORD_VERSION = 2
RENAMED_KINDS = {"swap": "linux_swap", "token": "hub_token"}
"""Kinds of resources by their names in version 1."""


def expand(text: str, user: str, home: str) -> str:
    """Return a key or value with the login user's name and home filled in."""
    text = text.replace("@login", user)
    return home + text[1:] if text == "~" or text.startswith("~/") else text


def digest(secret: bytes, salt: bytes) -> str:
    """Return the hash by which the operator's machine can tell whether it has the same secret."""
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
            return commands.output(*argv, given=stdin)
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
        salt = bytes.fromhex(state.record_file().get("salt", "")) or os.urandom(16)
        return {"secret": "there", "salt": salt.hex(), "hash": digest(value, salt)}

    def parse_json(self, text: str) -> Any:
        """Return what a JSON text holds."""
        return json.loads(text)


def migrate(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record in the present version. Raise ValueError for one of a newer version."""
    version = data.get("version", 1)
    if version > RECORD_VERSION:
        raise ValueError("prepared.json has version %s: update sparkfleet" % version)
    if version < RECORD_VERSION:
        resources = {}
        for entry in data.get("items", {}).values():
            kind = RENAMED_KINDS.get(entry["kind"], entry["kind"])
            entry.update(kind=kind, applied=entry.pop("put"))
            resources[kind + " " + entry["key"]] = entry
        data = {"version": RECORD_VERSION, "salt": data.get("salt", ""), "resources": resources}
    return data


def observe(host: ObservedHost, kind: str, key: str, arg: str) -> dict[str, Any]:
    """Return the fields of one resource. Raise ValueError for a kind that is not known."""
    try:
        module = __import__(KINDS + "." + kind, fromlist=["observe"])
    except ModuleNotFoundError:
        raise ValueError("unknown kind of resource %r" % kind) from None
    fields: dict[str, Any] = module.observe(host, key, arg)
    return fields


def observe_all(requested: list[list[str]], user: str, home: str) -> dict[str, Any]:
    """Return the record of what runs applied, and how that and what is requested is now."""
    record, host, live = migrate(state.record_file())["resources"], ObservedHost(), {}
    targets = {name: (entry["kind"], entry["key"], entry["arg"]) for name, entry in record.items()}
    for kind, written, arg in requested:
        key = expand(written, user, home)
        targets["%s %s" % (kind, key)] = (kind, key, expand(arg, user, home))
    for name, (kind, key, arg) in targets.items():
        try:
            live[name] = observe(host, kind, key, arg)
        except Exception as error:
            live[name] = {"error": "%s: %s" % (type(error).__name__, error)}
    return {"record": record, "live": live}
