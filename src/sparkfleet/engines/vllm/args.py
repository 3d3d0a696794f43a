"""Arguments of ``vllm serve``: parsed to typed values, and rendered from them.

``render`` turns flags from YAML into arguments; ``parse`` reads every spelling to the same values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkfleet.engines.base import value_text
from sparkfleet.engines.vllm import values
from sparkfleet.engines.vllm.arg_parser import NEGATIVE_NUMBER, Option, group, normalise
from sparkfleet.engines.vllm.schema import Flag, Schema

FlagValue = bool | int | float | str | list[Any] | dict[str, Any] | None


SHORT_NAMES: Mapping[str, str] = {
    "ac": "attention-config",
    "asc": "api-server-count",
    "cc": "compilation-config",
    "dc": "diffusion-config",
    "dcp": "decode-context-parallel-size",
    "dp": "data-parallel-size",
    "dpa": "data-parallel-address",
    "dpb": "data-parallel-backend",
    "dpe": "data-parallel-external-lb",
    "dph": "data-parallel-hybrid-lb",
    "dpl": "data-parallel-size-local",
    "dpm": "data-parallel-multi-port-external-lb",
    "dpn": "data-parallel-rank",
    "dpp": "data-parallel-rpc-port",
    "dpr": "data-parallel-start-rank",
    "ep": "enable-expert-parallel",
    "n": "nnodes",
    "pcp": "prefill-context-parallel-size",
    "pp": "pipeline-parallel-size",
    "q": "quantization",
    "r": "node-rank",
    "sc": "speculative-config",
    "tp": "tensor-parallel-size",
}
"""Short option -> flag; the same in every release that has the flag."""
LONG_NAMES: Mapping[str, str] = {"device-memory-utilization": "gpu-memory-utilization"}
"""Second long name -> flag. Earlier releases know the flag alone."""
_LEVEL = re.compile(r"-?O([0-3]?)")


@dataclass(frozen=True)
class Parsed:
    """A command line by meaning."""

    model: str
    """The positional model, else that of ``--model``, else ""."""
    values: Mapping[str, Any]
    """Canonical flag (``--max-model-len``) -> typed value, in order; the last one wins. Flags that the
    schema does not have are here, too, with their value as far as it can be read."""
    unknown: tuple[str, ...] = ()
    """Flags and positional arguments that the schema does not have."""


def full_flag(name: str, value: FlagValue) -> tuple[str, FlagValue]:
    """See ``Engine.full_flag``. ``O3: true`` and ``-O: 3`` are the flag ``optimization-level``."""
    level = _LEVEL.fullmatch(name)
    if level and (not level[1] or value is True):
        return "optimization-level", int(level[1]) if level[1] else value
    head, dot, rest = name.lstrip("-").partition(".")
    return SHORT_NAMES.get(head, LONG_NAMES.get(head, head)) + dot + rest, value


def canonical(key: str, schema: Schema | None) -> str:
    """Return the flag's canonical name for a key as users write it: ``max_model_len``, ``tp``, ``--x``.

    Of ``attention_config.backend`` the part before the dot is a flag.
    """
    head, dot, rest = key.lstrip("-").partition(".")
    long, short = normalise(f"--{head}"), f"-{head}"
    flag = schema and (schema.options.get(long) or schema.options.get(short))
    if not flag or long in flag.negatives:
        return long + dot + rest
    return flag.name + dot + rest


def render(model: str, flags: Mapping[str, FlagValue], schema: Schema | None) -> tuple[str, ...]:
    """Return the arguments of ``vllm serve``: the model, then the flags in order.

    True is the bare flag, False its negative form (nothing, where the flag has none), None leaves the flag
    out, a mapping is JSON, a list is several words or JSON as the flag wants it.
    """
    args = [model] if model else []
    for key, value in flags.items():
        name = canonical(key, schema)
        args += _flag_args(name, schema.options.get(name) if schema else None, value)
    return tuple(args)


def _flag_args(name: str, flag: Flag | None, value: FlagValue) -> list[str]:
    if value is None:
        return []
    if "." in name:  # a key of a nested config, whose value is JSON
        return _pair(name, value_text(value))
    if isinstance(value, bool) and (flag is None or not flag.takes_value):
        return _switch_args(name, flag, on=value)
    if isinstance(value, list) and _is_word_list(flag, value):
        args = [value_text(item) for item in value]
        if flag is not None and flag.kind == "append":
            return [part for word in args for part in _pair(name, word)]
        if flag is None or flag.takes_several:
            return _pair(name, args[0]) if len(args) == 1 else [name, *args]
        return _pair(name, ",".join(args))
    return _pair(name, value_text(value))


def _switch_args(name: str, flag: Flag | None, *, on: bool) -> list[str]:
    plain = f"--no-{name.removeprefix('--')}"
    if on:
        return [name]
    if flag is None:
        return [plain]
    if name in flag.negatives:
        return [flag.name]
    return [plain if plain in flag.negatives else flag.negatives[0]] if flag.negatives else []


def _is_word_list(flag: Flag | None, value: list[Any]) -> bool:
    """Return whether a list is several arguments, objects in it as JSON; else all of it is JSON."""
    if flag is not None and (flag.takes_json or flag.takes_several):
        return bool(value) and flag.takes_several
    return bool(value) and not any(isinstance(item, list | dict) for item in value)


def _pair(name: str, word: str) -> list[str]:
    """Write a flag and its value; ``--x=-y`` if the value looks like an option."""
    if word.startswith("-") and not NEGATIVE_NUMBER.fullmatch(word):
        return [f"{name}={word}"]
    return [name, word]


def parse(args: Sequence[str], schema: Schema | None) -> Parsed:
    """Return the meaning of the arguments of ``vllm serve``. Never raises: what cannot be read stays text."""
    grouped = group(args, schema)
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for option in grouped.options:
        if option.flag is None and schema is not None:
            unknown.append(option.written)
        name, value = _meaning(option, schema)
        if option.flag is not None and option.flag.kind == "append":
            value = [*values.get(name, []), value]
        values[name] = value
    model, *strays = grouped.positionals or ("",)
    named = values.pop("--model", None)
    if schema is not None:
        unknown += strays
    elif strays:
        values["(words)"] = strays
    return Parsed(model or (named if isinstance(named, str) else ""), values, tuple(unknown))


def _meaning(option: Option, schema: Schema | None) -> tuple[str, Any]:
    flag = option.flag
    if flag is None:
        if schema is None and not option.args and option.name.startswith("--no-"):
            return f"--{option.name.removeprefix('--no-')}", False
        return option.name, values.guess(option.args)
    if not flag.takes_value:
        return flag.name, not option.negative
    return flag.name, values.several(flag, option.args)
