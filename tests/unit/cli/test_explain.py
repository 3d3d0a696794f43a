"""`sparkfleet explain`: one command for every name that a file, a plan, a log or an error has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sparkfleet import engines, explanations
from sparkfleet.cli.explain import explain
from sparkfleet.contract.codes import AREAS
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.errors import error_text


def run(*args: str) -> Result:
    return CliRunner().invoke(explain, args)


def meanings(term: str) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = json.loads(run(term, "--json").output)
    return data


def test_a_key_is_shown_with_its_value_and_the_files_that_have_it() -> None:
    assert run("gate.timeout").output.splitlines() == [
        "timeout (YAML key)",
        "  Limit for the start: 30m, 1800s or a number of seconds.",
        "  value         string or integer",
        "  host file     serve.gate.timeout",
        "  cluster file  serve.gate.timeout",
        "  recipe        gate.timeout",
        "  group_data    gate.timeout",
    ]


def test_a_flag_is_shown_with_its_releases() -> None:
    (flag,) = meanings("--max-num-partial-prefills")
    assert flag["kind"] == "flag of vLLM"
    assert flag["facts"]["instead"] == "remove it: the scheduler decides"
    assert "up to" in flag["facts"]["releases"]


@pytest.mark.parametrize(
    "spelling", ["--max-model-len", "max-model-len", "max_model_len", "flags.max-model-len"]
)
def test_every_spelling_of_a_flag_finds_it(spelling: str) -> None:
    (flag,) = meanings(spelling)
    assert (flag["kind"], flag["name"]) == ("flag of vLLM", "--max-model-len")


def test_a_flag_of_another_engine_names_that_engine() -> None:
    (flag,) = meanings("--ctx-size")
    assert flag["kind"] == "flag of llama.cpp"
    assert flag["facts"]["variable"] == "LLAMA_ARG_CTX_SIZE"


def test_a_flag_that_sparkfleet_sets_names_the_key_to_use() -> None:
    flag = next(one for one in meanings("--port") if one["kind"] == "flag of vLLM")
    assert flag["facts"]["set by sparkfleet"] == engines.get("vllm").reserved_flags["port"]


def test_a_variable_is_shown_with_its_releases() -> None:
    (variable,) = meanings("VLLM_LOGGING_LEVEL")
    assert variable["kind"] == "variable of vLLM"


def test_a_rule_is_found_in_any_case() -> None:
    (rule,) = meanings("mem-03")
    assert (rule["kind"], rule["name"]) == ("lint rule", "MEM-03")
    assert rule["facts"]["ignore"].startswith("ignore_rules: {MEM-03: REASON}")


def test_a_code_is_shown_with_its_remedy() -> None:
    (code,) = meanings("ssh-unreachable")
    assert (
        code["text"]
        == next(codes for codes in AREAS.values() if "ssh-unreachable" in codes)["ssh-unreachable"].cause
    )


def test_a_failure_is_shown_with_a_line_of_its_log() -> None:
    (failure,) = meanings("memory-no-cache")
    assert failure["kind"] == "failure of a start"
    assert "No available memory for the cache blocks" in failure["facts"]["log line"]


def test_an_exit_code_is_shown_by_command() -> None:
    (code,) = meanings("2")
    assert code["facts"]["plan"] == "changes"


def test_a_term_with_several_meanings_shows_all() -> None:
    assert [one["kind"] for one in meanings("revision")] == ["YAML key", "YAML key", "flag of vLLM"]


@pytest.mark.provokes("term-unknown")
def test_an_unknown_term_gets_the_closest_one() -> None:
    with pytest.raises(SparkfleetError) as error:
        explain.main(["generatoin"], standalone_mode=False)
    assert "did you mean 'generation'?" in error_text(error.value)


def test_an_unknown_flag_is_a_wrong_command_line() -> None:
    result = run("--max-modl-len")
    assert result.exit_code == 2  # click's own; the front end makes it 64
    assert "did you mean '--max-model-len'?" in result.output


def test_every_name_has_an_explanation() -> None:
    flags = {name for engine in engines.names() for name in engines.get(engine).flag_names()}
    assert len(flags) > 300
    sampled = [*sorted(set(explanations.names()) - flags), *sorted(flags)[::25]]
    assert [name for name in sampled if not explanations.of(name)] == []
