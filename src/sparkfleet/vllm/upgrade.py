"""What changes when an image's vLLM is replaced by another: what is gone, what is new, which defaults."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sparkfleet.vllm.check import REGISTRY_OF
from sparkfleet.vllm.schema import Flag, Schema


@dataclass(frozen=True)
class DefaultChange:
    """A flag that means something else when it is not given."""

    flag: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Upgrade:
    """The difference between two releases, as far as a command line can see it."""

    old: str
    new: str
    flags_gone: tuple[str, ...] = ()
    flags_new: tuple[str, ...] = ()
    defaults: tuple[DefaultChange, ...] = ()
    values_gone: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Flag -> values that are no longer taken."""
    env_gone: tuple[str, ...] = ()
    env_new: tuple[str, ...] = ()

    def touching(self, flags: Collection[str], env: Collection[str]) -> Upgrade:
        """Return what concerns these flags (canonical names) and variables, and every changed default.

        A default concerns those who do not give the flag; whoever gives it is not concerned.
        """
        return Upgrade(
            self.old,
            self.new,
            flags_gone=tuple(name for name in self.flags_gone if name in flags),
            defaults=tuple(change for change in self.defaults if change.flag not in flags),
            values_gone=tuple((name, gone) for name, gone in self.values_gone if name in flags),
            env_gone=tuple(name for name in self.env_gone if name in env),
        )

    def __bool__(self) -> bool:
        """Return whether anything changed."""
        parts = (
            self.flags_gone,
            self.flags_new,
            self.defaults,
            self.values_gone,
            self.env_gone,
            self.env_new,
        )
        return any(parts)


def upgrade(old: Schema, new: Schema) -> Upgrade:
    """Return what changes from ``old`` to ``new``; works downwards as well."""
    both = [(old.flags[name], new.flags[name]) for name in old.flags if name in new.flags]
    return Upgrade(
        old.version,
        new.version,
        flags_gone=tuple(name for name in old.flags if name not in new.options),
        flags_new=tuple(name for name in new.flags if name not in old.options),
        defaults=tuple(
            DefaultChange(before.name, before.default, after.default)
            for before, after in both
            if before.default != after.default
        ),
        values_gone=(*_choices_gone(both), *_names_gone(old, new)),
        env_gone=_missing(old.registries.get("envs", ()), new.registries.get("envs", ())),
        env_new=_missing(new.registries.get("envs", ()), old.registries.get("envs", ())),
    )


def _choices_gone(both: list[tuple[Flag, Flag]]) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for before, after in both:
        taken = after.choices or after.known
        gone = _missing(_texts(before.choices or before.known), _texts(taken)) if taken else ()
        if gone:
            found.append((before.name, gone))
    return found


def _names_gone(old: Schema, new: Schema) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for flag, (registry, _) in REGISTRY_OF.items():
        taken = new.registries.get(registry, ())
        gone = _missing(old.registries.get(registry, ()), taken) if taken else ()
        if gone:
            found.append((flag, gone))
    return found


def _missing(names: Collection[str], among: Collection[str]) -> tuple[str, ...]:
    kept = frozenset(among)
    return tuple(name for name in names if name not in kept)


def _texts(values: Collection[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values if value is not None)
