"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from sparkfleet import engines
from sparkfleet.contract.codes import CODES
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.onhost.gate import failure_patterns

# Lab machines work meanwhile: how long an example takes says how busy this computer is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

os.environ["XDG_DATA_HOME"] = "/nonexistent"
"""No test reads the updated knowledge of whoever runs it."""

ON_MACHINES = ("tests/lab/", "tests/real_vllm/", "tests/real_llamacpp/")

NOT_REGISTERED = frozenset(("test", ""))
"""Codes of diagnostics that tests create themselves, and of a lint rule before it adds its id."""

_CREATED: set[str] = set()
"""Codes of the diagnostics that were created since the last check."""


def _note_codes() -> None:
    """Note the code of every diagnostic that is created from here on."""
    init: Any = Diagnostic.__init__

    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        _CREATED.add(self.code)

    Diagnostic.__init__ = noting  # type: ignore[method-assign]


_note_codes()


@cache
def _codes_of_engines() -> frozenset[str]:
    """Return the ids of lint rules and failure patterns: codes of the same namespace."""
    rules = (rule.id for name in engines.names() for rule in engines.get(name).rules())
    read = [failure_patterns.read(name) for name in engines.host_names()]
    patterns = (entry["id"] for one in read for kind in ("failures", "endings") for entry in one[kind])
    return frozenset((*rules, *patterns))


@dataclass
class _Cases:
    """One test function with parameters: its cases that have not run, and what the others created."""

    left: set[str] = field(default_factory=set)
    created: set[str] = field(default_factory=set)


_CASES: dict[tuple[str, str], _Cases] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse cases out of a set: processes side by side must collect them in the same order."""
    for marker in metafunc.definition.iter_markers("parametrize"):
        values = marker.args[1] if len(marker.args) > 1 else marker.kwargs["argvalues"]
        if isinstance(values, (set, frozenset)):
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: parametrize: a set has no order: sort it")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(
    collector: pytest.Collector,
) -> Generator[None, Any, pytest.Item | pytest.Collector | list[pytest.Item | pytest.Collector] | None]:
    """Note all cases of each test function, before a command line or a marker selects some."""
    made = yield
    for item in made if isinstance(made, list) else ():
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            _CASES.setdefault((collector.nodeid, item.originalname), _Cases()).left.add(item.nodeid)
    return made  # type: ignore[no-any-return]


@pytest.fixture
def codes_of_test() -> set[str]:
    """Return a set for the codes that a test registers itself, as the id of a rule of its own."""
    return set(NOT_REGISTERED)


@pytest.fixture(autouse=True)
def provoked(request: pytest.FixtureRequest, codes_of_test: set[str]) -> Iterator[None]:
    """Fail a test that creates a diagnostic with an unregistered code, or none with ``provokes(CODE)``.

    Of a test with parameters, one case has to: its last one fails. Not checked: tests on lab machines,
    whose diagnostics other processes create, and drawn examples, which may read a document with any code.
    """
    item = request.node
    if item.nodeid.startswith(ON_MACHINES):
        yield
        return
    codes = {code for marker in item.iter_markers("provokes") for code in marker.args}
    drawn = hasattr(request.function, "hypothesis")
    assert not (codes and drawn), "drawn examples provoke codes by chance"
    yield
    created = set(_CREATED)
    _CREATED.clear()
    if not drawn and (unknown := created - CODES.keys() - codes_of_test):
        unknown -= _codes_of_engines()
        assert not unknown, f"not in contract/codes.py, and no rule or failure pattern: {sorted(unknown)}"
    if hasattr(item, "callspec"):
        cases = _CASES[item.parent.nodeid, item.originalname]
        cases.left.discard(item.nodeid)
        cases.created |= created & codes
        created = codes if cases.left else cases.created
    assert codes <= created, f"marked as provoking {sorted(codes - created)}, and does not"
