"""The bundled flags of llama.cpp, and how they are read from its source."""

from __future__ import annotations

import pytest
from tools.add_llamacpp_flags import read_defaults, read_flags

from sparkfleet.engines.llamacpp import schema

SOURCE = r"""
static std::initializer_list<enum llama_example> mmproj_examples = {
    LLAMA_EXAMPLE_MTMD,
    LLAMA_EXAMPLE_SERVER,
};
const std::vector<ggml_type> kv_cache_types = {
    GGML_TYPE_F16,
    GGML_TYPE_Q8_0,
};
    add_opt(common_arg(
        {"-t", "--threads"}, "N",
        string_format("number of CPU threads, see \"(docs)\" (default: %d)", params.n_threads),
        [](common_params & params, int value) { // a brace: }
            params.n_threads = value;
        }
    ).set_env("LLAMA_ARG_THREADS"));
    add_opt(common_arg(
        {"--color"}, "[on|off|auto]", "colors",
        [](common_params & params, const std::string & value) { params.color = is_truthy(value); }
    ).set_examples({LLAMA_EXAMPLE_CLI}));
    add_opt(common_arg({"--file"}, "FNAME", "prompt",
        [](common_params & params, const std::string & value) { params.file = value; }
    ).set_excludes({LLAMA_EXAMPLE_SERVER}));
    add_opt(common_arg(
        {"--jinja"}, {"--no-jinja"}, "use jinja",
        [](common_params & params, bool value) { params.use_jinja = value; }
    ).set_examples({LLAMA_EXAMPLE_SERVER}));
    add_opt(common_arg(
        // note: "-mm" must sort after "--rpc"
        {"-mm", "--mmproj"}, "FILE", "projector",
        [](common_params & params, const std::string & value) { params.mmproj = value; }
    ).set_examples(mmproj_examples));
    add_opt(common_arg(
        {"-ctk", "--cache-type-k"}, "TYPE", "type",
        [](common_params & params, const std::string & value) { params.k = kv_cache_type_from_str(value); }
    ));
    add_opt(common_arg(
        {"--metrics"}, "enable metrics",
        [](common_params & params) { params.metrics = true; }
    ).set_examples({LLAMA_EXAMPLE_SERVER}).set_env("LLAMA_ARG_ENDPOINT_METRICS"));
"""


def test_flags_of_the_server_are_read_from_the_declarations_in_the_source() -> None:
    flags = read_flags(SOURCE)
    assert list(flags) == ["--cache-type-k", "--jinja", "--metrics", "--mmproj", "--threads"]
    assert flags["--threads"] == {
        "kind": "value", "type": "int", "hint": "N", "aliases": ["-t"], "env": "LLAMA_ARG_THREADS",
        "help": 'number of CPU threads, see "(docs)"',
    }  # fmt: skip
    assert flags["--jinja"]["negatives"] == ["--no-jinja"]
    assert flags["--metrics"]["kind"] == "switch"
    assert flags["--cache-type-k"]["choices"] == ["f16", "q8_0"]


def test_defaults_are_read_from_the_help_text() -> None:
    text = (
        "-t,    --threads N                      number of CPU threads (default: -1)\n"
        "                                        (env: LLAMA_ARG_THREADS)\n"
        "--jinja, --no-jinja                     use jinja (default: enabled)\n"
        "--metrics                               enable metrics\n"
    )
    assert read_defaults(text) == {
        "-t": "-1", "--threads": "-1", "--jinja": "enabled", "--no-jinja": "enabled",
    }  # fmt: skip


@pytest.mark.parametrize("version", schema.versions())
def test_every_bundled_release_has_the_flags_that_sparkfleet_sets(version: str) -> None:
    known = schema.load(version)
    assert {"--model", "--alias", "--host", "--port", "--metrics", "--ctx-size"} <= known.flags.keys()
    assert len(known.commit) >= 7


def test_no_option_belongs_to_two_flags() -> None:
    known = schema.load(schema.versions()[-1])
    spelled = [o for flag in known.flags.values() for o in (flag.name, *flag.aliases, *flag.negatives)]
    assert len(spelled) == len(set(spelled))


@pytest.mark.parametrize(
    "version, found", [("0.5.0", ("0.5.0", True)), ("0.9.1", ("0.5.0", False)), ("b9999", ("0.5.0", False))]
)
def test_the_nearest_release_says_whether_it_is_exact(version: str, found: tuple[str, bool]) -> None:
    nearest, exact = schema.nearest(version)
    assert (nearest.version, exact) == found
