"""Documents of every kind and version in wrong shapes: an error that names place and field, no other."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError, Document
from sparkfleet.contract.probe import ProbeResponse
from tests.unit.contract.test_documents import DOCUMENTS, SAMPLES

PLACE = "spark-01: /var/lib/sparkfleet/some.json"
VALUES: tuple[Any, ...] = (None, True, 0, -1.5, 10**400, "x", "\ud800", [], [None], {}, {"x": None})
"""JSON values of every type."""
OPEN = {
    "AppliedResources": {"before"},
    "Event": {"result"},
    "ProbeResponse": {one.name for one in fields(ProbeResponse)},
}
"""By document, objects that may have anything: snapshots of resources, results that are documents, and parts
of the probe's response, which their readers check."""
SAMPLED = [
    (kind, version) for kind in DOCUMENTS for version in range(1, kind.VERSION + 1)
]  # fmt: skip
Path = tuple[Any, ...]

each_kind = pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
each_version = pytest.mark.parametrize(
    ("kind", "version"), SAMPLED, ids=lambda one: one.__name__ if isinstance(one, type) else str(one)
)


def sample(kind: type[Document], version: int) -> Any:
    return json.loads((SAMPLES / f"{kind.__name__}.{version}.json").read_text())


def newest(kind: type[Document]) -> Any:
    """Return the sample with all fields, as this version writes it."""
    return json.loads(codec.dumps(kind.from_json(sample(kind, kind.VERSION))))


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path to every value within a value."""
    yield path
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, entry in entries:
        yield from paths(entry, (*path, key))


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return a copy with another value at a path."""
    if not path:
        return new
    whole = copy.deepcopy(value)
    at(whole, path[:-1])[path[-1]] = new
    return whole


def read(kind: type[Document], text: str) -> Document | ContractError:
    """Return the document, or its error. Every other error fails the test, as it would end a run."""
    try:
        return codec.loads(kind, text, PLACE)
    except ContractError as error:
        found = error
    assert found.diagnostic.location == PLACE
    assert found.diagnostic.message
    return found


def is_computed(whole: Any, path: Path) -> bool:
    """Tell whether a value is the id of a generation: written for people, read from the rest."""
    return path[-1:] == ("id",) and {"service", "engine"} <= set(at(whole, path[:-1]))


def wrong(value: Any) -> Any:
    """Return a value of another JSON type."""
    return [] if isinstance(value, str | dict) else "x"


@each_kind
def test_a_value_of_another_type_is_refused_with_its_field(kind: type[Document]) -> None:
    whole = newest(kind)
    for path in paths(whole):
        value = at(whole, path)
        if value is None or OPEN.get(kind.__name__, set()) & set(path[:-1]) or is_computed(whole, path):
            continue
        error = read(kind, json.dumps(replaced(whole, path, wrong(value))))
        assert isinstance(error, ContractError), path
        if path:
            assert str(path[-1]) in error.diagnostic.message


@each_version
@settings(max_examples=25)
@given(data=st.data())
def test_a_sample_with_any_value_anywhere_is_read_or_refused(
    kind: type[Document], version: int, data: st.DataObject
) -> None:
    whole = sample(kind, version)
    path = data.draw(st.sampled_from(list(paths(whole))))
    read(kind, json.dumps(replaced(whole, path, data.draw(st.sampled_from(VALUES)))))


@each_version
@settings(max_examples=25)
@given(data=st.data())
def test_a_sample_that_lacks_anything_is_read_or_refused(
    kind: type[Document], version: int, data: st.DataObject
) -> None:
    whole = sample(kind, version)
    path = data.draw(st.sampled_from([one for one in paths(whole) if one]))
    del at(whole, path[:-1])[path[-1]]
    read(kind, json.dumps(whole))


@each_kind
@settings(max_examples=10)
@given(data=st.data())
def test_a_truncated_text_is_refused(kind: type[Document], data: st.DataObject) -> None:
    text = json.dumps(newest(kind))
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert isinstance(read(kind, cut), ContractError)


@each_kind
@pytest.mark.parametrize(
    "text", ["", "[]", "null", "1", '"x"', "true", "NaN", "{", "[" * 100_000, "\0", "\ufeff{}"]
)
def test_a_text_that_is_no_object_is_refused(kind: type[Document], text: str) -> None:
    assert isinstance(read(kind, text), ContractError)


@each_kind
@pytest.mark.parametrize("version", [None, [], {}, "1", 0, -1, 1.0, True, 99, 10**30])
@pytest.mark.parametrize("key", ["version", "schema"])
def test_another_version_is_refused(kind: type[Document], version: Any, key: str) -> None:
    whole = {name: value for name, value in newest(kind).items() if name != "version"}
    assert isinstance(read(kind, json.dumps({**whole, key: version})), ContractError)
