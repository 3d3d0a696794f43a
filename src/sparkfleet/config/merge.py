"""Merges the layers of a service: recipe, group_data, host file. The last layer wins; origins are recorded.

Flags, variables and mappings under ``container:`` merge by name, and ``null`` removes a flag or variable;
mounts merge by target; all other values are replaced as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.config.yaml_file import Path_
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import FlagValue
from sparkfleet.suggest import did_you_mean

_SCALARS = ("model", "file", "engine", "runtime", "image", "revision", "served_name", "name", "port")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Layer:
    """Values of a service from one file, with their places."""

    values: Mapping[str, Any]
    """The declared fields of a recipe or service, by name."""
    where: Callable[[Path_], str]


@dataclass
class MergedService:
    """All layers merged."""

    fields: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, FlagValue] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    container: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    """``file:line`` of each value by dotted name: ``image``, ``flags.max-model-len``, ``gate.timeout``."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


FullFlag = Callable[[str, FlagValue], tuple[str, FlagValue]]
"""``Engine.full_flag``."""


def merge_layers(layers: Sequence[Layer], full_flag: FullFlag) -> MergedService:
    """Return the merged layers; the last one wins."""
    out = MergedService()
    for layer in layers:
        for name in _SCALARS:
            _scalar(out, layer, name)
        _flags(out, layer, full_flag)
        _env(out, layer)
        _container(out, layer)
        for name, value in (layer.values.get("gate") or {}).items():
            if value is not None:
                out.gate[name] = value
                out.origin[f"gate.{name}"] = layer.where(("gate", name))
    return out


def flag_name(written: str) -> str:
    """Return a flag's canonical name: no leading dashes, ``-`` for ``_`` (not after the dot in ``a.b``)."""
    name, dot, rest = written.removeprefix("--").partition(".")
    return name.replace("_", "-") + dot + rest


def _scalar(out: MergedService, layer: Layer, name: str) -> None:
    value = layer.values.get(name)
    if value is None:
        return
    if name == "model" and value != out.fields.get("model"):
        # A commit belongs to its repository.
        out.fields.pop("revision", None)
        out.origin.pop("revision", None)
    out.fields[name] = value
    out.origin[name] = layer.where((name,))


def _flags(out: MergedService, layer: Layer, full_flag: FullFlag) -> None:
    spellings: dict[str, str] = {}
    for written, value in (layer.values.get("flags") or {}).items():
        place = layer.where(("flags", written))
        name, value = full_flag(*_positive(flag_name(written), value))  # noqa: PLW2901
        if name in spellings:
            out.diagnostics.append(
                Diagnostic(
                    place,
                    f"flag '{written}' is a duplicate of '{spellings[name]}'",
                    "each flag once",
                    f"remove one, and write it as '{name}'",
                    code="flag-duplicate",
                )
            )
        spellings[name] = written
        if value is None:
            if name not in out.flags:
                hint = did_you_mean(name, out.flags, "")
                hint = f"; {hint}" if hint else ""
                out.warnings.append(f"{place}: '{written}: null' has no effect: the flag is not set{hint}")
            out.flags.pop(name, None)
            out.origin.pop(f"flags.{name}", None)
        else:
            out.flags[name] = value
            out.origin[f"flags.{name}"] = place


def _positive(name: str, value: FlagValue) -> tuple[str, FlagValue]:
    """Turn ``no-x: true`` into ``x: false``, so that layers can override each other."""
    if name.startswith("no-") and (value is None or isinstance(value, bool)):
        return name.removeprefix("no-"), None if value is None else not value
    return name, value


def _env(out: MergedService, layer: Layer) -> None:
    for name, value in (layer.values.get("env") or {}).items():
        place = layer.where(("env", name))
        if not _ENV_NAME.fullmatch(name):
            out.diagnostics.append(
                Diagnostic(
                    place,
                    f"'{name}' is not a valid variable name",
                    "letters, digits and '_', not starting with a digit",
                    "rename it",
                    code="variable-name-invalid",
                )
            )
        elif value is None:
            out.env.pop(name, None)
            out.origin.pop(f"env.{name}", None)
        else:
            out.env[name] = _env_text(value)
            out.origin[f"env.{name}"] = place


def _env_text(value: str | float | bool) -> str:
    # vLLM parses switches with int(); every program accepts 1 and 0.
    return str(int(value)) if isinstance(value, bool) else str(value)


def _container(out: MergedService, layer: Layer) -> None:
    for name, value in (layer.values.get("container") or {}).items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            value = {**out.container.get(name, {}), **value}  # noqa: PLW2901
        elif name == "mounts":
            value = _mounts(out, layer, value)  # noqa: PLW2901
        out.container[name] = value
        out.origin[f"container.{name}"] = layer.where(("container", name))


def _mounts(
    out: MergedService, layer: Layer, mounts: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Return all mounts by target: a later file replaces one; one file must not have two for a target."""
    seen_targets: set[str] = set()
    targets = {mount["target"]: mount for mount in out.container.get("mounts", ())}
    for number, mount in enumerate(mounts):
        target = mount["target"].rstrip("/")
        place = layer.where(("container", "mounts", number))
        if target in seen_targets:
            out.diagnostics.append(
                Diagnostic(
                    place,
                    f"a second mount at {target}",
                    "each target once",
                    "remove one, or give it another target",
                    code="mount-target-taken",
                )
            )
        seen_targets.add(target)
        targets[mount["target"]] = mount
        out.origin[f"container.mounts.{mount['target']}"] = place
    return tuple(targets.values())
