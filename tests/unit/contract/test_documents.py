"""Every document: written and read again, of any shape, and a sample of each version."""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkfleet import contract
from sparkfleet.contract import codec, fabric, rollout, stage, transfer
from sparkfleet.contract.codec import ContractError, Document
from sparkfleet.contract.diagnostic import Diagnostic, Severity

SAMPLES = Path(__file__).parents[2] / "fixtures" / "contract"
for module in pkgutil.iter_modules(contract.__path__, f"{contract.__name__}."):
    importlib.import_module(module.name)


def below(kind: type[Document]) -> Iterator[type[Document]]:
    """Yield every kind of document that derives from one: a new one is tested without a line here."""
    for one in kind.__subclasses__():
        if "NAME" in vars(one):  # else it is only what several have in common
            yield one
        yield from below(one)


DOCUMENTS = sorted({kind for kind in below(Document) if kind.__module__.startswith("sparkfleet.")}, key=str)
PATTERNS: dict[tuple[type, str], str] = {
    (stage.StageRequest, "id"): r"\A[a-z0-9-]{1,64}\Z",
    (transfer.SendRequest, "id"): r"\Asend-[a-z0-9-]{1,60}\Z",
    (fabric.FabricRequest, "id"): r"\Afabric-[a-z0-9-]{1,50}\Z",
    (fabric.BenchRequest, "cluster"): r"\A[a-z0-9][a-z0-9-]*\Z",
    (fabric.BenchRequest, "tool"): r"\Aiperf3\Z",
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return json_values
    if kind is Diagnostic:
        texts = st.text(max_size=8)
        return st.builds(
            Diagnostic, texts, texts, texts, texts, severity=st.sampled_from(Severity), code=st.just("test")
        )
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if origin is tuple and arguments[1:] == (...,):
        return st.lists(of_type(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(of_type(one) for one in arguments))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(st.text(max_size=4), of_type(arguments[1]), max_size=2)
    if arguments:
        return st.one_of(*(of_type(one) for one in arguments))
    if isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        make: type[Any] = kind
        return st.builds(
            make,
            **{
                one.name: st.from_regex(PATTERNS[make, one.name])
                if (make, one.name) in PATTERNS
                else of_type(hints[one.name])
                for one in fields(kind)
            },
        )
    return st.from_type(kind) if kind is not str else st.text(max_size=8)


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_a_document_survives_json(kind: type[Document], data: st.DataObject) -> None:
    document = data.draw(of_type(kind))
    written = json.loads(codec.dumps(document))
    assert written["version"] == kind.VERSION
    assert kind.from_json(written) == document


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_a_document_with_a_part_of_any_other_shape_is_read_or_refused(
    kind: type[Document], data: st.DataObject
) -> None:
    names = sorted(one.name for one in fields(kind))
    whole = {
        name: data.draw(json_values) for name in data.draw(st.sets(st.sampled_from([*names, "version"])))
    }
    with contextlib.suppress(ContractError):
        assert isinstance(kind.from_json(whole), kind)


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
def test_a_newer_version_is_refused_with_the_version_and_the_remedy(kind: type[Document]) -> None:
    with pytest.raises(ContractError) as caught:
        kind.from_json({"version": kind.VERSION + 1}, "here")
    error = caught.value.diagnostic
    assert (error.location, error.code) == ("here", codec.NEWER)
    assert f"of version {kind.VERSION + 1}, written by a newer sparkfleet" in error.message
    assert error.hint == codec.NEWER_HINT


SECRETS = {"hub_token", "registry_password", "transfer_key", "cluster_key"}
UNNAMED = {"token", "password", "secret"}
"""Names that do not tell which secret it is."""


def parts(kind: Any, found: dict[type[Any], None]) -> dict[type[Any], None]:
    """Return, in ``found``, a dataclass and those within its fields."""
    if isinstance(kind, type) and is_dataclass(kind):
        if kind not in found:
            found[kind] = None
            for hint in typing.get_type_hints(kind).values():
                parts(hint, found)
        return found
    for argument in typing.get_args(kind):
        parts(argument, found)
    return found


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
def test_a_secret_has_a_name_of_its_own_and_is_in_no_repr(kind: type[Document]) -> None:
    for part in parts(kind, {}):
        for one in fields(part):
            assert one.name not in UNNAMED, part
            assert (one.name in SECRETS) == bool(one.metadata.get("secret")), part
            assert one.repr != (one.name in SECRETS), part


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
def test_each_version_has_a_sample_that_is_read(kind: type[Document]) -> None:
    for version in range(1, kind.VERSION + 1):
        path = SAMPLES / f"{kind.__name__}.{version}.json"
        data = json.loads(path.read_text())
        assert data.get("version", data.get("schema", 1)) == version
        document = kind.from_json(data, str(path))
        newest = json.loads((SAMPLES / f"{kind.__name__}.{kind.VERSION}.json").read_text())
        assert document == kind.from_json(newest), "all samples of a document say the same"


@pytest.mark.parametrize("name", ["version", "schema"])
def test_a_service_may_have_the_name_of_the_versions_key(name: str) -> None:
    sample = json.loads((SAMPLES / "StateBefore.1.json").read_text())
    whole = {**sample, name: sample["nano"]}
    before = rollout.StateBefore.from_json(whole)
    assert before.services == {"nano": before.services["nano"], name: before.services["nano"]}
