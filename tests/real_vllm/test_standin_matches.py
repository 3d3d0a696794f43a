"""The stand-in and the real vLLM agree on verdicts, responses, metrics and exit codes."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.gate import diagnosis
from tests.real_vllm.conftest import ASK, READY, Container, Engine, ask, error_line, in_image, until

READER = diagnosis.reader("vllm")
pytestmark = pytest.mark.real_vllm

SERVE = (
    "MODELS/tiny",
    "--served-model-name",
    "tiny",
    "--enforce-eager",
    "--max-model-len",
    "512",
    "--max-num-seqs",
    "4",
)

PARSE_MANY = """
lines = json.loads(LINES)
out = os.dup(1)
os.dup2(2, 1)
parser, _ = build()

def refuse(message):
    raise RefusedError(message)

parser.error = refuse
verdicts = []
for line in lines:
    try:
        parser.parse_args(line)
        verdicts.append("")
    except RefusedError as refusal:
        verdicts.append(str(refusal))
    except (Exception, SystemExit) as error:
        verdicts.append(type(error).__name__)
os.write(out, json.dumps(verdicts).encode())
"""


@pytest.fixture(scope="module")
def both(start_real: Callable[..., Container], start_standin: Callable[..., Container]) -> Any:
    return [until(start(*SERVE), READY) for start in (start_real, start_standin)]


def keys(data: Any) -> Any:
    """Return the shape of JSON data: its keys at all levels."""
    if isinstance(data, dict):
        return {key: keys(value) for key, value in data.items()}
    return [keys(data[0])] if isinstance(data, list) and data else None


def test_every_read_only_endpoint_answers_alike(both: list[Engine]) -> None:
    for path in ("/health", "/ping", "/version", "/load", "/v1/nothing", "/v1/chat/completions"):
        real, standin = (ask(engine, path) for engine in both)
        assert standin == real, path


def test_models_are_listed_alike(both: list[Engine]) -> None:
    real, standin = (json.loads(ask(engine, "/v1/models")[1]) for engine in both)
    assert keys(standin) == keys(real)
    for key in ("id", "max_model_len", "owned_by", "object", "parent"):
        assert standin["data"][0][key] == real["data"][0][key]


REQUESTS = [
    (
        "/v1/chat/completions",
        {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3},
    ),
    ("/v1/completions", {"model": "tiny", "prompt": "Hello", "max_tokens": 3}),
]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_completions_have_the_same_form(both: list[Engine], path: Any, body: Any) -> None:
    real, standin = (json.loads(ask(engine, path, body)[1]) for engine in both)
    assert keys(standin) == keys(real)
    assert standin["usage"]["completion_tokens"] == real["usage"]["completion_tokens"] == 3
    assert standin["choices"][0]["finish_reason"] == real["choices"][0]["finish_reason"] == "length"


def test_an_unknown_name_gets_the_same_message(both: list[Engine]) -> None:
    body = {"model": "other", "messages": [{"role": "user", "content": "x"}]}
    real, standin = (ask(engine, "/v1/chat/completions", body) for engine in both)
    assert standin == real


@pytest.mark.parametrize("body", [b"{", b'{"model": "tiny"}'])
def test_an_invalid_request_gets_the_same_status(both: list[Engine], body: bytes) -> None:
    real, standin = (ask(engine, "/v1/completions", body)[0] for engine in both)
    assert standin == real == 400


def test_a_stream_has_the_same_form(both: list[Engine]) -> None:
    body = {"model": "tiny", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 2}
    body["messages"] = [{"role": "user", "content": "Hello"}]
    streams = [ask(engine, "/v1/chat/completions", body)[1] for engine in both]
    for stream in streams:
        assert stream.endswith("data: [DONE]\n\n")
    real, standin = (
        [json.loads(line[6:]) for line in s.split("\n\n") if line.startswith("data: {")] for s in streams
    )
    assert keys(standin[0]["choices"]) == keys(real[0]["choices"])
    assert standin[-1]["choices"] == real[-1]["choices"] == []
    assert set(standin[-1]["usage"]) == set(real[-1]["usage"])


def test_the_metrics_have_the_same_names_types_and_labels(both: list[Engine]) -> None:
    real, standin = (ask(engine, "/metrics")[1] for engine in both)

    def types(text: str) -> dict[str, str]:
        return dict(re.findall(r"^# TYPE (vllm:\S+) (\w+)", text, re.MULTILINE))

    lost = {name: kind for name, kind in types(real).items() if types(standin).get(name) != kind}
    assert lost == {"vllm:admission_rejections_created": "gauge"}

    def labels(text: str) -> set[tuple[str, str]]:
        lines = re.findall(r"^(vllm:\w+)\{(.*)\} ", text, re.MULTILINE)
        plain = {(name, re.sub(r'="[^"]*"', "", label)) for name, label in lines}
        return {entry for entry in plain if not re.search("cache_config_info|_created|_bucket", entry[0])}

    assert labels(real) - labels(standin) == set()


def test_the_same_counters_move_with_an_answer(both: list[Engine]) -> None:
    names = (
        "generation_tokens_total",
        "prompt_tokens_total",
        "iteration_tokens_total_count",
        "request_success_total",
    )

    def counters(engine: Any) -> list[float]:
        text = ask(engine, "/metrics")[1]
        return [
            sum(
                float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                if line.startswith(f"vllm:{name}{{")
            )
            for name in names
        ]

    for engine in both:
        before = counters(engine)
        ask(engine, "/v1/completions", {"model": "tiny", "prompt": "Hello there", "max_tokens": 4})
        moved = [after - first for first, after in zip(before, counters(engine), strict=True)]
        assert moved[0] == 4
        assert moved[1] > 0
        assert moved[2] == 4
        assert moved[3] == 1


def phases(log: str) -> list[str]:
    seen = [found[0] for line in log.splitlines() if (found := READER.phase_of(line))]
    return list(dict.fromkeys(seen))


def test_the_start_goes_through_the_same_phases(both: list[Engine]) -> None:
    real, standin = (phases(engine.log()) for engine in both)
    assert [phase for phase in standin if phase in real] == real
    assert real


FAILURES = [
    ["MODELS/tiny", "--speculative-disable-by-batch-size", "32"],
    ["vllm", "serve", "MODELS/tiny"],
    ["MODELS/tiny", "--kv-cache-dtype", "fp9"],
    ["MODELS/tiny", "--speculative-config", '{"method":'],
    ["MODELS/tiny", "--max-model-len", "999999", "--enforce-eager"],
    ["MODELS/tiny", "--quantization", "modelopt", "--enforce-eager"],
    ["MODELS/tiny", "--enable-auto-tool-choice", "--tool-call-parser", "nano_v9"],
    ["MODELS/tiny", "--enable-auto-tool-choice"],
    ["MODELS/tiny", "--reasoning-parser", "nano_v3"],
    ["no/such-model"],
]


@pytest.mark.parametrize("args", FAILURES, ids=" ".join)
def test_a_start_that_fails_ends_with_the_same_code_and_cause(
    start_real: Callable[..., Container], start_standin: Callable[..., Container], models: Any, args: Any
) -> None:
    real, standin = start_real(*args), start_standin(*args)
    code = real.ended()
    assert standin.ended() == code != 0
    found = [READER.diagnose(engine.log(), code) for engine in (real, standin)]
    assert found[0] is not None, real.log()
    assert found[1] is not None, standin.log()
    assert found[1].diagnostic.code == found[0].diagnostic.code
    if code == 2:
        assert error_line(standin.log()).replace(str(models), "/models") == error_line(real.log())


def test_a_signal_to_stop_while_serving_ends_both_with_0(both: list[Engine]) -> None:
    assert [engine.stop() for engine in both] == [0, 0]


def test_a_signal_to_stop_during_the_start_ends_both_with_130(
    start_real: Callable[..., Container], start_standin: Callable[..., Container]
) -> None:
    real = until(start_real(*SERVE), "Resolved architecture")
    standin = until(start_standin(*SERVE, LAB_ENGINE_SLOW="600"), "Resolved architecture")
    assert [engine.stop() for engine in (real, standin)] == [130, 130]


def lines_to_parse(schema: dict[str, Any], count: int) -> list[list[str]]:
    """Return command lines of known flags with values right and wrong; the same ones every time."""
    source = random.Random(20261121)
    names = sorted(
        name for name, entry in schema["flags"].items() if entry["kind"] != "help" and name != "--config"
    )
    values = [
        "1",
        "0.5",
        "auto",
        "None",
        "64K",
        "1.5k",
        "x",
        "",
        "{}",
        '{"a": 1}',
        "[1]",
        "a,b",
        "true",
        "-1",
        "fp8",
    ]
    lines = []
    for _ in range(count):
        line = ["m"]
        for name in source.sample(names, source.randint(1, 3)):
            entry = schema["flags"][name]
            spelled = source.choice(
                [name, name.replace("-", "_").replace("__", "--", 1), name[:-1], *entry["aliases"]]
            )
            if entry["kind"] in ("store_true", "bool_optional"):
                line.append(source.choice([spelled, *entry.get("negatives", ())]))
            else:
                choices = [str(choice) for choice in entry.get("choices", ())] or values
                if (entry.get("type") or "").rpartition(":")[2] in schema[
                    "json_classes"
                ] and source.random() < 0.8:
                    fields = schema["json_classes"][entry["type"].rpartition(":")[2]]
                    key = source.choice([name for name in fields if name != "__extra__"])
                    items: tuple[Any, ...] = (1, "1", "x", True, None, [1], ["x"], {}, 0.5)
                    choices = [json.dumps({key: item}) for item in items]
                value = source.choice([*choices, source.choice(values)])
                line += [f"{spelled}={value}"] if source.random() < 0.4 else [spelled, value]
        lines.append(line)
    return lines


OWN_RULES = r"\n  Value error, |IrOpPriorityConfig"
"""Rules in the code of config classes, which no schema contains."""


def test_the_parsers_give_the_same_verdict_on_generated_command_lines(
    image: Any, schema: dict[str, Any], package: Path
) -> None:
    lines = lines_to_parse(schema, 1500)
    program = ASK.read_text().split('if __name__ == "__main__":')[0]
    program += PARSE_MANY.replace("LINES", repr(json.dumps(lines)))
    real = in_image(image, program)
    done = subprocess.run(
        [sys.executable, "-"],
        input=program.encode(),
        capture_output=True,
        check=True,
        env={"PYTHONPATH": str(package)},
    )
    standin = json.loads(done.stdout)
    different = [
        (" ".join(line), real_verdict, standin_verdict)
        for line, real_verdict, standin_verdict in zip(lines, real, standin, strict=True)
        if bool(real_verdict) != bool(standin_verdict)
        and not re.search(OWN_RULES, real_verdict + standin_verdict)
    ]
    assert sum(map(bool, real)) > 200
    assert sum(not verdict for verdict in real) > 200
    assert not different, "\n".join(
        f"{line}\n  real: {real_verdict}\n  stand-in: {standin_verdict}"
        for line, real_verdict, standin_verdict in different
    )
