"""The words of a ``vllm serve`` command line, grouped as vLLM's own parser groups them.

vLLM's parser is argparse with some habits of its own: underscores in option names are dashes, ``--config.key
value`` builds a JSON object, ``-O3`` is ``--optimization-level 3``, unique prefixes are accepted. This module
says which word belongs to which flag; what a value means is ``values``, what is wrong with it is ``check``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sparkfleet.vllm.schema import Flag, Schema

_NEGATIVE_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
_OPTIMIZATION = "--optimization-level"


@dataclass(frozen=True)
class Option:
    """One flag as it was given."""

    written: str
    """The option as the user wrote it, without ``=value``."""
    name: str
    """Canonical long name, or the normalised option where no flag is known."""
    flag: Flag | None
    words: tuple[str, ...] = ()
    """Its values."""
    inline: bool = False
    """Given as ``--x=value``."""
    dotted: bool = False
    """Collected from ``--x.key value`` words."""
    abbreviates: str = ""
    """The full option where ``written`` is a prefix of it."""
    candidates: tuple[str, ...] = ()
    """The options that an ambiguous prefix could mean."""

    @property
    def negative(self) -> bool:
        """Return whether this is the ``--no-x`` form of a flag."""
        option = self.abbreviates or normalise(self.written)
        return self.flag is not None and option in self.flag.negatives


@dataclass(frozen=True)
class Words:
    """A command line after ``vllm serve``, grouped."""

    positionals: tuple[str, ...]
    options: tuple[Option, ...]


def normalise(option: str) -> str:
    """Return an option as the parser sees it: underscores of its name are dashes, up to the first dot."""
    if not option.startswith("--"):
        return option
    head, dot, tail = option.partition(".")
    return head.replace("_", "-") + dot + tail


def group(words: Sequence[str], schema: Schema | None) -> Words:
    """Return which word belongs to which flag. Without a schema, all words up to the next option do."""
    reader = _Reader(_spell_out(words), schema)
    reader.read()
    return Words(tuple(reader.positionals), (*reader.options, *reader.collected()))


def _spell_out(words: Sequence[str]) -> list[str]:
    """Write ``-O3``, ``-O=3`` and ``-O 3`` as what they stand for."""
    out: list[str] = []
    for index, word in enumerate(words):
        if word == "-O" and words[index + 1 : index + 2] and words[index + 1] in ("0", "1", "2", "3"):
            out.append(_OPTIMIZATION)
        elif word.startswith("-O") and len(word) > len("-O") and word[2] != ".":
            out += [_OPTIMIZATION, word[3:] if word[2] == "=" else word[2:]]
        else:
            out.append(word)
    return out


@dataclass
class _Reader:
    words: list[str]
    schema: Schema | None
    at: int = 0
    positionals: list[str] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    dotted: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> None:
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word == "--":
                self.positionals += self.words[self.at :]
                return
            if self.is_option(word):
                self.take(word)
            else:
                self.positionals.append(word)

    def is_option(self, word: str) -> bool:
        """As argparse decides it: a dash in front, but no negative number and nothing with a space in it."""
        if not word.startswith("-") or word == "-":
            return False
        option = normalise(word.partition("=")[0])
        if self.schema is not None and (option in self.schema.options or self.schema.abbreviated(option)):
            return True
        return not _NEGATIVE_NUMBER.fullmatch(word) and " " not in word.partition("=")[0]

    def take(self, word: str) -> None:
        written, equals, value = word.partition("=")
        option = normalise(written)
        if "." in option:
            self.take_dotted(option, value if equals else None)
            return
        flag, full, candidates = self.find(option)
        if flag is None and not equals and (attached := self.attached(option)):
            flag, written, value = attached
            equals, full = "=", ""
        taken = (value,) if equals else self.values("*" if candidates else self.arity(flag))
        name = flag.name if flag else option
        inline = bool(equals)
        self.options.append(
            Option(written, name, flag, taken, inline, abbreviates=full, candidates=candidates)
        )

    def find(self, option: str) -> tuple[Flag | None, str, tuple[str, ...]]:
        """Return the flag of an option, the full option where it is abbreviated, and what it could mean."""
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
        """Take the words that follow, as many as the flag wants and there are."""
        most = arity if isinstance(arity, int) else 1 if arity in (None, "?") else len(self.words)
        start = self.at
        while self.at < len(self.words) and self.at - start < most and not self.ends_values(self.at):
            self.at += 1
        return tuple(self.words[start : self.at])

    def ends_values(self, index: int) -> bool:
        return self.words[index] == "--" or self.is_option(self.words[index])

    def take_dotted(self, option: str, value: str | None) -> None:
        """Collect ``--x.key value`` into the JSON object of ``--x``."""
        head, *path = option.split(".")
        if value is None:
            if self.at >= len(self.words):
                self.options.append(Option(option, head, self.find(head)[0]))
                return
            value = self.words[self.at]
            self.at += 1
        if path[-1].endswith("+"):
            path[-1] = path[-1].removesuffix("+")
            value = json.dumps(value.split(","))
        _set_path(self.dotted.setdefault(head, {}), path, _json_or_text(value))

    def collected(self) -> list[Option]:
        """Return the dotted options as what they stand for: one JSON object each, after all others."""
        options = []
        for head, value in self.dotted.items():
            flag, full, candidates = self.find(head)
            name = flag.name if flag else head
            text = json.dumps(value, separators=(",", ":"))
            options.append(
                Option(head, name, flag, (text,), dotted=True, abbreviates=full, candidates=candidates)
            )
        return options


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _set_path(target: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for key in parents:
        child = target.get(key)
        if not isinstance(child, dict):
            child = target[key] = {}
        target = child
    if isinstance(value, dict) and isinstance(target.get(last), dict):
        for key, inner in value.items():
            _set_path(target[last], [key], inner)
    else:
        target[last] = value
