"""``prepare:`` of group_data and a host file, folded and turned into items. The host file wins by key."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkfleet.config.items import Item
from sparkfleet.config.merge import Layer
from sparkfleet.config.resolved import Prepare
from sparkfleet.config.resource_models import DirectorySpec, FileSpec, PrepareSpec
from sparkfleet.contract.diagnostic import Diagnostic

MAPPINGS = ("directories", "files", "sysctls", "logins", "gpu", "old_caches")
"""Keys whose values merge by their own keys; all others are replaced as a whole."""
MOST_BYTES = 1 << 20
"""A file that is put on a Spark is a setting, no model: what is larger is refused."""
VALVE_RULE = 'ALL=(root) NOPASSWD: /usr/local/bin/spark-valve ""'
"""What a user of the valve may do: this one command, without arguments."""
HF_TOKEN_PATH = "~/.cache/huggingface/token"  # noqa: S105  (a path)

_OURS = re.compile(
    r"/var/lib/sparkfleet(/.*)?|/usr/local/lib/sparkfleet(/.*)?|/usr/local/bin/spark-valve|/run/sparkfleet.*"
    r"|/etc/systemd/system/(sparkfleet-.*|spark-gpu\.service)|/etc/sudoers\.d/spark-valve-.*"
    r"|/etc/sysctl\.d/90-sparkfleet\.conf"
)
_OTHERS = re.compile(r"/etc/(netplan/.*|fstab|sudoers|passwd|shadow|group|gshadow)")
"""A mistake here takes the Spark off the network, or locks everybody out."""


@dataclass
class Said:
    """What is declared for one Spark, and where each part of it stands."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[tuple[str, ...], str] = field(default_factory=dict)

    def where(self, *path: str) -> str:
        """Return ``file:line`` of a value."""
        while path and path not in self.origin:
            path = path[:-1]
        return self.origin.get(path, "prepare")


def fold(layers: Sequence[Layer]) -> Said:
    """Return what the layers say together; the last one wins, by key."""
    out = Said()
    for layer in layers:
        for name, value in (layer.said.get("prepare") or {}).items():
            if value is None:
                continue
            out.origin[name,] = layer.where(("prepare", name))
            if name in MAPPINGS:
                out.values[name] = {**out.values.get(name, {}), **value}
                out.origin |= {(name, key): layer.where(("prepare", name, key)) for key in value}
            else:
                out.values[name] = value
    for name in MAPPINGS:
        kept = {key: value for key, value in out.values.get(name, {}).items() if value is not None}
        if name in out.values:
            out.values[name] = kept
    return out


def prepare(layers: Sequence[Layer], cache_dir: str, hf_token: str, diagnostics: list[Diagnostic]) -> Prepare:
    """Return what shall be made of a Spark; what is wrong with it is added to ``problems``."""
    said = fold(layers)
    spec = PrepareSpec.model_validate(said.values)
    found = _Items(said, diagnostics)
    items = (
        *found.users(spec),
        *found.system(spec),
        *(
            item
            for path, one in (spec.directories or {}).items()
            if one
            for item in found.directory(path, one)
        ),
        *(item for path, one in (spec.files or {}).items() if one for item in found.file(path, one)),
        *found.gpu(spec),
        *found.secrets(spec, hf_token),
        *found.caches(spec, cache_dir),
    )
    chosen = spec.model_dump(include={"docker", "offline"}, exclude_none=True)
    return Prepare(**chosen, items=tuple(items))


@dataclass
class _Items:
    said: Said
    diagnostics: list[Diagnostic]

    def users(self, spec: PrepareSpec) -> Iterator[Item]:
        where = self.said.where
        for user in dict.fromkeys(spec.docker_users or ()):
            yield Item("group", f"docker {user}", (("member", "yes"),), where=where("docker_users"))
        for user in dict.fromkeys(spec.valve_users or ()):
            want = (("rule", f"{user} {VALVE_RULE}"), ("mode", "0440"), ("owner", "root"))
            yield Item("sudoers", user, want, where=where("valve_users"))

    def system(self, spec: PrepareSpec) -> Iterator[Item]:
        where = self.said.where
        packages = dict.fromkeys(
            (*(spec.packages or ()), *(("earlyoom",) if spec.earlyoom == "install" else ()))
        )
        for package in packages:
            yield Item("package", package, (("is", "installed"),), where=where("packages"))
        for pattern in dict.fromkeys(spec.hold or ()):
            yield Item("hold", pattern, (("free", ""),), where=where("hold"))
        for name, value in (spec.sysctls or {}).items():
            text = " ".join(str(value).split())
            yield Item("sysctl", name, (("now", text), ("at boot", text)), where=where("sysctls", name))
        if spec.swap == "off":
            yield Item("swap", "swap", (("now", ""), ("at boot", "")), where=where("swap"))
        if spec.earlyoom in {"install", "forbid"}:
            states = ("enabled", "active") if spec.earlyoom == "install" else ("disabled", "inactive")
            want = (("at boot", states[0]), ("now", states[1]))
            yield Item("service", "earlyoom.service", want, where=where("earlyoom"))

    def directory(self, path: str, spec: DirectorySpec) -> Iterator[Item]:
        want = [("mode", spec.mode), ("owner", spec.owner)]
        want += [("group", spec.group)] if spec.group else []
        want += [("others", "0")] if spec.own else []
        arg = f"{spec.owner} {spec.own or 1000}"
        yield Item("directory", path, tuple(want), arg, where=self.said.where("directories", path))

    def file(self, path: str, spec: FileSpec) -> Iterator[Item]:
        where = self.said.where("files", path)
        content = self._content(path, spec, where)
        if content is None:
            return
        want = [("sha256", hashlib.sha256(content).hexdigest()), ("mode", spec.mode), ("owner", spec.owner)]
        want += [("group", spec.group)] if spec.group else []
        yield Item("file", path, tuple(want), content=base64.b64encode(content).decode(), where=where)

    def _content(self, path: str, spec: FileSpec, where: str) -> bytes | None:
        if _OURS.fullmatch(path) or _OTHERS.fullmatch(path) or "/../" in path or path.endswith("/.."):
            whose = "sparkfleet's own" if _OURS.fullmatch(path) else "not a file to be replaced as a whole"
            self._wrong(where, f"{path} is {whose}", "another path", "put the setting into a file of its own")
            return None
        if (spec.content is None) == (spec.source is None):
            self._wrong(where, f"{path} has {'both' if spec.content else 'neither'} content and source",
                        "one of them", "write 'content:' or 'source:'")  # fmt: skip
            return None
        if spec.content is not None:
            return spec.content.encode()
        source = Path(str(spec.source)).expanduser()
        try:
            content = source.read_bytes()
        except OSError as error:
            self._wrong(
                where, f"{source} cannot be read: {error.strerror}", "a file", "make it, or mend 'source:'"
            )
            return None
        if len(content) > MOST_BYTES:
            self._wrong(
                where,
                f"{source} has {len(content)} bytes",
                f"at most {MOST_BYTES}",
                "copy it by user_deploy.py",
            )
            return None
        return content

    def _wrong(self, where: str, found: str, expected: str, remedy: str) -> None:
        self.diagnostics.append(Diagnostic(where, found, expected, remedy))

    def gpu(self, spec: PrepareSpec) -> Iterator[Item]:
        if spec.gpu is None:
            return
        gpu = spec.gpu
        want = (
            ("persistence", "" if gpu.persistence is None else str(int(gpu.persistence))),
            ("power limit", str(gpu.power_limit_w or "")),
            ("clocks", ",".join(str(one) for one in gpu.clocks_mhz or ())),
        )
        if any(value for _, value in want):
            yield Item("gpu", "gpu", (*want, ("unit", "enabled active")), where=self.said.where("gpu"))

    def secrets(self, spec: PrepareSpec, hf_token: str) -> Iterator[Item]:
        for registry, login in (spec.logins or {}).items():
            if login is not None:
                where = self.said.where("logins", registry)
                yield Item("login", registry, (("secret", "as declared"),), login.helper or "",
                           source=login.password, user=login.user, where=where)  # fmt: skip
        if spec.keep_hf_token:
            where = self.said.where("keep_hf_token")
            if not hf_token:
                found = "'keep_hf_token' is true, and there is no hf_token"
                self._wrong(where, found, "hf_token in group_data", "set hf_token, as env:HF_TOKEN")
            want = (("secret", "as declared"), ("mode", "0600"), ("owner", "@login"))
            yield Item("token", HF_TOKEN_PATH, want, source=hf_token, where=where)

    def caches(self, spec: PrepareSpec, cache_dir: str) -> Iterator[Item]:
        if spec.old_caches is None:
            return
        said: Mapping[str, Any] = spec.old_caches.model_dump(exclude_none=True)
        want = tuple((name, f"{value:g}") for name, value in said.items())
        if want:
            yield Item("caches", cache_dir, want, where=self.said.where("old_caches"))
