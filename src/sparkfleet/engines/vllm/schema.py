"""What ``vllm serve`` of one release accepts: flags, registries, keys of nested configs.

The facts come from the release's own argument parser (``data/ask_parser.py`` reads it out, ``tools/`` bundles
it). Importing this module is cheap; a release is read when it is first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from sparkfleet.contract import codec
from sparkfleet.engines.vllm import schema_archive

Kind = Literal["store", "switch", "bool", "append", "help", "other"]
"""store: takes a value; switch: a bare flag without a ``--no-`` form; bool: ``--x`` and ``--no-x``; append:
may be given several times; help: prints and exits; other: an action of vLLM's own that takes values."""

_KINDS: Mapping[str, Kind] = {
    "store": "store",
    "store_true": "switch",
    "store_false": "switch",
    "bool_optional": "bool",
    "append": "append",
    "help": "help",
}
_TYPES = frozenset(
    {"str", "int", "float", "bool", "human_int", "human_int_or_auto", "json", "config", "json_or_str", "name"}
)


@dataclass(frozen=True)
class Flag:
    """One flag of ``vllm serve``."""

    name: str
    """The long name that the parser itself shows, as ``--max-model-len``."""
    kind: Kind = "store"
    type: str = "str"
    """str, int, float, bool, human_int (64K), human_int_or_auto, json, config (JSON that is read into
    ``json_class``), json_or_str, or name (case and ``-``/``_`` play no part)."""
    optional: bool = False
    """``None`` and "" mean no value."""
    nargs: int | str | None = None
    """Number of values as in argparse: None one, ``+``, ``*``, ``?``."""
    choices: tuple[Any, ...] | None = None
    known: tuple[str, ...] = ()
    """Built-in values, if plugins may add more (no ``choices``)."""
    default: Any = None
    """Default value. A nested config is ``{}``: each key has its own default."""
    aliases: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    deprecated: bool = False
    json_class: str = ""
    """Name of the nested config that the JSON is read into."""

    @property
    def takes_value(self) -> bool:
        """Return whether a value follows the flag."""
        return self.kind in ("store", "append", "other")

    @property
    def takes_several(self) -> bool:
        """Return whether more than one value may follow the flag."""
        return self.takes_value and self.nargs not in (None, "?", 1)

    @property
    def takes_json(self) -> bool:
        """Return whether the flag's value is (or may be) JSON."""
        return self.takes_value and self.type in ("json", "config", "json_or_str")


@dataclass(frozen=True)
class JsonClass:
    """A nested config that a JSON flag is read into."""

    name: str
    fields: Mapping[str, Mapping[str, Any]]
    """Key -> ``type`` (description), ``default``, ``init`` False for keys that cannot be given."""
    forbids_unknown: bool = False
    """An unknown key ends the start; else it is dropped silently."""


@dataclass(frozen=True)
class Schema:
    """Everything that one vLLM accepts."""

    version: str
    flags: Mapping[str, Flag] = field(repr=False)
    registries: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """envs, quantization, load_format, tool_parsers, reasoning_parsers, attention_backends, architectures
    ..."""
    json_classes: Mapping[str, JsonClass] = field(default_factory=dict, repr=False)
    packages: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Python packages that the release requires (or that the image has), with the version range (or
    version)."""

    @functools.cached_property
    def options(self) -> Mapping[str, Flag]:
        """Every spelling of a flag -> the flag: canonical names, aliases, negatives."""
        return {
            option: flag
            for flag in self.flags.values()
            for option in (flag.name, *flag.aliases, *flag.negatives)
        }

    @functools.cached_property
    def long_options(self) -> tuple[str, ...]:
        """All options that start with two dashes, sorted."""
        return tuple(sorted(option for option in self.options if option.startswith("--")))

    def abbreviated(self, option: str) -> tuple[str, ...]:
        """Return the options that the abbreviation ``option`` may stand for in argparse."""
        if option.startswith("--"):
            names = self.long_options if len(option) > len("--") else ()
        else:
            names = tuple(name for name in self.options if not name.startswith("--"))
        return tuple(name for name in names if name.startswith(option))

    def has(self, registry: str, name: str) -> bool | None:
        """Return whether ``name`` is registered; None if the registry is unknown."""
        names = self.registries.get(registry)
        return name in names if names else None


def versions() -> tuple[str, ...]:
    """Return the bundled releases, oldest first."""
    return tuple(schema_archive.read()["versions"])


@functools.cache
def load(version: str) -> Schema:
    """Return the schema of exactly that bundled release. ``KeyError`` when it is not bundled."""
    dump = schema_archive.release(schema_archive.read(), version)
    return from_dump(codec.read(SchemaDump, dump, f"{schema_archive.FILE}: {version}"))


@functools.cache
def nearest(version: str) -> tuple[Schema, bool]:
    """Return the schema that is closest to ``version``, and whether it is that very release.

    Closest is the newest bundled release at or below it, else the oldest one. A build of a release
    (``0.17.1+a03ca76a.nv26.03``) counts as that release; an unreadable or empty version gives the newest, not
    exact.
    """
    known = [Version(name) for name in versions()]
    try:
        requested = Version(version)
    except InvalidVersion:
        return load(str(known[-1])), False
    below = [candidate for candidate in known if candidate <= requested]
    best = below[-1] if below else known[0]
    return load(str(best)), str(best) == requested.public


@dataclass(frozen=True)
class FlagDump:
    """A flag as the image's parser describes it (``data/ask_parser.py``)."""

    kind: str
    type: str | None = None
    json_class: str = ""
    nargs: Any = None
    choices: tuple[Any, ...] | None = None
    hint: tuple[Any, ...] | None = None
    default: Any = None
    aliases: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    deprecated: Any = None


@dataclass(frozen=True)
class SchemaDump:
    """The schema as an image describes it, and as the bundle has it for each release."""

    vllm_version: str
    flags: Mapping[str, FlagDump]
    json_classes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    registries: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)


def from_dump(dump: SchemaDump) -> Schema:
    """Return the schema of a dump."""
    classes = {
        name: JsonClass(
            name,
            {key: value for key, value in fields.items() if key != "__extra__"},
            fields.get("__extra__") == "forbid",
        )
        for name, fields in dump.json_classes.items()
    }
    return Schema(
        version=dump.vllm_version,
        flags={name: _flag(name, entry) for name, entry in dump.flags.items()},
        registries={name: tuple(names or ()) for name, names in dump.registries.items()},
        json_classes=classes,
        packages=dump.packages,
    )


def _flag(name: str, entry: FlagDump) -> Flag:
    kind, optional, json_class = entry.type or "str", False, entry.json_class
    if kind.startswith("optional:"):
        kind, optional = kind.removeprefix("optional:"), True
    if kind.startswith("json:"):
        kind, json_class = "config", kind.removeprefix("json:")
    kind = kind.replace("human_readable_int", "human_int")
    choices = entry.choices
    if kind.startswith("enum:"):
        kind, choices = "str", tuple(kind.removeprefix("enum:").split(","))
    if kind == "<lambda>" and choices:
        kind = "name"
    default = entry.default
    return Flag(
        name=name,
        kind=_KINDS.get(entry.kind, "other"),
        type=kind if kind in _TYPES else "str",
        optional=optional,
        nargs=entry.nargs,
        choices=choices,
        known=entry.hint or () if choices is None else (),
        default={} if isinstance(default, dict) and "__dataclass__" in default else default,
        aliases=entry.aliases,
        negatives=entry.negatives,
        deprecated=bool(entry.deprecated),
        json_class=json_class,
    )
