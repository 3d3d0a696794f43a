"""Every file of an update is read as the commands read it, before it is used."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.knowledge import archive, validation
from tests.unit.knowledge import updates
from tests.unit.knowledge.updates import IMAGES, PATTERNS, RECIPE, patterns

SCHEMAS = "engines/vllm/data/releases.json.gz"
INVALID = {
    "schemas of another format": ({SCHEMAS: gzip.compress(b'{"format": 99}')}, "format 99"),
    "schemas that are no archive": ({SCHEMAS: b"x"}, "BadGzipFile"),
    "images of another shape": ({IMAGES: b'{"ngc": [], "forks": {}}'}, "expected an object"),
    "a pattern that does not compile": ({PATTERNS: patterns(re="(")}, "unterminated"),
    "a pattern that misses its sample": ({PATTERNS: patterns(re="Other")}, "does not match its sample"),
    "a pattern without a remedy": ({PATTERNS: patterns(remedy=None)}, "TypeError"),
    "a template that names no group": ({PATTERNS: patterns(cause="{other}")}, "something else than groups"),
    "a template that reads an attribute": ({PATTERNS: patterns(cause="{what.__class__}")}, "something else"),
    "a recipe with an unknown key": ({RECIPE: updates.NEW_RECIPE + b"nonsense: 1\n"}, "nonsense"),
    "a recipe of another name": ({RECIPE: b"recipe: other\n"}, "'recipe' is 'other'"),
}


def load(tmp_path: Path, files: dict[str, bytes]) -> archive.Update:
    found = updates.good(tmp_path, files)
    return archive.load(found.source, found.sha256)


@pytest.mark.parametrize("files, reason", INVALID.values(), ids=INVALID)
def test_what_this_sparkfleet_cannot_read_is_refused(
    files: dict[str, bytes], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(SparkfleetError, match=reason) as error:
        validation.require_valid(load(tmp_path, files))
    assert {one.code for one in error.value.diagnostics} == {"knowledge-content-invalid"}


def test_all_bundled_files_are_valid_as_an_update(tmp_path: Path) -> None:
    validation.require_valid(load(tmp_path, archive.bundled_files()))


def test_a_pattern_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "TIMEOUT_S", 8)
    slow = {PATTERNS: patterns(re="(?:(?:\\w+)+)+BrandNewError: (?P<what>x)?|BrandNewError: x")}
    with pytest.raises(SparkfleetError, match="took more than 8 s"):
        validation.require_valid(load(tmp_path, slow))


def test_a_reader_that_crashes_refuses_the_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = tmp_path / "crash"
    crash.write_text("#!/bin/sh\necho killed >&2\nexit 139\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    with pytest.raises(SparkfleetError, match="killed"):
        validation.require_valid(load(tmp_path, {RECIPE: updates.NEW_RECIPE}))
