"""YAML with line numbers of every key and value.

Values are plain data (dict, list, str, int, float, bool, None) by the rules of YAML 1.2: only ``true`` and
``false`` are booleans (``on``, ``yes`` are strings); ``0123``, ``12:30`` and dates are strings. Aliases, tags
and several documents per file are errors, so that every value has one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.nodes import ScalarNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

MAX_BYTES = 1 << 20
MAX_DEPTH = 50

Path_ = tuple[str | int, ...]
"""Where a value is inside a document: ``("serve", 0, "flags", "max-model-len")``."""

_TAG = "tag:yaml.org,2002:"

# What YAML does not allow, lone surrogates included. A tab is the scanner's to refuse where it indents.
_CONTROL = re.compile(r"[^\x09\x0A\x0D\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


_FLOAT = (
    r"[-+]?(([0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})([eE](-[0-9]{1,3}|\+?[0-9]{1,2}))?"
    r"|[0-9]{1,18}[eE](-[0-9]{1,3}|\+[0-9]{1,2}))"
)


class _Resolver(BaseResolver):
    """Which plain scalars are not strings."""


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # At most 18 digits: more is an id or a hash, not a number. A leading 0 is text as well.
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", list("-+0123456789")),
    # A dot or a signed exponent is needed: 1e5 may be the start of a commit.
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Resolver.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)


class _PythonParser(Reader, Scanner, Parser):
    """The parser whose error messages are shown."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


_parsers: list[Any] = [_PythonParser]
if yaml.__with_libyaml__:
    from yaml import cyaml

    _parsers.insert(0, cyaml.CParser)  # type: ignore[attr-defined]  # ten times as fast; its messages say less


@dataclass(frozen=True)
class Document:
    """One YAML file: plain data, and the line of each key and list item."""

    file: str
    """Path, relative to the current directory if it is below it."""
    data: Any
    lines: dict[Path_, int]

    def where(self, path: Path_ = ()) -> str:
        """Return ``file:line`` of that value, or of the nearest enclosing value in the file."""
        while path not in self.lines and path:
            path = path[:-1]
        return f"{self.file}:{self.lines.get(path, 1)}"

    def has(self, path: Path_) -> bool:
        """Return whether the file contains that value."""
        return path in self.lines


def shown(path: Path) -> str:
    """Return the path, relative to the current directory if it is below it."""
    absolute = path.absolute()
    cwd = Path.cwd()
    return str(absolute.relative_to(cwd)) if absolute.is_relative_to(cwd) else str(path)


_unsaved: dict[Path, bytes] = {}


@contextmanager
def unsaved(path: Path, text: str) -> Iterator[None]:
    """Have ``read`` return this text as the content of the file, which is not written yet."""
    _unsaved[path.absolute()] = text.encode()
    try:
        yield
    finally:
        del _unsaved[path.absolute()]


def unsaved_in(directory: Path) -> set[Path]:
    """Return the files of a directory that are not written yet."""
    return {directory / path.name for path in _unsaved if path.parent == directory.absolute()}


def read(path: Path, file: str | None = None, max_bytes: int = MAX_BYTES) -> Document:
    """Return the document in that file; raise ``SparkfleetError`` with every error of its YAML."""
    file = file or shown(path)
    if path.absolute() in _unsaved:
        return parse(_unsaved[path.absolute()], file)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            expected = f"at most {max_bytes >> 20} MiB"
            raise _error("yaml-unreadable", file, 1, f"{size >> 20} MiB", expected, "check the path")
        raw = path.read_bytes()
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        raise _error("yaml-unreadable", file, 0, message, "a readable file", f"ls -l {file}") from None
    return parse(raw, file)


def parse(raw: bytes, file: str) -> Document:
    """Return the document in these bytes; ``file`` names them in errors."""
    text = _decode(raw, file)
    for parser in _parsers:
        try:
            builder = _Builder(file, parser(text))
            data = builder.document()
        except yaml.YAMLError as error:
            if parser is not _parsers[-1]:
                continue  # try again with the parser whose messages are readable
            raise _syntax(error, text, file) from None
        if builder.diagnostics:
            raise SparkfleetError(*builder.diagnostics)
        return Document(file, data, builder.lines)
    raise AssertionError("unreachable: the last parser returns or raises")


def _error(  # noqa: PLR0917  (one a field of a diagnostic)
    code: str, file: str, line: int, found: str, expected: str, hint: str
) -> SparkfleetError:
    where = f"{file}:{line}" if line else file
    return SparkfleetError(Diagnostic(where, found, expected, hint, code=code))


def _decode(raw: bytes, file: str) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message, hint = "not UTF-8 text", "save the file as UTF-8 (without BOM)"
        raise _error("yaml-unreadable", file, line, message, "UTF-8 text", hint) from None
    bad = _CONTROL.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        message = f"control character U+{ord(bad[0]):04X}"
        raise _error("yaml-unreadable", file, line, message, "printable text", "remove the character")
    return text


def _syntax(error: yaml.YAMLError, text: str, file: str) -> SparkfleetError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else 1
    message = str(getattr(error, "problem", None) or error).split("\n")[0]
    context = getattr(error, "context", None)
    lines = text.splitlines()
    source = lines[line - 1] if line <= len(lines) else ""
    remedy = "check the indentation, colons and quotes of this line and the one before"
    conflict = next((number for number, one in enumerate(lines, 1) if one.startswith("<<<<<<< ")), 0)
    if conflict:
        problem, hint = (
            "an unresolved merge conflict",
            "resolve it, and remove the lines with <<<<<<<, ======= and >>>>>>>",
        )
        return _error("yaml-syntax", file, conflict, problem, "valid YAML", hint)
    if source.lstrip(" ").startswith("\t") or "'\\t'" in message:
        message, context, remedy = "indented with a tab", None, "indent with spaces"
    elif message.startswith("mapping values are not allowed"):
        remedy = "put the value in quotes if it contains ': ', or check the indentation"
    problem = f"invalid YAML: {message}" + (f" ({context})" if context else "")
    return _error("yaml-syntax", file, line, problem, "valid YAML", remedy)


class _Builder:
    """Builds plain data from events, with lines and errors. The depth is limited (stack size)."""

    def __init__(self, file: str, parser: Any) -> None:
        self.file = file
        self.parser = parser
        self.resolver = _Resolver()
        self.lines: dict[Path_, int] = {}
        self.diagnostics: list[Diagnostic] = []

    def note(self, code: str, event: Any, found: str, expected: str, hint: str) -> None:
        self.diagnostics.append(
            Diagnostic(f"{self.file}:{event.start_mark.line + 1}", found, expected, hint, code=code)
        )

    def stop(self, code: str, event: Any, found: str, expected: str, hint: str) -> SparkfleetError:
        """Return an error that ends reading the file."""
        self.note(code, event, found, expected, hint)
        return SparkfleetError(*self.diagnostics)

    def document(self) -> Any:
        event = self.parser.get_event()  # the stream's start
        event = self.parser.get_event()
        if isinstance(event, StreamEndEvent):
            raise _error(
                "yaml-empty",
                self.file,
                1,
                "the file is empty",
                "a YAML mapping",
                "add content, or remove the file",
            )
        data = self.value(self.parser.get_event(), ())
        self.parser.get_event()  # the document's end
        event = self.parser.get_event()
        if isinstance(event, DocumentStartEvent):
            raise self.stop(
                "yaml-unsupported", event, "a second document ('---')", "one document", "split the file"
            )
        return data

    def value(self, event: Any, path: Path_) -> Any:
        self.lines.setdefault(path, event.start_mark.line + 1)
        if len(path) > MAX_DEPTH:
            raise self.stop(
                "yaml-unsupported", event, "nested too deeply", f"at most {MAX_DEPTH} levels", "flatten it"
            )
        if isinstance(event, AliasEvent):
            # Nested aliases expand exponentially, and a value would have no single line.
            self.note(
                "yaml-unsupported",
                event,
                f"alias '*{event.anchor}'",
                "no aliases",
                "repeat the value, or move shared settings to a recipe and use 'extends:'",
            )
            return None
        if isinstance(event, MappingStartEvent):
            self.check_tag(event, "map")
            return self.mapping(path)
        if isinstance(event, SequenceStartEvent):
            self.check_tag(event, "seq")
            return self.sequence(path)
        return self.scalar(event)

    def scalar(self, event: Any) -> Any:
        bad = _CONTROL.search(event.value)
        if bad:  # by an escape, as "\0"
            message = f"control character U+{ord(bad[0]):04X}"
            self.note("yaml-unreadable", event, message, "printable text", "remove the escape sequence")
        if event.tag not in (None, "!"):
            self.check_tag(event, "str")
            return event.value
        tag = self.resolver.resolve(ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
        return _SCALARS[tag](event.value)

    def sequence(self, path: Path_) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := self.parser.get_event(), SequenceEndEvent):
            data.append(self.value(event, (*path, len(data))))
        return data

    def mapping(self, path: Path_) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(key := self.parser.get_event(), MappingEndEvent):
            name = key.value if isinstance(key, ScalarEvent) else ""
            if not name:
                self.note(
                    "yaml-invalid-key",
                    key,
                    "invalid key",
                    "a non-empty string",
                    "write a name before the colon",
                )
                self.value(key, (*path, "?"))
            elif name in data:
                first = self.lines[*path, name]
                self.note(
                    "yaml-duplicate-key",
                    key,
                    f"duplicate key '{name}', first set in line {first}",
                    "each key once",
                    "remove one",
                )
            self.lines.setdefault((*path, name), key.start_mark.line + 1)
            data[name] = self.value(self.parser.get_event(), (*path, name))
        return data

    def check_tag(self, event: Any, own: str) -> None:
        if event.tag not in (None, "!", f"{_TAG}{own}"):
            tag = event.tag.removeprefix(_TAG)
            hint = "remove the tag (quotes make a value text)"
            self.note("yaml-unsupported", event, f"tag '{tag}'", "plain values", hint)


_SCALARS: dict[str, Any] = {
    f"{_TAG}str": str,
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": lambda text: text.lower() == "true",
    f"{_TAG}int": int,
    f"{_TAG}float": float,
}
