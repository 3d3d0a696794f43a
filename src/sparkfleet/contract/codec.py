"""Documents between operator and host, and files that a host keeps: dataclasses to JSON and back.

A document is a frozen dataclass that derives from ``Document``. Its JSON object has ``version`` and one key a
field, by default the field's name. The reader checks every type; an error names the document, the field, what
was found and what was expected. An older version is migrated step by step, a newer one is refused.

Standard library alone: programs on a host use it, too.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, ClassVar, TypeVar

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

SHAPE = "contract-shape"
"""Code: a document is not what its reader expects."""
NEWER = "contract-newer"
"""Code: a document was written by a newer sparkfleet."""
NEWER_HINT = (
    "update sparkfleet on the operator's machine to the version that wrote it (or newer); the host's own "
    "programs are brought up to date by the next pyinfra INVENTORY deploys/prepare.py"
)

Json = dict[str, Any]
Migration = Callable[[Json], Json]
"""Takes the JSON object of one version and returns that of the next; may change its argument."""

D = TypeVar("D", bound="Document")
T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """A message or a file. Subclasses are frozen dataclasses."""

    NAME: ClassVar[str]
    """What it is, for people: ``rollout request``."""
    VERSION: ClassVar[int] = 1
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {}
    """Version -> the step to the next version. Documents without a version are version 1."""

    def to_json(self) -> Json:
        """Return the JSON object, with its version."""
        return encode(self)

    @classmethod
    def from_json(cls, data: object, source: str = "") -> typing.Self:
        """Return the document of a JSON value. Raise ContractError, which names ``source``."""
        return decode(cls, data, source)


class ContractError(SparkfleetError, ValueError):
    """A document that cannot be read; the diagnostic's location is the file or message."""


def secret() -> Any:
    """Return a dataclass field for a secret: "" by default, in no ``repr`` and in no error."""
    return field(default="", repr=False, metadata={"secret": True})


def stored_as(key: str, **options: Any) -> Any:
    """Return a dataclass field with another key in JSON: the one that earlier versions write and read."""
    return field(metadata={"key": key}, **options)


def encode(document: Document) -> Json:
    """Return the JSON object of a document."""
    return {"version": document.VERSION, **_members(document)}


def dumps(document: Document) -> str:
    """Return a document as one line of JSON."""
    return json.dumps(document.to_json())


def decode(kind: type[D], data: object, source: str = "") -> D:
    """Return the document of a JSON value. Raise ContractError."""
    return read(kind, data, source or kind.NAME)


def read(kind: type[T], data: object, source: str) -> T:
    """Return a part of a document: a JSON value as any type that a document's field can have, a mapping too.

    Raise ContractError.
    """
    try:
        value: T = _reader(typing.cast("Any", kind))(data)
    except _WrongError as error:
        raise ContractError(error.diagnostic(source)) from None
    return value


def loads(kind: type[D], text: str | bytes, source: str = "") -> D:
    """Return the document of a JSON text. Raise ContractError."""
    return decode(kind, _json(text, source or kind.NAME, f"a JSON object ({kind.NAME})"), source)


def parse(kind: type[T], text: str | bytes, source: str) -> T:
    """Return a JSON text of other programs as any type that a document's field can have.

    Raise ContractError, which names ``source``.
    """
    return read(kind, _json(text, source, "JSON"), source)


def _json(text: str | bytes, source: str, expected: str) -> Any:
    try:
        whole = text if isinstance(text, str) else text.decode()
        data = json.loads(whole)
        # Halves of characters, as of file names that are not UTF-8, could be neither written nor shown.
        return json.loads(_printable(data)) if "\\ud" in whole.lower() else data
    except (ValueError, RecursionError) as error:
        message = f"is not JSON: {error}" if text.strip() else "is empty"
        raise ContractError(Diagnostic(source, message, expected, code=SHAPE)) from None


def _printable(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False).encode(errors="replace").decode()


class _WrongError(Exception):
    """A value of another shape, while the path to it is still being put together."""

    def __init__(self, found: str, expected: str, code: str = SHAPE, hint: str = "") -> None:
        super().__init__(found)
        self.found, self.expected, self.code, self.hint = found, expected, code, hint
        self.path: list[str] = []

    def diagnostic(self, source: str) -> Diagnostic:
        path = "".join(reversed(self.path)).lstrip(".")
        found = f"{path}: {self.found}" if path else self.found
        return Diagnostic(source, found, self.expected, self.hint, code=self.code)

    def under(self, step: str) -> _WrongError:
        self.path.append(step)
        return self


_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}
_SCALARS = frozenset({str, bool, int, float, type(None)})
_SHOWN = 60
"""Characters of a wrong value that an error shows."""


def _wrong(value: object, expected: str) -> _WrongError:
    name = _NAMES.get(type(value), type(value).__name__)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = repr(value) if isinstance(value, str) else str(value)
        name += f" {text[:_SHOWN]}" + ("..." if len(text) > _SHOWN else "")
    return _WrongError(f"found {name}", expected)


Reader = Callable[[Any], Any]


@cache
def _reader(kind: Any) -> Reader:
    """Return the function that checks and converts a JSON value."""
    if kind is Any or kind is object:
        return lambda value: value
    if kind in _SCALARS:
        return _scalar(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union or origin is types.UnionType:
        return _union(arguments)
    if origin is typing.Literal:
        return _choice({one: one for one in arguments})
    if origin is list:
        return _scalar(list)
    if origin is tuple:
        return _list(arguments[0]) if arguments[1:] == (...,) else _row(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(arguments[1])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice({member.value: member for member in kind})
    if isinstance(kind, type) and is_dataclass(kind):
        return _object(kind)
    raise TypeError(f"a document cannot have a field of type {kind}")


def _scalar(kind: type) -> Reader:
    expected = _NAMES[kind]

    def read(value: Any) -> Any:
        if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
            return float(value)  # neither NaN nor infinite, which Python's JSON allows
        if kind is not float and type(value) is kind:
            return value
        raise _wrong(value, expected)

    return read


def _union(kinds: tuple[Any, ...]) -> Reader:
    exact = frozenset(kinds) & _SCALARS - {float}
    readers = [_reader(kind) for kind in kinds if kind is not type(None)]

    def read(value: Any) -> Any:
        if type(value) in exact:
            return value
        errors = []
        for reader in readers:
            try:
                return reader(value)
            except _WrongError as error:
                errors.append(error)
        deepest = max(errors, key=lambda error: len(error.path))
        if not deepest.path:
            deepest.expected = " or ".join(error.expected for error in errors)
        raise deepest

    return read


def _list(kind: Any) -> Reader:
    item = _reader(kind)

    exact = kind if kind in _SCALARS - {float} else None

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _wrong(value, "a list")
        if exact is not None and all(type(entry) is exact for entry in value):
            return tuple(value)
        found = []
        for number, entry in enumerate(value):
            try:
                found.append(item(entry))
            except _WrongError as error:
                raise error.under(f"[{number}]") from None
        return tuple(found)

    return read


def _row(kinds: tuple[Any, ...]) -> Reader:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise _wrong(value, f"a list of {len(readers)} values")
        found = []
        for number, (item, entry) in enumerate(zip(readers, value, strict=True)):
            try:
                found.append(item(entry))
            except _WrongError as error:
                raise error.under(f"[{number}]") from None
        return tuple(found)

    return read


def _mapping(kind: Any) -> Reader:
    item = _reader(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, "an object")
        found = {}
        for key, entry in value.items():
            try:
                found[key] = item(entry)
            except _WrongError as error:
                raise error.under(f".{key}") from None
        return found

    return read


def _choice(known: Mapping[Any, Any]) -> Reader:
    def read(value: Any) -> Any:
        if isinstance(value, str | int) and value in known:
            return known[value]
        raise _wrong(value, "one of " + ", ".join(str(one) for one in known))

    return read


@dataclass(frozen=True)
class _Field:
    name: str
    key: str
    """Its key in JSON."""
    read: Reader
    required: bool
    secret: bool


@cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        _Field(
            one.name,
            _key(one),
            _reader(hints[one.name]),
            one.default is MISSING and one.default_factory is MISSING,
            bool(one.metadata.get("secret")),
        )
        for one in fields(kind)
        if one.init
    )


def _object(kind: Any) -> Reader:
    document = issubclass(kind, Document)
    expected = f"an object ({kind.NAME})" if document else "an object"

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, expected)
        data = _migrated(kind, value) if document else value
        values = {}
        for one in _fields(kind):
            if one.key in data:
                try:
                    values[one.name] = one.read(data[one.key])
                except _WrongError as error:
                    if one.secret:
                        error.found = "found a value of another type"
                    raise error.under(f".{one.key}") from None
            elif one.required:
                raise _WrongError("is missing", "the field").under(f".{one.key}")
        try:
            return kind(**values)
        except ValueError as error:  # what __post_init__ checks
            raise _WrongError(str(error), expected) from None

    return read


def _migrated(kind: type[Document], data: Json) -> Json:
    """Return the object in the present version. Files from before ``version`` have ``schema``, or neither.

    An object with members under such a key is a part of a file that has one key a service (``StateBefore`` of
    version 1), and the service has that name.
    """
    marks = (data[key] for key in ("version", "schema") if key in data)
    version = next((one for one in marks if not (one and isinstance(one, dict))), 1)
    if type(version) is not int or version < 1:
        raise _wrong(version, "a version: an integer from 1").under(".version")
    if version > kind.VERSION:
        raise _WrongError(
            f"{kind.NAME} of version {version}, written by a newer sparkfleet",
            f"version {kind.VERSION} or older",
            NEWER,
            NEWER_HINT,
        )
    for step in range(version, kind.VERSION):
        try:
            data = kind.MIGRATIONS[step](dict(data))
        except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
            raise _WrongError(
                f"version {version} cannot be migrated: {type(error).__name__}: {error}",
                f"{kind.NAME} of version {version}",
            ) from None
    return data


def plain(value: Any) -> Any:
    """Return a field's value as JSON."""
    if type(value) in _SCALARS:  # most values by far
        return value
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return value.to_json() if isinstance(value, Document) else _members(value)
    raise TypeError(f"a document cannot hold {type(value).__name__}")


def _members(value: Any) -> Json:
    kind: Any = type(value)
    return {key: plain(getattr(value, name)) for name, key in _keys(kind)}


@cache
def _keys(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return the fields of a dataclass with their keys in JSON."""
    return tuple((one.name, _key(one)) for one in fields(kind) if one.init)


def _key(one: dataclasses.Field[Any]) -> str:
    return str(one.metadata.get("key", one.name))
