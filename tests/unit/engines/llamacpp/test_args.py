"""Arguments of llama-server: rendered, parsed, compared by meaning."""

from __future__ import annotations

from typing import Any

import pytest

from sparkfleet.engines.base import FlagChange
from sparkfleet.engines.llamacpp import args, schema

KNOWN = schema.load("0.5.0")


@pytest.mark.parametrize(
    "flags, arguments",
    [
        ({"ctx-size": 8192}, ("--ctx-size", "8192")),
        ({"ctx_size": 8192}, ("--ctx-size", "8192")),
        ({"c": 8192}, ("--ctx-size", "8192")),
        ({"ngl": "all"}, ("--gpu-layers", "all")),
        ({"jinja": True}, ("--jinja",)),
        ({"jinja": False}, ("--no-jinja",)),
        ({"no-mmproj": True}, ("--no-mmproj",)),
        ({"swa-full": False}, ()),
        ({"flash-attn": True}, ("--flash-attn", "on")),
        ({"fa": "auto"}, ("--flash-attn", "auto")),
        ({"chat-template-kwargs": {"enable_thinking": False}},
         ("--chat-template-kwargs", '{"enable_thinking":false}')),
        ({"device": ["CUDA0", "CUDA1"]}, ("--device", "CUDA0,CUDA1")),
        ({"control-vector-layer-range": [4, 9]}, ("--control-vector-layer-range", "4", "9")),
        ({"ctx-size": None}, ()),
    ],
)  # fmt: skip
def test_flags_are_rendered_as_llama_server_reads_them(
    flags: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    assert args.render(flags, KNOWN) == arguments


def test_a_value_is_never_joined_to_its_flag_by_an_equals_sign() -> None:
    assert args.render({"seed": -1, "reverse-prompt": "-x"}, KNOWN) == (
        "--seed",
        "-1",
        "--reverse-prompt",
        "-x",
    )


@pytest.mark.parametrize(
    "old, new",
    [
        ("-c 8192", "--ctx-size 8192"),
        ("--ctx_size 8192", "--ctx-size 8192"),
        ("-fa on", "--flash-attn 1"),
        ("--temp 0.5 --jinja", "--jinja --temp 0.50"),
        ("--jinja --no-jinja", "--no-jinja"),
        ("--no-slots", "--no-slots"),
        ("-ngl all", "--n-gpu-layers all"),
        ("", "--ctx-size 0"),
        ("--slots", ""),
    ],
)
def test_order_spelling_and_defaults_are_no_difference(old: str, new: str) -> None:
    assert args.differences(old.split(), new.split(), KNOWN, KNOWN) == ()


def test_a_difference_names_the_flag_and_both_values() -> None:
    found = args.differences(["-c", "4096", "--jinja"], ["--ctx-size", "8192", "--no-jinja"], KNOWN, KNOWN)
    assert found == (
        FlagChange("--ctx-size", "4096", "8192"),
        FlagChange("--jinja", "true", "false"),
    )


def test_a_flag_that_is_taken_out_has_no_new_value() -> None:
    assert args.differences(["-np", "2"], [], KNOWN, KNOWN) == (FlagChange("--parallel", "2", None),)


def test_unknown_options_and_missing_values_are_reported_not_raised() -> None:
    parsed = args.parse(["--ctx-sizes", "4", "--jinja", "--port"], KNOWN)
    assert parsed.unknown == ("--ctx-sizes",)
    assert parsed.incomplete == ("--port",)
    assert parsed.values == {"--ctx-sizes": "4", "--jinja": True}
