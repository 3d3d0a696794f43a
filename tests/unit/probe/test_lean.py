"""What a look takes from the standard library without its modules: the same answers as theirs."""

from __future__ import annotations

import _json
import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.onhost.collectors import fast_imports

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(params=["the C parts", "the modules themselves"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the module as it is on this Python, and as on one without the C parts that it knows."""
    if request.param == "the C parts":
        assert _json is not None
        yield fast_imports
        return
    for name in ("_json", "_sha2", "_sha256"):
        monkeypatch.setitem(sys.modules, name, None)
    other = importlib.reload(fast_imports)
    assert other._json is None
    yield other
    monkeypatch.undo()
    importlib.reload(fast_imports)


@given(VALUES, st.text(" \t\r\n"), st.text(" \t\r\n"))
def test_json_is_read_as_json_reads_it(value: Any, before: str, after: str) -> None:
    text = f"{before}{json.dumps(value, indent=1)}{after}"
    assert fast_imports.loads(text) == json.loads(text) == value


@given(VALUES)
def test_json_is_written_as_json_writes_it(value: Any) -> None:
    assert fast_imports.dumps(value) == json.dumps(value, separators=(",", ":"))


@given(st.text())
def test_what_is_no_json_is_refused_where_json_refuses_it(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  (json says more than we do)
            fast_imports.loads(text)
    else:
        assert fast_imports.loads(text) == expected


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", '{"a": 1} {', "nul", '{"a" 1}', "1 2"])
def test_broken_json_is_a_value_error(way: ModuleType, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (json says more than we do)
        way.loads(text)


def test_every_python_answers_alike(way: ModuleType, tmp_path: Path) -> None:
    data = {"a": [1, 2.5, None, True, "ä\n\u2028"], "b": {}}
    assert way.loads(way.dumps(data)) == data
    with pytest.raises(TypeError):
        way.dumps({"a": {1, 2}})
    (tmp_path / "file").write_bytes(b"\0" * 100_000)
    assert way.sha256_of(str(tmp_path / "file")) == hashlib.sha256(b"\0" * 100_000).hexdigest()


def test_a_command_says_what_it_prints_and_nothing_else() -> None:
    script = "cat; echo here; echo not here >&2; exit 3"
    assert fast_imports.said("sh", "-c", script) == "here\n"
    assert len(fast_imports.said("head", "-c", "300000", "/dev/zero")) == 300_000


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        fast_imports.said("no-such-program")


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fast_imports, "LIMIT_S", 0.2)
    with pytest.raises(TimeoutError, match=r"sh did not answer within 0.2 s"):
        fast_imports.said("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
