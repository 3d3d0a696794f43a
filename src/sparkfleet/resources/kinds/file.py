"""Files: checked by the program that reads them, written atomically, restored to what was there before."""

from __future__ import annotations


def observe(host: ObservedHost, path: str, _: str = "") -> dict[str, str]:
    """Return what is at a path."""
    return host.file(path)


# --- Only what is above this line is sent with the probe. ---

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files, validators
from sparkfleet.resources.base import (
    AbsolutePath,
    Declaration,
    Fields,
    FileMode,
    Host,
    ObservedHost,
    Resource,
    ResourceKind,
    Setting,
    Target,
    UserName,
    described,
    not_a_file,
)

_OURS = re.compile(
    r"/var/lib/sparkfleet(/.*)?|/usr/local/lib/sparkfleet(/.*)?|/usr/local/bin/spark-valve|/run/sparkfleet.*"
    r"|/etc/systemd/system/(sparkfleet-.*|spark-gpu\.service)|/etc/sudoers\.d/spark-valve-.*"
    r"|/etc/sysctl\.d/90-sparkfleet\.conf"
)
_PROTECTED = re.compile(r"/etc/(netplan/.*|fstab|sudoers|passwd|shadow|group|gshadow)")
"""A mistake here takes the Spark off the network, or locks everybody out."""


@dataclass(frozen=True)
class FileSpec:
    """A file on the Spark."""

    content: str | None = described("The whole text.", None)
    source: str | None = described(
        "Instead of content: a file on the operator's machine, ~ or from the current directory.", None
    )
    owner: UserName = described("@login is the user who logs in on the Spark.", "root")
    group: str | None = described("Default: the owner's own group.", None)
    mode: FileMode = described("In four octal digits.", "0644")


class File(ResourceKind):
    """A file."""

    name = "file"
    order = 90
    whole_by = "sha256"
    labels: ClassVar = {"sha256": "content"}
    settings = (
        Setting(
            "files",
            dict[AbsolutePath, FileSpec | None],
            "Path -> file. Sudoers, units and sysctl.d are checked before they are written.",
            merged=True,
        ),
    )

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return each file with its content."""
        for path, spec, where in declaration.entries("files"):
            content = _content(declaration, path, spec, where)
            if content is None:
                continue
            digest = hashlib.sha256(content).hexdigest()
            fields = [("sha256", digest), ("mode", spec.mode), ("owner", spec.owner)]
            fields += [("group", spec.group)] if spec.group else []
            encoded = base64.b64encode(content).decode()
            yield Resource("file", path, tuple(fields), content=encoded, where=where)

    def show(self, name: str, value: str) -> str:
        """Return a short hash."""
        return value[:12] if name == "sha256" else super().show(name, value)

    def summary(self, resource: Resource) -> str:
        """Return mode, owner and group."""
        fields = dict(resource.fields)
        return " ".join(fields[name] for name in ("mode", "owner", "group") if name in fields)

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return what is in the file's place."""
        del recorded
        return not_a_file(resource, live)

    def check(self, host: Host, target: Target) -> None:
        """Have the program that reads such files check it."""
        host_files.ids(target.fields["owner"], target.fields.get("group", ""))
        host_files.require_file_or_nothing(target.live, Path(host.path(target.key)))
        validators.check(host, Path(host.path(target.key)), base64.b64decode(target.content))

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Keep the content that is replaced."""
        path = Path(host.path(target.key))
        return {**host_files.keep_content(host, path), **host_files.missing_parents(path)}

    def apply(self, host: Host, target: Target) -> None:
        """Write the file."""
        path = Path(host.path(target.key))
        owner = host_files.ids(target.fields["owner"], target.fields.get("group", ""))
        host_files.make_parents(path)
        host_files.write(path, base64.b64decode(target.content), int(target.fields["mode"], 8), owner)
        validators.reload(host, path)

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Restore or remove the file."""
        path = Path(host.path(entry.key))
        host_files.restore(host, path, entry.before)
        validators.reload(host, path)


def _content(declaration: Declaration, path: str, spec: FileSpec, where: str) -> bytes | None:
    if _OURS.fullmatch(path) or _PROTECTED.fullmatch(path) or "/../" in path or path.endswith("/.."):
        reason = "sparkfleet's own" if _OURS.fullmatch(path) else "not a file to be replaced as a whole"
        hint = "put the setting into a file of its own"
        declaration.error(where, f"{path} is {reason}", "another path", hint)
        return None
    if (spec.content is None) == (spec.source is None):
        message = f"{path} has {'both' if spec.content else 'neither'} content and source"
        declaration.error(where, message, "one of them", "write 'content:' or 'source:'")
        return None
    if spec.content is not None:
        return spec.content.encode()
    source = Path(str(spec.source)).expanduser()
    try:
        content = source.read_bytes()
    except OSError as error:
        message = f"{source} cannot be read: {error.strerror}"
        declaration.error(where, message, "a file", "create it, or correct 'source:'")
        return None
    limit = host_files.MAX_BYTES
    if len(content) > limit:
        message = f"{source} has {len(content)} bytes"
        declaration.error(where, message, f"at most {limit}", "copy it by user_deploy.py")
        return None
    return content


KIND = File()
