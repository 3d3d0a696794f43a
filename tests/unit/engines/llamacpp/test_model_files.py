"""Which GGUF file of a repository is served."""

from __future__ import annotations

import pytest

from sparkfleet.engines.base import ModelFilesError
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


def chosen(pattern: str, paths: list[str] | None = None) -> Choice:
    return choose(paths or PATHS, pattern)


@pytest.mark.parametrize("pattern", ["*Q4_K_M.gguf", "tiny-Q4_K_M.gguf", "*Q4_K_M*"])
def test_a_pattern_names_one_file(pattern: str) -> None:
    assert chosen(pattern) == Choice("tiny-Q4_K_M.gguf", ("tiny-Q4_K_M.gguf",))


@pytest.mark.parametrize("pattern", ["*BF16*", "*BF16.gguf", "BF16/*", "tiny-BF16-00001-of-00002.gguf"])
def test_the_parts_of_a_split_model_belong_to_one_model(pattern: str) -> None:
    first, second = PATHS[-2:]
    assert chosen(pattern) == Choice(first, (first, second))


@pytest.mark.parametrize(
    "pattern, found, hint",
    [
        ("", "4 GGUF models, and the service does not say which one", "*Q4_K_M.gguf"),
        (
            "*Q5_K_M.gguf",
            "'*Q5_K_M.gguf' matches none",
            "one of: BF16/tiny-BF16-00001-of-00002.gguf, tiny-F16",
        ),
        ("*Q*.gguf", "matches 2 of its GGUF models: tiny-Q4_K_M.gguf, tiny-Q8_0.gguf", "write more"),
        ("mmproj*", "matches none", "tiny-F16.gguf"),
    ],
)
def test_none_or_several_matches_are_an_error_that_lists_the_names(
    pattern: str, found: str, hint: str
) -> None:
    with pytest.raises(ModelFilesError) as error:
        chosen(pattern)
    assert found in str(error.value)
    assert hint in error.value.diagnostic.hint


def test_a_repository_without_gguf_points_to_other_engines() -> None:
    with pytest.raises(ModelFilesError) as error:
        chosen("*", ["model.safetensors", "config.json"])
    assert "engine: vllm" in error.value.diagnostic.hint


def test_a_split_model_with_a_missing_part_is_an_error() -> None:
    with pytest.raises(ModelFilesError, match=r"BF16/tiny-BF16-00001-of-00002.gguf missing"):
        chosen("*BF16*", [path for path in PATHS if "00001" not in path])
