"""Every place that reads JSON by the codec: found in the source, and given values of any shape.

A new reader is tested without a line here. One whose type is not in the source needs an entry in GENERIC.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import sparkfleet
from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError, Document
from tests.unit.contract.test_documents import DOCUMENTS
from tests.unit.contract.test_shapes import VALUES

SOURCE = Path(sparkfleet.__file__).parent
READERS = {
    "codec.read": 0,
    "codec.parse": 0,
    "codec.loads": 0,
    "codec.decode": 0,
    "files.read_document": 0,
    "files.read_or_default": 0,
    "remote.document": 0,
    "remote.parse": 0,
    "stdio.request": 0,
    "parts.read": 1,
    "parts.optional": 1,
    "parts.each": 1,
    "own.read": 1,
    "files.read": 1,
}
"""Functions that take a type, and the position of that argument."""
TYPES = ("sparkfleet.contract", "sparkfleet.desired_state")
"""Packages with the types that ``fleet/`` reads."""
GENERIC = {
    "onhost/machine/files.py": "read_or_default of a type of its caller",
    "onhost/machine/stdio.py": "stdin, of a type of its caller",
    "onhost/state/journal.py": "request, state and result of each kind of job, which are documents",
    "onhost/cluster/proof.py": "a signed message, which is a document",
    "probe/response.py": "parts of the answer; each type is at the place that asks for the part",
    "probe/preflight.py": "parts of the answer; each type is at the place that asks for the part",
    "engines/vllm/image_parser.py": "both answers of a program in an image: Checked and Described",
}
"""Modules with readers whose type is a variable -> what they read."""


@dataclass(frozen=True)
class Site:
    """A place that reads JSON as a type."""

    module: str
    line: int
    type_text: str

    @property
    def kind(self) -> Any:
        """Return the type; None where it is a variable."""
        with suppress(NameError, AttributeError):
            return eval(self.type_text, names(self.module))
        return None


def name_of(path: str) -> str:
    return "sparkfleet." + path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


@cache
def names(module: str) -> dict[str, Any]:
    """Return the names of a module; of one that loads pyinfra, which patches this process, the types."""
    if not module.startswith("fleet/"):
        return vars(importlib.import_module(name_of(module)))
    found: dict[str, Any] = {}
    for node in ast.parse((SOURCE / module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(TYPES):
            origin = vars(importlib.import_module(str(node.module)))
            found |= {one.name: origin[one.name] for one in node.names if one.name in origin}
    return found


def sites() -> Iterator[Site]:
    """Yield every call of a reader in the source."""
    for path in sorted(SOURCE.rglob("*.py")):
        text, module = path.read_text(encoding="utf-8"), str(path.relative_to(SOURCE))
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func)
            owner, _, method = function.rpartition(".")
            if method == "from_json" and owner.isidentifier():
                yield Site(module, node.lineno, owner)
            at_argument = READERS.get(function) if len(node.args) > READERS.get(function, 9) else None
            if at_argument is not None:
                yield Site(module, node.lineno, ast.unparse(node.args[at_argument]))


SITES = list(sites())
KINDS = {str(site.kind): site.kind for site in SITES if site.kind is not None}


def test_each_reader_has_a_type_that_is_tested_or_a_reason() -> None:
    assert {site.module for site in SITES if site.kind is None} == set(GENERIC)
    assert len(KINDS) > 40  # or the source is read in another way than it is written


def test_each_document_is_tested_as_one() -> None:
    documents = [kind for kind in KINDS.values() if isinstance(kind, type) and issubclass(kind, Document)]
    assert set(documents) <= set(DOCUMENTS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_any_value_as_a_whole_or_in_a_field_is_read_or_refused(kind: Any) -> None:
    keys = list(getattr(kind, "__dataclass_fields__", ("a key",)))
    wholes = [*VALUES, *([value] for value in VALUES), *({key: value} for key in keys for value in VALUES)]
    for whole in wholes:
        try:
            codec.read(kind, whole, "the source")
        except ContractError as error:
            refused = error.diagnostic  # every other error would end a run
        else:
            continue
        assert refused.location == "the source"
