"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from sparkfleet.contract.diagnostic import Diagnostic

# Lab machines work meanwhile: how long an example takes says how busy this computer is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

os.environ["XDG_DATA_HOME"] = "/nonexistent"
"""No test reads the updated knowledge of whoever runs it."""

ON_MACHINES = ("tests/lab/", "tests/real_vllm/", "tests/real_llamacpp/")


def _noting(init: Any, created: set[str]) -> Any:
    """Return an ``__init__`` that notes the code of what it creates."""

    def noting(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        created.add(self.code)

    return noting


@pytest.fixture(autouse=True)
def provoked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test with the marker ``provokes(CODE)`` that creates no diagnostic with that code.

    Not checked: tests on lab machines, whose diagnostics other processes create, and tests with
    parameters, of which one may provoke it.
    """
    codes = {code for marker in request.node.iter_markers("provokes") for code in marker.args}
    if not codes or request.node.nodeid.startswith(ON_MACHINES) or hasattr(request.node, "callspec"):
        yield
        return
    assert not hasattr(request.function, "hypothesis"), "drawn examples provoke codes by chance"
    created: set[str] = set()
    monkeypatch.setattr(Diagnostic, "__init__", _noting(Diagnostic.__init__, created))
    yield
    assert codes <= created, f"marked as provoking {sorted(codes - created)}, and does not"
