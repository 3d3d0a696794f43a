"""The stand-in's argument parser: who asks it must get the answers of the real release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sparkfleet.engines.vllm
from sparkfleet.engines.vllm import schema_archive
from sparkfleet_lab.standin_images import IMAGES
from tests.unit.standins.conftest import Start

ASK = Path(sparkfleet.engines.vllm.__file__).parent / "data" / "ask_parser.py"
RELEASES = sorted({image.schema for image in IMAGES})


@pytest.fixture
def ask(packages: Callable[[str], Path]) -> Any:
    def ask(release: str, *args: str) -> Any:
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(packages(release)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        program = [sys.executable, "-", *args]
        done = subprocess.run(program, input=ASK.read_bytes(), env=env, capture_output=True, check=False)
        return json.loads(done.stdout)

    return ask


def without_empty(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value not in (None, [])}


@pytest.mark.parametrize("release", RELEASES)
def test_read_out_it_gives_the_schema_of_its_release(ask: Callable[..., Any], release: Any) -> None:
    got, expected = ask(release, "schema"), schema_archive.release(schema_archive.read(), release)
    assert got["vllm_version"] == release
    assert {n: without_empty(e) for n, e in got["flags"].items()} == {
        n: without_empty(e) for n, e in expected["flags"].items()
    }
    assert got["json_classes"] == expected["json_classes"]
    assert {name: set(names) for name, names in got["registries"].items()} == {
        name: set(names) for name, names in expected["registries"].items()
    }


ACCEPTED = [
    ["m"],
    ["m", "--max-model-len", "64K", "--max_num_seqs=4", "-tp", "1"],
    ["m", "--max-model-len", "auto"],
    ["m", "--enable-prefix-caching", "--no-enable-chunked-prefill"],
    ["m", "--speculative-config.method", "mtp", "--speculative-config.num_speculative_tokens", "3"],
    ["m", "--compilation-config", '{"mode": 3}', "-O3"],
    ["m", "--served-model-name", "a", "b"],
    ["m", "--moe-backend", "FLASHINFER-CUTLASS"],
    ["m", "--max-num-se", "4"],
]
REFUSED = [
    (["m", "--speculative-disable-by-batch-size", "4"], "unrecognized arguments"),
    (["vllm", "serve", "m"], "unrecognized arguments: serve m"),
    (["m", "--max-num", "4"], "ambiguous option"),
    (["m", "--kv-cache-dtype", "fp9"], "invalid choice: 'fp9'"),
    (["m", "--gpu-memory-utilization", "much"], "invalid float value"),
    (["m", "--speculative-config", "{"], "cannot be converted to"),
    (["m", "--compilation-config", '{"no_such_key": 1}'], "validation error for CompilationConfig"),
    (["m", "--port"], "expected one argument"),
    (["m", "--enable-auto-tool-choice"], "requires --tool-call-parser"),
]


@pytest.mark.parametrize("args", ACCEPTED, ids=" ".join)
def test_args_that_the_real_parser_takes_are_taken(ask: Callable[..., Any], args: Any) -> None:
    assert ask("0.24.0", "parse", *args) == {"ok": True, "error": "", "version": "0.24.0"}


@pytest.mark.parametrize(("args", "error"), REFUSED, ids=[" ".join(args) for args, _ in REFUSED])
def test_args_that_the_real_parser_refuses_are_refused(
    ask: Callable[..., Any], args: Any, error: Any
) -> None:
    output = ask("0.24.0", "parse", *args)
    assert output["ok"] is False
    assert error in output["error"]


def test_a_flag_is_known_to_the_releases_that_have_it(ask: Callable[..., Any]) -> None:
    assert not ask("0.20.2", "parse", "m", "--linear-backend", "marlin")["ok"]
    assert ask("0.24.0", "parse", "m", "--linear-backend", "marlin")["ok"]


@pytest.mark.parametrize("form", [["--model", "{tiny}"], ["--model={tiny}"]])
def test_the_model_may_be_given_as_a_flag(engine: Start, tiny: Path, form: Any) -> None:
    engine(*[word.format(tiny=tiny) for word in form], "--served-model-name", "x").until(
        "Application startup complete"
    )


def test_what_was_parsed_is_written_to_the_log(engine: Start, tiny: Path) -> None:
    args = ["--max_model_len=1K", "--speculative-config.method", "ngram", "--no-enable-prefix-caching"]
    log = engine(str(tiny), *args).until("Resolved architecture").log
    assert "'max_model_len': 1024" in log
    assert "'speculative_config': {'method': 'ngram'}" in log
    assert "'enable_prefix_caching': False" in log
