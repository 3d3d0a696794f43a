"""What is known to be wrong with a llama-server command line before it starts."""

from __future__ import annotations

import pytest

from sparkfleet.contract.diagnostic import Severity
from sparkfleet.engines.llamacpp import check, schema

KNOWN = schema.load("0.5.0")


@pytest.mark.provokes("bad-flag-value", "exits-at-once")
@pytest.mark.parametrize(
    "line, code, part",
    [
        ("--ctx-sizes 4096", "unknown-flag", "did you mean '--ctx-size'"),
        ("--ctx-size=4096", "unknown-flag", "two arguments"),
        ("--max-model-len 4096", "unknown-flag", ""),
        ("--ctx-size big", "bad-flag-value", "a whole number"),
        ("--temp hot", "bad-flag-value", "a number"),
        ("--flash-attn maybe", "bad-flag-value", "on or off or auto"),
        ("--cache-type-k q3_0", "bad-flag-value", "q8_0"),
        ("-ngl most", "bad-flag-value", "auto, all"),
        ("--draft-max 3", "unknown-flag", "--spec-draft-n-max"),
        ("--parallel", "missing-value", "a value"),
        ("--version", "exits-at-once", ""),
    ],
)
def test_what_llama_server_refuses_is_an_error(line: str, code: str, part: str) -> None:
    found = check.check_arguments(line.split(), KNOWN)
    assert [(one.code, one.severity) for one in found] == [(code, Severity.ERROR)]
    assert part in str(found[0])
    assert found[0].location.startswith("--")


def test_a_command_line_as_people_write_it_has_no_findings() -> None:
    line = "-c 8192 -np 4 -ngl all -fa on --jinja -ctk q8_0 -ctv q8_0 --temp 0.7 -b 2048"
    assert check.check_arguments(line.split(), KNOWN) == ()


def test_what_an_unbundled_release_may_accept_is_a_warning_only() -> None:
    (found,) = check.check_arguments(["--new-flag"], KNOWN, exact=False)
    assert found.severity is Severity.WARNING
    assert "0.5.0" in found.message


@pytest.mark.provokes("deprecated-flag", "secret-in-argv")
def test_a_secret_in_the_command_line_and_a_deprecated_flag_are_warnings() -> None:
    found = check.check_arguments(["--api-key", "s", "--defrag-thold", "0.1"], KNOWN)
    assert [(one.code, one.severity) for one in found] == [
        ("secret-in-argv", Severity.WARNING),
        ("deprecated-flag", Severity.WARNING),
    ]


def test_a_variable_without_effect_is_a_warning() -> None:
    names = ["LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_NO_JINJA", "LLAMA_ARG_CTX_SIZES", "PATH"]
    (found,) = check.check_environment(names, KNOWN)
    assert "LLAMA_ARG_CTX_SIZES" in found.message
    assert found.hint == "did you mean 'LLAMA_ARG_CTX_SIZE'?"
