"""Merges ``prepare:`` of group_data and host file into resources. The host file wins by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.config.merge import Layer
from sparkfleet.config.resource_models import PrepareSpec, plain
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Prepare
from sparkfleet.resources import registry
from sparkfleet.resources.base import Declaration, Resource, Setting


@dataclass
class MergedSettings:
    """Declared values of one Spark, with their places."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[tuple[str, ...], str] = field(default_factory=dict)

    def where(self, *path: str) -> str:
        """Return ``file:line`` of a value."""
        while path and path not in self.origin:
            path = path[:-1]
        return self.origin.get(path, "prepare")


def settings() -> tuple[Setting, ...]:
    """Return the settings of all kinds."""
    return tuple(setting for kind in registry.kinds().values() for setting in kind.settings)


def merge(layers: Sequence[Layer]) -> MergedSettings:
    """Return the values of all layers; the last one wins, by key."""
    out, merged = MergedSettings(), {setting.key for setting in settings() if setting.merged}
    for layer in layers:
        for name, value in (layer.values.get("prepare") or {}).items():
            if value is None:
                continue
            out.origin[name,] = layer.where(("prepare", name))
            if name in merged:
                out.values[name] = {**out.values.get(name, {}), **value}
                out.origin |= {(name, key): layer.where(("prepare", name, key)) for key in value}
            else:
                out.values[name] = value
    for name in merged & set(out.values):
        out.values[name] = {key: value for key, value in out.values[name].items() if value is not None}
    return out


def prepare(layers: Sequence[Layer], cache_dir: str, hf_token: str, diagnostics: list[Diagnostic]) -> Prepare:
    """Return the declared host state of a Spark; errors are added to ``diagnostics``."""
    merged = merge(layers)
    spec = PrepareSpec.model_validate(merged.values)
    values = {one.key: plain(getattr(spec, one.key), one.type) for one in settings()}

    def error(location: str, message: str, expected: str, hint: str) -> None:
        diagnostics.append(Diagnostic(location, message, expected, hint, code="resource-invalid"))

    declaration = Declaration(values, merged.where, error, cache_dir, hf_token)
    resources: dict[str, Resource] = {}
    for kind in registry.kinds().values():
        for resource in kind.declare(declaration):
            resources.setdefault(resource.id, resource)
    order = {name: number for number, name in enumerate(registry.kinds())}
    items = tuple(sorted(resources.values(), key=lambda resource: order[resource.kind]))
    chosen = spec.model_dump(include={"docker", "offline"}, exclude_none=True)
    return Prepare(**chosen, resources=items)
