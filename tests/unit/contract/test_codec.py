"""Documents to JSON and back: types, versions, migrations, and what an error says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError, Document


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Part:
    name: str
    size: int = 0


@dataclass(frozen=True)
class Inner(Document):
    NAME = "inner"
    text: str


@dataclass(frozen=True)
class Outer(Document):
    NAME = "outer"
    VERSION = 3
    MIGRATIONS: ClassVar[Mapping[int, codec.Migration]] = {
        1: lambda data: {**data, "parts": [{"name": data.pop("part")}]},
        2: lambda data: {**data, "hub_token": data.pop("token", "")},
    }

    parts: tuple[Part, ...]
    pairs: tuple[tuple[str, float], ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inner: Inner | None = None
    colour: Colour = Colour.RED
    free: Any = None
    count: int | str = 0
    hub_token: str = codec.secret()


def wrong(data: object) -> ContractError:
    with pytest.raises(ContractError) as caught:
        Outer.from_json(data, "/var/lib/x.json")
    return caught.value


WHOLE = Outer(
    (Part("a", 1), Part("b")), (("x", 0.5),), {"K": "V"}, Inner("t"), Colour.RED, {"any": [1]}, "many", "hf_1"
)


def test_halves_of_characters_are_replaced_because_no_file_can_have_them() -> None:
    found = codec.parse(dict[str, str], json.dumps({"half": "\ud800x", "whole": "\U0001f600"}), "")
    assert found == {"half": "?x", "whole": "\U0001f600"}


def test_what_is_written_is_read_again() -> None:
    assert codec.loads(Outer, codec.dumps(WHOLE)) == WHOLE
    assert WHOLE.to_json()["version"] == 3
    assert WHOLE.to_json()["inner"] == {"version": 1, "text": "t"}


def test_fields_that_are_not_there_have_their_defaults_and_unknown_ones_are_ignored() -> None:
    assert Outer.from_json({"version": 3, "parts": [], "of later": 1}) == Outer(())


@pytest.mark.parametrize("marked", [{}, {"schema": 1}, {"version": 1}])
def test_an_older_document_is_migrated_step_by_step(marked: dict[str, int]) -> None:
    old = {**marked, "part": "a", "token": "hf_1"}
    assert Outer.from_json(old) == Outer((Part("a"),), hub_token="hf_1")
    assert old == {**marked, "part": "a", "token": "hf_1"}


def test_a_document_that_cannot_be_migrated_is_named() -> None:
    error = wrong({"version": 1}).diagnostic
    assert error.message == "version 1 cannot be migrated: KeyError: 'part'"


def test_a_newer_document_is_refused_with_its_version_and_the_remedy() -> None:
    error = wrong({"version": 4, "parts": []}).diagnostic
    assert error.code == codec.NEWER
    assert error.location == "/var/lib/x.json"
    assert error.message == "outer of version 4, written by a newer sparkfleet"
    assert error.expected == "version 3 or older"
    assert "update sparkfleet" in error.hint
    assert "deploys/prepare.py" in error.hint


@pytest.mark.provokes("contract-newer")
def test_a_newer_part_of_a_document_is_refused_too() -> None:
    error = wrong({"version": 3, "parts": [], "inner": {"version": 2, "text": ""}}).diagnostic
    assert error.message == "inner: inner of version 2, written by a newer sparkfleet"


@pytest.mark.parametrize(
    "change, message, expected",
    [
        ({"parts": {}}, "parts: found an object", "a list"),
        ({"parts": [{"name": 1}]}, "parts[0].name: found an integer 1", "a string"),
        ({"parts": [{}]}, "parts[0].name: is missing", "the field"),
        ({"parts": [{"name": "", "size": True}]}, "parts[0].size: found a boolean", "an integer"),
        ({"pairs": [["x"]]}, "pairs[0]: found a list", "a list of 2 values"),
        ({"pairs": [["x", "y"]]}, "pairs[0][1]: found a string 'y'", "a number"),
        ({"env": {"K": None}}, "env.K: found null", "a string"),
        ({"inner": []}, "inner: found a list", "an object (inner)"),
        ({"colour": "blue"}, "colour: found a string 'blue'", "one of red"),
        ({"count": []}, "count: found a list", "an integer or a string"),
        ({"version": "x"}, "version: found a string 'x'", "a version: an integer from 1"),
    ],
)
def test_a_wrong_type_is_named_with_its_field(change: dict[str, Any], message: str, expected: str) -> None:
    error = wrong({"version": 3, "parts": [], **change}).diagnostic
    assert (error.location, error.message, error.expected) == ("/var/lib/x.json", message, expected)
    assert error.code == codec.SHAPE


@pytest.mark.parametrize(
    "kind, value, message",
    [
        (tuple[int, ...], [1, True], "[1]: found a boolean"),
        (tuple[bool, ...], [True, 1], "[1]: found an integer 1"),
        (tuple[str, ...], ["x", None], "[1]: found null"),
        (int | str, True, "found a boolean"),
        (int | str, None, "found null"),
    ],
)
def test_a_list_and_a_choice_take_their_own_types_alone(kind: Any, value: object, message: str) -> None:
    with pytest.raises(codec.ContractError) as caught:
        codec.read(kind, value, "x")
    assert caught.value.diagnostic.message == message


@pytest.mark.provokes("contract-shape")
def test_an_error_does_not_show_a_secret() -> None:
    assert "hf_1" not in repr(WHOLE)
    assert "4711" not in str(wrong({"version": 3, "parts": [], "hub_token": 4711}))


@pytest.mark.parametrize(
    "text, found", [("", "is empty"), ("{", "is not JSON"), ("[" * 10**6, "is not JSON")]
)
def test_a_text_that_is_not_json_is_named(text: str, found: str) -> None:
    with pytest.raises(ContractError, match=f"x: {found}"):
        codec.loads(Outer, text, "x")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(anything, st.dictionaries(st.sampled_from(["version", "parts", "env", "inner", "part"]), anything))
def test_any_json_is_read_or_refused_without_a_traceback(whole: object, parts: dict[str, object]) -> None:
    for data in (whole, parts, {"version": 3, "parts": [], **parts}):
        with contextlib.suppress(ContractError):
            assert isinstance(Outer.from_json(json.loads(json.dumps(data))), Outer)
