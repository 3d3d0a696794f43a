"""The schema that an image's own parser returned is cached by digest, and makes the next check exact."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from sparkfleet.engines.vllm import schema_cache

DIGEST = "sha256:" + "4" * 64
OUTPUT = json.dumps(
    {"vllm_version": "0.19.0+nv26.04", "flags": {"--nv-only": {"dest": "nv_only", "kind": "store"}}}
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_an_image_that_was_never_asked_has_no_schema() -> None:
    assert schema_cache.lookup(DIGEST) is None
    assert schema_cache.lookup("repo:tag-without-digest") is None


def test_the_output_of_an_image_is_found_again_by_its_digest_whatever_name_it_has() -> None:
    schema_cache.keep(f"nvcr.io/nvidia/vllm:26.04-py3@{DIGEST}", f"INFO importing\n{OUTPUT}\n")
    found = schema_cache.lookup(f"mirror.local/vllm@{DIGEST}")
    assert found is not None
    assert found.version == "0.19.0+nv26.04"
    assert "--nv-only" in found.flags


def test_what_is_no_schema_is_not_kept() -> None:
    with pytest.raises(ValueError, match="did not return its schema"):
        schema_cache.keep(DIGEST, "Traceback ...")
    assert schema_cache.lookup(DIGEST) is None


@pytest.mark.parametrize("content", [b"", b"not gzip", b"\x1f\x8b broken"])
def test_a_broken_file_is_as_none(content: bytes) -> None:
    schema_cache.keep(DIGEST, OUTPUT)
    path = schema_cache.path_of(DIGEST)
    assert path is not None
    path.write_bytes(content)
    assert schema_cache.lookup(DIGEST) is None


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"vllm_version": "1", "flags": []}', '{"vllm_version": 1, "flags": {"--x": 2}}']
)
def test_a_file_of_another_shape_is_as_none(text: str) -> None:
    schema_cache.keep(DIGEST, OUTPUT)
    path = schema_cache.path_of(DIGEST)
    assert path is not None
    path.write_bytes(gzip.compress(text.encode()))
    assert schema_cache.lookup(DIGEST) is None


def test_a_cache_that_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert schema_cache.keep(DIGEST, OUTPUT).version == "0.19.0+nv26.04"
