import math
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.config import yaml_file
from sparkfleet.config.yaml_file import parse
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError


def diagnostic_of(raw: bytes) -> Diagnostic:
    with pytest.raises(SparkfleetError) as error:
        parse(raw, "f.yaml")
    (diagnostic,) = error.value.diagnostics
    return diagnostic


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("", None),
        ("~", None),
        ("12", 12),
        ("-3", -3),
        ("0.85", 0.85),
        (".5", 0.5),
        ("1.0e-06", 1e-06),
        ("1e-06", 1e-06),
        ("1e+20", 1e20),
        # Text for whoever writes it, though YAML 1.1 has numbers, booleans and dates here.
        ("on", "on"),
        ("yes", "yes"),
        ("0123456", "0123456"),
        ("1e5", "1e5"),
        ("12:30:45", "12:30:45"),
        ("2026-11-21", "2026-11-21"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        (".inf", ".inf"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"12"', "12"),
        ("'true'", "true"),
        ('!!str "x"', "x"),
    ],
)
def test_a_plain_value_is_what_people_expect(written: str, value: bool | float | str | None) -> None:
    data = parse(f"a: {written}\n".encode(), "f.yaml").data
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_every_key_and_item_knows_its_line() -> None:
    document = parse(b"a: 1\nb:\n  - x\n  - c: 2\n    d: {e: 3,\n      f: 4}\n", "f.yaml")
    assert document.where(("a",)) == "f.yaml:1"
    assert document.where(("b", 1)) == "f.yaml:4"
    assert document.where(("b", 1, "d", "f")) == "f.yaml:6"


def test_what_is_not_in_the_file_has_the_line_of_what_is_around_it() -> None:
    document = parse(b"a: 1\nb:\n  c: 2\n", "f.yaml")
    assert document.where(("b", "missing", 0)) == "f.yaml:2"
    assert document.where(("missing",)) == "f.yaml:1"
    assert document.has(("b", "c"))
    assert not document.has(("b", "d"))


@pytest.mark.provokes("yaml-duplicate-key")
def test_every_duplicate_is_reported_with_the_line_of_the_first() -> None:
    with pytest.raises(SparkfleetError) as error:
        parse(b"a: 1\nb: {c: 1, c: 2}\na: 2\n", "f.yaml")
    assert [(diagnostic.location, diagnostic.message) for diagnostic in error.value.diagnostics] == [
        ("f.yaml:2", "duplicate key 'c', first set in line 2"),
        ("f.yaml:3", "duplicate key 'a', first set in line 1"),
    ]


@pytest.mark.provokes("yaml-invalid-key")
@pytest.mark.parametrize(
    ("raw", "where", "found"),
    [
        (b"", "f.yaml:1", "the file is empty"),
        (b"# only a comment\n", "f.yaml:1", "the file is empty"),
        (b"a:\n\tb: 1\n", "f.yaml:2", "indented with a tab"),
        (b"a: 1\nb: c: d\n", "f.yaml:2", "mapping values are not allowed here"),
        (b"a: 'x\n", "f.yaml:2", "unexpected end of stream"),
        (b"a: 1\n---\nb: 2\n", "f.yaml:2", "second document"),
        (b"a: &x 1\nb: *x\n", "f.yaml:2", "alias '*x'"),
        (b"a: &x [*x]\n", "f.yaml:1", "alias '*x'"),
        (b"a: !!python/object:os.system x\n", "f.yaml:1", "tag 'python/object:os.system'"),
        (b"a: !!int abc\n", "f.yaml:1", "tag 'int'"),
        (b"!!map [a]\n", "f.yaml:1", "tag 'map'"),
        (b"? [a]\n: b\n", "f.yaml:1", "invalid key"),
        (b"a: 1\n? \n: b\n", "f.yaml:2", "invalid key"),
        (b"a: 1\nb: x\x00y\n", "f.yaml:2", "control character U+0000"),
        (b'a: 1\nb: "x\\0y"\n', "f.yaml:2", "control character U+0000"),
        (b'a: "\\ud800"\n', "f.yaml:1", "control character U+D800"),
        (b"a: 1\nb: J\xf6rg\n", "f.yaml:2", "not UTF-8"),
        (b"\xff\xfea\x00", "f.yaml:1", "not UTF-8"),
        (b"[" * 100_000, "f.yaml:1", "nested too deeply"),
        (b"{a: " * 60 + b"1" + b"}" * 60, "f.yaml:1", "nested too deeply"),
        (b"%YAML 9.9\n---\na: 1\n", "f.yaml:1", "incompatible YAML document"),
    ],
)
def test_a_mistake_is_named_with_its_line(raw: Any, where: str, found: str) -> None:
    diagnostic = diagnostic_of(raw)
    assert diagnostic.location == where
    assert found in diagnostic.message
    assert diagnostic.expected
    assert diagnostic.hint


def test_a_file_with_a_byte_order_mark_is_read() -> None:
    assert parse("\ufeffa: 1\n".encode(), "f.yaml").data == {"a": 1}


def test_the_slow_parser_gives_the_same_as_the_fast_one(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"a: [1, {b: 'x'}]\nc: |\n  two\n  lines\nd: >-\n  folded\n  text\n"
    fast = parse(raw, "f.yaml")
    monkeypatch.setattr(yaml_file, "_parsers", yaml_file._parsers[-1:])
    assert parse(raw, "f.yaml") == fast


@pytest.mark.provokes("yaml-unreadable")
def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a: " + b"x" * yaml_file.MAX_BYTES)
    with pytest.raises(SparkfleetError, match="at most 1 MiB"):
        yaml_file.read(path)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(SparkfleetError, match="cannot be read: No such file"):
        yaml_file.read(tmp_path / "none.yaml")


def test_a_directory_in_place_of_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SparkfleetError, match="cannot be read: Is a directory"):
        yaml_file.read(tmp_path)


def test_paths_are_shown_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert yaml_file.shown(tmp_path / "a" / "b.yaml") == "a/b.yaml"
    assert yaml_file.shown(tmp_path.parent / "b.yaml") == str(tmp_path.parent / "b.yaml")


def test_no_number_is_infinite() -> None:
    value = parse(b"a: 9.9e99\n", "f.yaml").data["a"]
    assert math.isfinite(value)
    assert parse(b"a: 9.9e999\n", "f.yaml").data["a"] == "9.9e999"
