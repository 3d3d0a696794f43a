"""The arguments of ``vllm serve``, grouped as vLLM's own parser groups them.

vLLM's parser is argparse with extensions: underscores in names are dashes, ``--config.key value`` makes
a JSON object, ``-O3`` is ``--optimization-level 3``, unique prefixes are taken. This module says which
word belongs to which flag; what it means is ``values``, what is wrong with it is ``check``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.engines.vllm.schema import Flag, Schema
from sparkfleet.engines.vllm.values import human_int

NEGATIVE_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
"""What argparse reads as a value although it begins with a dash."""


@dataclass(frozen=True)
class Option:
    """One flag as written."""

    written: str
    """The option, dashes for underscores, without ``=value``."""
    name: str
    """Canonical long name, or the option itself if unknown."""
    flag: Flag | None
    args: tuple[str, ...] = ()
    """Its values."""
    inline: bool = False
    """Written as ``--x=value``."""
    abbreviates: str = ""
    """The full option where ``written`` is a prefix of it."""
    candidates: tuple[str, ...] = ()
    """The options that an ambiguous prefix could mean."""

    @property
    def negative(self) -> bool:
        """Return whether this is the ``--no-x`` form of a flag."""
        return self.flag is not None and (self.abbreviates or self.written) in self.flag.negatives


@dataclass(frozen=True)
class CommandLine:
    """A command line after ``vllm serve``, grouped."""

    positionals: tuple[str, ...]
    options: tuple[Option, ...]
    model_first: bool = True
    """The first argument is no option."""


def normalise(option: str) -> str:
    """Return an option as the parser sees it: underscores of its name are dashes, up to the first dot."""
    if not option.startswith("--"):
        return option
    name, equals, value = option.partition("=")
    head, dot, tail = name.partition(".")
    return head.replace("_", "-") + dot + tail + equals + value


def group(args: Sequence[str], schema: Schema | None) -> CommandLine:
    """Assign arguments to flags. Without a schema, all up to the next option belong to a flag."""
    old_level = schema is not None and "-O" in schema.options
    reader = _Reader(_merge_dotted(_spell_out(args, old_level=old_level)), schema)
    reader.read()
    return CommandLine(
        tuple(reader.positionals), tuple(reader.options), not "".join(args[:1]).startswith("-")
    )


def _spell_out(args: Sequence[str], *, old_level: bool) -> list[str]:
    """Write dashes for underscores, and ``-O3``, ``-O=3`` and ``-O 3`` as what they stand for.

    ``old_level``: up to 0.11 ``-O`` was ``--compilation-config``, and ``-O3`` its key ``level``.
    """
    level = "-O.level" if old_level else "--optimization-level"
    out: list[str] = []
    for index, word in enumerate(args):
        if word == "-O" and args[index + 1 : index + 2] and args[index + 1] in ("0", "1", "2", "3"):
            out.append(level)
        elif word.startswith("-O") and word != "-O" and not (old_level and word.startswith("-O.")):
            out += [level, word[3:] if word[2] == "=" else word[2:]]
        else:
            out.append(normalise(word))
    return out


def _merge_dotted(args: list[str]) -> list[str]:
    """Write all ``--x.key value`` as one ``--x {"key":value}`` at the end, as vLLM does before it parses."""
    left: list[str] = []
    objects: dict[str, dict[str, Any]] = {}
    rest = iter(args)
    for word in rest:
        option, equals, value = word.partition("=")
        if not _is_dotted(option):
            left.append(word)
            continue
        if not equals:
            following = next(rest, None)
            if following is None:
                left.append(word)
                break
            value = following
        if option.endswith("+"):
            option, value = option.removesuffix("+"), json.dumps(value.split(","))
        head, *path = option.split(".")
        _set_path(objects.setdefault(head, {}), path, _dotted_value(value))
    for head, content in objects.items():
        left += [head, json.dumps(content, separators=(",", ":"), ensure_ascii=False)]
    return left


def _is_dotted(option: str) -> bool:
    return option.startswith("-") and "." in option and not NEGATIVE_NUMBER.fullmatch(option)


def _dotted_value(text: str) -> Any:
    """Read JSON, else a number as people write it (``80g``), else text."""
    for read in (json.loads, human_int):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _set_path(target: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a nested value of an object; objects on the path are created or merged, lists joined."""
    *parents, last = path
    for key in parents:
        child = target.get(key)
        if not isinstance(child, dict):
            child = target[key] = {}
        target = child
    if isinstance(value, dict) and isinstance(target.get(last), dict):
        for key, inner in value.items():
            _set_path(target[last], [key], inner)
    elif isinstance(value, list) and isinstance(target.get(last), list):
        target[last] += value
    else:
        target[last] = value


@dataclass
class _Reader:
    args: list[str]
    schema: Schema | None
    at: int = 0
    positionals: list[str] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)

    def read(self) -> None:
        while self.at < len(self.args):
            word = self.args[self.at]
            self.at += 1
            if word == "--":
                self.positionals += self.args[self.at :]
                return
            if self.is_option(word):
                self.take(word)
            else:
                self.positionals.append(word)

    def is_option(self, word: str) -> bool:
        """As argparse decides it: a dash in front, but no negative number and nothing with a space in it."""
        if not word.startswith("-") or word == "-":
            return False
        option = word.partition("=")[0]
        if self.schema is not None and (option in self.schema.options or self.schema.abbreviated(option)):
            return True
        return not NEGATIVE_NUMBER.fullmatch(word) and " " not in word

    def take(self, word: str) -> None:
        option, equals, value = word.partition("=")
        flag, full, candidates = self.find(option)
        if flag is None and not candidates and not equals and (attached := self.attached(option)):
            flag, option, value = attached
            equals = "="
        taken = (value,) if equals else self.values("*" if candidates else self.arity(flag))
        name = flag.name if flag else option
        self.options.append(Option(option, name, flag, taken, bool(equals), full, candidates))

    def find(self, option: str) -> tuple[Flag | None, str, tuple[str, ...]]:
        """Return the flag of an option, the full option if abbreviated, and all candidates."""
        if self.schema is None:
            return None, "", ()
        if option in self.schema.options:
            return self.schema.options[option], "", ()
        meant = self.schema.abbreviated(option)
        if len(meant) == 1:
            return self.schema.options[meant[0]], meant[0], ()
        return None, "", meant

    def attached(self, option: str) -> tuple[Flag, str, str] | None:
        """Return flag, option and value of a short option with its value attached, as ``-qfp8``."""
        short, value = option[:2], option[2:]
        flag = self.schema.options.get(short) if self.schema else None
        return (flag, short, value) if flag and value and not option.startswith("--") else None

    def arity(self, flag: Flag | None) -> int | str | None:
        if flag is None:
            return "*" if self.schema is None else "?"
        return flag.nargs if flag.takes_value else 0

    def values(self, arity: int | str | None) -> tuple[str, ...]:
        """Consume the following arguments, up to the number that the flag takes."""
        most = arity if isinstance(arity, int) else 1 if arity in (None, "?") else len(self.args)
        start = self.at
        while self.at < len(self.args) and self.at - start < most and not self.ends_values(self.at):
            self.at += 1
        return tuple(self.args[start : self.at])

    def ends_values(self, index: int) -> bool:
        return self.args[index] == "--" or self.is_option(self.args[index])
