"""Which GGUF file of a repository is served."""

from __future__ import annotations

import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.llamacpp.model_files import Choice, choose

PATHS = [
    "README.md",
    "config.json",
    "mmproj-F16.gguf",
    "tiny-F16.gguf",
    "tiny-Q4_K_M.gguf",
    "tiny-Q8_0.gguf",
    "BF16/tiny-BF16-00001-of-00002.gguf",
    "BF16/tiny-BF16-00002-of-00002.gguf",
]


def chosen(pattern: str, paths: list[str] | None = None) -> Choice | Diagnostic:
    return choose(paths or PATHS, pattern, "org/tiny-GGUF", "spark-01.yaml:3")


@pytest.mark.parametrize("pattern", ["*Q4_K_M.gguf", "tiny-Q4_K_M.gguf", "*Q4_K_M*"])
def test_a_pattern_names_one_file(pattern: str) -> None:
    assert chosen(pattern) == Choice("tiny-Q4_K_M.gguf", ("tiny-Q4_K_M.gguf",))


@pytest.mark.parametrize("pattern", ["*BF16*", "*BF16.gguf", "BF16/*", "tiny-BF16-00001-of-00002.gguf"])
def test_the_parts_of_a_split_model_belong_together(pattern: str) -> None:
    first, second = PATHS[-2:]
    assert chosen(pattern) == Choice(first, (first, second))


@pytest.mark.parametrize(
    "pattern, code, part",
    [
        ("", "gguf-file-missing", "tiny-Q8_0.gguf"),
        ("*Q5_K_M.gguf", "gguf-file-unmatched", "tiny-Q4_K_M.gguf"),
        ("*Q*.gguf", "gguf-file-ambiguous", "matches 2 GGUF models"),
        ("mmproj*", "gguf-file-unmatched", ""),
    ],
)
def test_none_or_several_matches_are_an_error_that_lists_the_names(
    pattern: str, code: str, part: str
) -> None:
    found = chosen(pattern)
    assert isinstance(found, Diagnostic)
    assert found.code == code
    assert part in found.message + found.expected
    assert found.location == "spark-01.yaml:3"


def test_a_repository_without_gguf_points_to_other_engines() -> None:
    found = chosen("*", ["model.safetensors", "config.json"])
    assert isinstance(found, Diagnostic)
    assert found.code == "gguf-none"


def test_a_split_model_with_a_missing_part_is_an_error() -> None:
    found = chosen("*BF16*", [path for path in PATHS if "00001" not in path])
    assert isinstance(found, Diagnostic)
    assert "BF16/tiny-BF16-00001-of-00002.gguf missing" in found.message
