import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkfleet.engines.vllm import schema
from sparkfleet.engines.vllm.args import LONG_NAMES, SHORT_NAMES, Parsed, canonical, full_flag, parse, render
from sparkfleet.engines.vllm.check import check_flags
from tests.unit.engines.vllm.strategies import flags_of

NEW = schema.load("0.33.0")
RELEASE = st.sampled_from(["0.19.0", "0.33.0"])
PARSER_CODES = {"unknown-flag", "bad-type", "bad-choice", "missing-value", "no-value-allowed", "stray-words"}


def values(*args: str, known: schema.Schema | None = NEW) -> dict[str, Any]:
    return dict(parse(["m", *args], known).values)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_rendered_is_read_back_as_it_was_written(data: st.DataObject) -> None:
    known = schema.load(data.draw(RELEASE))
    flags = data.draw(flags_of(known))
    args = render("org/model", flags, known)
    parsed = parse(args, known)
    assert parsed == Parsed("org/model", flags, ())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_rendered_is_taken_by_the_parser_that_it_was_rendered_for(data: st.DataObject) -> None:
    known = schema.load(data.draw(RELEASE))
    args = render("org/model", data.draw(flags_of(known)), known)
    assert [f for f in check_flags(args, known) if f.code in PARSER_CODES] == []


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rendering_is_stable_under_reading_back(data: st.DataObject) -> None:
    flags = data.draw(flags_of(NEW))
    once = render("m", flags, NEW)
    assert render("m", dict(parse(once, NEW).values), NEW) == once


def test_flags_are_rendered_in_the_users_order_after_the_model() -> None:
    flags = {"port": 8000, "max-model-len": 65536, "enforce-eager": True}
    assert render("m", flags, NEW) == ("m", "--port", "8000", "--max-model-len", "65536", "--enforce-eager")


def test_a_model_set_by_another_flag_is_left_out() -> None:
    assert render("", {"port": 1}, NEW) == ("--port", "1")


@pytest.mark.parametrize("key", ["max_model_len", "max-model-len", "--max-model-len", "--max_model_len"])
def test_a_flag_may_be_written_in_every_usual_way(key: str) -> None:
    assert canonical(key, NEW) == canonical(key, None) == "--max-model-len"


@pytest.mark.parametrize("key", ["tp", "-tp", "tensor-parallel-size"])
def test_a_short_name_is_rendered_in_full(key: str) -> None:
    assert render("m", {key: 2}, NEW) == ("m", "--tensor-parallel-size", "2")


def test_an_unknown_flag_keeps_its_name() -> None:
    assert canonical("brand_new", NEW) == "--brand-new"


@pytest.mark.parametrize(
    ("flags", "args"),
    [
        ({"enable-prefix-caching": False}, ("--no-enable-prefix-caching",)),
        ({"no-enable-prefix-caching": True}, ("--no-enable-prefix-caching",)),
        ({"no-enable-prefix-caching": False}, ("--enable-prefix-caching",)),
        ({"disable-log-stats": False}, ()),
        ({"seed": None}, ()),
        ({"speculative-config": {"num": 1, "b": [1, 2]}}, ("--speculative-config", '{"num":1,"b":[1,2]}')),
        ({"allowed-origins": ["*"]}, ("--allowed-origins", '["*"]')),
        ({"served-model-name": ["a", "b"]}, ("--served-model-name", "a", "b")),
        ({"served-model-name": ["-a"]}, ("--served-model-name=-a",)),
        ({"middleware": ["a", "b"]}, ("--middleware", "a", "--middleware", "b")),
        ({"device-ids": [0, 1]}, ("--device-ids", "0,1")),
        ({"chat-template": "-x"}, ("--chat-template=-x",)),
        ({"stream-interval": -1}, ("--stream-interval", "-1")),
        ({"kv-transfer-config": True}, ("--kv-transfer-config", "true")),
        ({"gpu-memory-utilization": 0.85}, ("--gpu-memory-utilization", "0.85")),
    ],
)
def test_every_kind_of_value_has_its_args(flags: dict[str, Any], args: tuple[str, ...]) -> None:
    assert render("m", flags, NEW)[1:] == args


@pytest.mark.parametrize(
    ("flags", "args"),
    [
        ({"x": False}, ("--no-x",)),
        ({"x": True}, ("--x",)),
        ({"x": ["a", "b"]}, ("--x", "a", "b")),
        ({"x": [{"a": 1}]}, ("--x", '[{"a":1}]')),
        ({"x": {"a": 1}}, ("--x", '{"a":1}')),
        ({"x": 1.5}, ("--x", "1.5")),
    ],
)
def test_without_a_schema_values_are_rendered_and_read_back_by_their_form(
    flags: dict[str, Any], args: tuple[str, ...]
) -> None:
    assert render("m", flags, None)[1:] == args
    assert parse(("m", *args), None) == Parsed("m", {"--x": flags["x"]})


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--max_model_len=64K",), {"--max-model-len": 65536}),
        (("--max-model-len", "64k"), {"--max-model-len": 64000}),
        (("--max-model-len", "auto"), {"--max-model-len": -1}),
        (("--max-model-len", "1.5K"), {"--max-model-len": "1.5K"}),
        (("-tp", "2"), {"--tensor-parallel-size": 2}),
        (("-tp=2",), {"--tensor-parallel-size": 2}),
        (("-qfp8",), {"--quantization": "fp8"}),
        (("-O3",), {"--optimization-level": "3"}),
        (("-O=3",), {"--optimization-level": "3"}),
        (("-O", "3"), {"--optimization-level": "3"}),
        (("--tensor-parallel", "2"), {"--tensor-parallel-size": 2}),
        (("--no-enforce-eager",), {"--enforce-eager": False}),
        (("--disable-prefix-caching",), {"--enable-prefix-caching": False}),
        (("--port", "1", "--port", "2"), {"--port": 2}),
        (("--seed", "None"), {"--seed": "None"}),
        (("--revision", "None"), {"--revision": None}),
        (("--moe-backend", "Flashinfer-Cutlass"), {"--moe-backend": "flashinfer_cutlass"}),
        (("--speculative-config.num", "1", "-sc.m=x"), {"--speculative-config": {"m": "x"}}),
        (
            ("-cc.pass_config.a", "true", "-cc.sizes+", "1,2", "-cc.pass_config", '{"b": 1}'),
            {"--compilation-config": {"pass_config": {"a": True, "b": 1}, "sizes": ["1", "2"]}},
        ),
        (("-cc.x", "2K", "-cc.y", "[1]", "-cc.y", "[2]"), {"--compilation-config": {"x": 2048, "y": [1, 2]}}),
        (("-cc.a", "1", "-cc.a.b", "2"), {"--compilation-config": {"a": {"b": 2}}}),
        (
            ("-cc", '{"max_cudagraph_capture_size": 1K}'),
            {"--compilation-config": {"max_cudagraph_capture_size": 1024}},
        ),
        (("-cc", "{broken"), {"--compilation-config": "{broken"}),
        (("--additional-config", "text"), {"--additional-config": "text"}),
        (("--additional-config", '{"a": 1}'), {"--additional-config": {"a": 1}}),
        (("--gpu-memory-utilization", "0.85"), {"--gpu-memory-utilization": 0.85}),
        (("--stream-interval", "-1"), {"--stream-interval": -1}),
        (("--middleware", "a", "--middleware", "b"), {"--middleware": ["a", "b"]}),
        (("--seed",), {"--seed": True}),
    ],
)
def test_every_way_of_writing_a_flag_is_read_by_its_meaning(
    args: tuple[str, ...], expected: dict[str, Any]
) -> None:
    assert values(*args) == expected


@pytest.mark.parametrize("args", [("-O3",), ("-O=3",), ("-O", "3"), ("-O.level=3",), ("-O", '{"level":3}')])
def test_up_to_011_the_optimization_level_was_a_key_of_the_compilation_config(args: tuple[str, ...]) -> None:
    old = schema.load("0.11.0")
    assert parse(["m", *args], old).values == {"--compilation-config": {"level": 3}}


def test_flags_that_the_release_does_not_have_are_named_and_keep_their_values() -> None:
    parsed = parse(["m", "--brand-new", "3", "--other={}", "stray"], NEW)
    assert parsed.unknown == ("--brand-new", "--other", "stray")
    assert parsed.values == {"--brand-new": 3, "--other": {}}


def test_an_ambiguous_prefix_is_unknown_and_swallows_its_values() -> None:
    parsed = parse(["m", "--max-num-s", "4", "5", "--port", "1"], NEW)
    assert parsed.unknown == ("--max-num-s",)
    assert parsed.values == {"--max-num-s": [4, 5], "--port": 1}


def test_the_model_may_stand_anywhere_or_be_a_flag() -> None:
    assert parse(["--port", "1", "org/m"], NEW).model == "org/m"
    assert parse(["--model", "org/m"], NEW) == Parsed("org/m", {})
    assert parse(["org/m", "--model", "other"], NEW).model == "org/m"
    assert parse(["--port", "1", "--", "org/m"], NEW).model == "org/m"
    assert parse([], NEW) == Parsed("", {})


def test_stray_args_count_even_without_a_schema() -> None:
    assert parse(["m", "stray"], None).values == {"(words)": ["stray"]}


def test_a_dotted_flag_without_its_value_is_left_as_it_is() -> None:
    assert parse(["m", "-cc.level"], NEW).unknown == ("-cc.level",)


@pytest.mark.parametrize(("word", "meant"), [("true", True), ("0", False), ("maybe", "maybe")])
def test_a_boolean_that_is_a_value_is_read_as_one(word: str, meant: object) -> None:
    flag = schema.Flag("--log-it", type="bool")
    assert parse(["m", "--log-it", word], schema.Schema("1", {"--log-it": flag})).values == {
        "--log-it": meant
    }


@given(st.lists(st.text(max_size=8), max_size=8))
@settings(max_examples=100, deadline=None)
def test_no_args_whatever_make_reading_fail(args: list[str]) -> None:
    for known in (NEW, None):
        json.dumps(dict(parse(args, known).values))
        check_flags(args, NEW)


def test_short_names_are_those_of_every_release() -> None:
    found: dict[str, set[str]] = {}
    for version in schema.versions():
        for flag in schema.load(version).flags.values():
            for alias in flag.aliases:
                found.setdefault(alias, set()).add(flag.name.removeprefix("--"))
    long = {alias[2:]: names for alias, names in found.items() if alias.startswith("--")}
    assert long == {alias: {name} for alias, name in LONG_NAMES.items()}
    short = {alias[1:]: names for alias, names in found.items() if not alias.startswith("--")}
    del short["h"], short["O"]  # help; up to 0.11 a level or the compilation config
    assert short == {alias: {name} for alias, name in SHORT_NAMES.items()}


@pytest.mark.parametrize(
    ("written", "value", "meant"),
    [
        ("tp", 2, ("tensor-parallel-size", 2)),
        ("-tp", 2, ("tensor-parallel-size", 2)),
        ("cc.mode", 3, ("compilation-config.mode", 3)),
        ("O3", True, ("optimization-level", 3)),
        ("-O", 2, ("optimization-level", 2)),
        ("O3", None, ("O3", None)),
        ("max-num-seqs", 4, ("max-num-seqs", 4)),
    ],
)
def test_a_flag_has_its_full_name(written: str, value: Any, meant: tuple[str, Any]) -> None:
    assert full_flag(written, value) == meant
