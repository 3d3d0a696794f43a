"""What the running engine answers and counts: against what the real one answered (tests/golden)."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sparkfleet_lab.standins.hub_models import NANO
from tests.unit.standins.conftest import GOLDEN, READY, Engine, Start

SPECULATIVE = ("--speculative-config", '{"method":"mtp","num_speculative_tokens":2}')


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


@pytest.fixture
def tiny_engine(engine: Start, tiny: Path) -> Start:
    def start(*args: str, **more: Any) -> Engine:
        return engine(
            str(tiny), "--served-model-name", "tiny", "--max-model-len", "512", *args, **more
        ).until(READY)

    return start


def test_health_and_ping_answer_without_a_body(tiny_engine: Start) -> None:
    served = tiny_engine()
    assert served.ask("/health") == (200, "")
    assert served.ask("/ping") == (200, "")
    assert json.loads(served.ask("/load")[1]) == {"server_load": 0}


def test_the_version_is_that_of_the_release(tiny_engine: Start) -> None:
    assert json.loads(tiny_engine(release="0.19.0").ask("/version")[1]) == {"version": "0.19.0"}


def test_models_are_listed_as_the_real_engine_lists_them(tiny_engine: Start) -> None:
    served = tiny_engine()
    got, expected = json.loads(served.ask("/v1/models")[1]), golden("v1_models.json")
    model, real = got["data"][0], expected["data"][0]
    assert list(model) == list(real)
    assert list(model["permission"][0]) == list(real["permission"][0])
    assert (model["id"], model["max_model_len"]) == ("tiny", 512)
    assert model["root"].endswith("/tiny")


def test_every_served_name_is_listed_and_answers(engine: Start, tiny: Path) -> None:
    served = engine(str(tiny), "--served-model-name", "one", "two").until(READY)
    assert [model["id"] for model in json.loads(served.ask("/v1/models")[1])["data"]] == ["one", "two"]
    assert served.chat("1+1", "two")["model"] == "two"


def test_without_a_served_name_the_model_s_own_is_listed(engine: Start, cache: Path) -> None:
    served = engine(NANO, HF_HOME=str(cache)).until(READY)
    assert [model["id"] for model in json.loads(served.ask("/v1/models")[1])["data"]] == [NANO]


def test_a_chat_answer_has_the_keys_of_the_real_one(tiny_engine: Start) -> None:
    got, expected = tiny_engine().chat("Hello"), golden("chat.json")
    assert set(got) == set(expected)
    assert set(got["choices"][0]) == set(expected["choices"][0])
    assert set(got["choices"][0]["message"]) == set(expected["choices"][0]["message"])
    assert set(got["usage"]) == set(expected["usage"])


def test_a_pooling_runner_embeds_and_does_not_generate(tiny_engine: Start) -> None:
    served = tiny_engine("--runner", "pooling")
    request = {"model": "tiny", "input": "What is 12*17?"}
    first, second = (json.loads(served.ask("/v1/embeddings", request)[1]) for _ in range(2))
    assert first["data"] == second["data"]
    assert any(first["data"][0]["embedding"])
    assert served.counter("prompt_tokens_total") > 0
    assert served.counter("generation_tokens_total") == 0
    assert served.ask("/v1/completions", {"prompt": "1+1"})[0] == 404


def test_a_model_that_generates_does_not_embed(tiny_engine: Start) -> None:
    assert tiny_engine().ask("/v1/embeddings", {"input": "a"})[0] == 404


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 12*17? Answer with the number only.", "204"),
        ("3 + 4", "7"),
        ("10-12?", "-2"),
        ("9/2", "4.5"),
    ],
)
def test_sums_are_answered(tiny_engine: Start, question: str, answer: str) -> None:
    served = tiny_engine()
    assert served.chat(question)["choices"][0]["message"]["content"] == answer
    completion = json.loads(served.ask("/v1/completions", {"model": "tiny", "prompt": question})[1])
    assert completion["choices"][0]["text"] == answer
    assert completion["object"] == "text_completion"


def test_anything_else_gets_a_sentence_that_names_the_model(tiny_engine: Start) -> None:
    assert "tiny" in tiny_engine().chat("Who are you?")["choices"][0]["message"]["content"]


def test_the_same_question_gets_the_same_answer(tiny_engine: Start) -> None:
    served = tiny_engine()
    first, second = (served.chat("Tell me a story")["choices"] for _ in range(2))
    assert first == second


def test_with_a_reasoning_parser_thinking_is_kept_apart(tiny_engine: Start) -> None:
    message = tiny_engine("--reasoning-parser", "qwen3").chat("What is 12*17?")["choices"][0]["message"]
    assert (message["content"], "204" in message["reasoning"]) == ("204", True)


def test_an_answer_is_cut_at_the_length_that_was_asked_for(tiny_engine: Start) -> None:
    response = tiny_engine().chat("Who are you?", max_tokens=3)
    assert response["usage"]["completion_tokens"] == 3
    assert response["choices"][0]["finish_reason"] == "length"


def test_a_streamed_answer_is_the_whole_one_in_parts(tiny_engine: Start) -> None:
    served = tiny_engine()
    body = {"model": "tiny", "stream": True, "stream_options": {"include_usage": True}}
    body["messages"] = [{"role": "user", "content": "Who are you?"}]
    events = served.ask("/v1/chat/completions", body)[1].split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    whole = served.chat("Who are you?")
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_an_unknown_model_name_is_refused_with_the_real_engine_s_message(tiny_engine: Start) -> None:
    body = {"model": "other", "messages": [{"role": "user", "content": "x"}]}
    status, text = tiny_engine(release="0.33.0").ask("/v1/chat/completions", body)
    assert (status, json.loads(text)) == (404, golden("chat_wrong_name.json"))


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "tiny"}'])
def test_a_body_that_makes_no_sense_is_refused(tiny_engine: Start, body: bytes) -> None:
    served = tiny_engine()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}/v1/completions", body)
    refused.value.close()
    assert refused.value.code == 400


def test_paths_that_do_not_exist_are_not_found(tiny_engine: Start) -> None:
    served = tiny_engine()
    assert served.ask("/v1/nothing")[0] == 404
    assert served.ask("/v1/chat/completions")[0] == 405


@pytest.mark.parametrize(("args", "env"), [(["--api-key", "secret"], {}), ([], {"VLLM_API_KEY": "secret"})])
def test_with_a_key_the_api_wants_it_and_health_does_not(tiny_engine: Start, args: Any, env: Any) -> None:
    served = tiny_engine(*args, **env)
    assert served.ask("/v1/models")[0] == 401
    assert served.ask("/v1/models", token="wrong")[0] == 401
    assert served.ask("/v1/models", token="secret")[0] == 200
    assert served.ask("/health")[0] == 200
    assert served.ask("/metrics")[0] == 200


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"^(vllm:\w+?)(?:_bucket)?\{", text, re.MULTILINE))


def test_every_metric_of_the_real_engine_is_there_with_its_type(tiny_engine: Start) -> None:
    got, expected = tiny_engine().ask("/metrics")[1], (GOLDEN / "metrics.txt").read_text()
    assert metric_names(expected) - metric_names(got) == {
        "vllm:admission_rejections_created",
    }
    types = [dict(re.findall(r"^# TYPE (vllm:\S+) (\w+)", text, re.MULTILINE)) for text in (got, expected)]
    assert {name: kind for name, kind in types[1].items() if types[0].get(name) != kind} == {
        "vllm:admission_rejections_created": "gauge",
    }


def test_labels_are_those_of_the_real_engine(tiny_engine: Start) -> None:
    got, expected = tiny_engine().ask("/metrics")[1], (GOLDEN / "metrics.txt").read_text()

    def labels(text: str) -> set[tuple[str, str]]:
        lines = re.findall(r"^(vllm:\w+)\{(.*)\} ", text, re.MULTILINE)
        return {
            (name, re.sub(r'="[^"]*"', "", pairs)) for name, pairs in lines if "cache_config_info" not in name
        }

    expected_labels = {(name, pairs) for name, pairs in labels(expected) if "_created" not in name}
    assert expected_labels - labels(got) == set()


def test_the_effective_cache_settings_are_labels_of_one_metric(tiny_engine: Start) -> None:
    args = ("--kv-cache-dtype", "fp8", "--gpu-memory-utilization", "0.8", "--no-enable-prefix-caching")
    text = tiny_engine(*args).ask("/metrics")[1]
    labels = dict(re.findall(r'(\w+)="([^"]*)"', re.findall(r"cache_config_info\{(.*)\}", text)[0]))
    assert labels["cache_dtype"] == "fp8"
    assert labels["gpu_memory_utilization"] == "0.8"
    assert labels["enable_prefix_caching"] == "False"
    assert int(labels["num_gpu_blocks"]) > 0


MOVING = (
    "generation_tokens_total",
    "prompt_tokens_total",
    "iteration_tokens_total_count",
    "request_success_total",
)


def test_counters_move_with_every_answer(tiny_engine: Start) -> None:
    served = tiny_engine()
    assert [served.counter(name) for name in MOVING] == [0, 0, 0, 0]
    usage = served.chat("Who are you?")["usage"]
    assert served.counter("generation_tokens_total") == usage["completion_tokens"]
    assert served.counter("prompt_tokens_total") == usage["prompt_tokens"]
    assert served.counter("iteration_tokens_total_count") == usage["completion_tokens"]
    assert served.counter("request_success_total") == 1


def test_drafted_and_accepted_tokens_are_counted_with_a_speculator_alone(tiny_engine: Start) -> None:
    assert "spec_decode" not in tiny_engine().ask("/metrics")[1]
    served = tiny_engine(*SPECULATIVE)
    served.chat("Who are you?")
    drafted = served.counter("spec_decode_num_draft_tokens_total")
    accepted = served.counter("spec_decode_num_accepted_tokens_total")
    assert 0 < accepted < drafted
    assert served.counter("spec_decode_num_accepted_tokens_per_pos_total") == accepted


def test_mode_spec_none_accepted_drafts_in_vain(tiny_engine: Start) -> None:
    served = tiny_engine(*SPECULATIVE, LAB_ENGINE="spec-none-accepted")
    served.chat("Who are you?")
    assert served.counter("spec_decode_num_draft_tokens_total") > 0
    assert served.counter("spec_decode_num_accepted_tokens_total") == 0


def test_mode_no_tokens_answers_while_no_counter_moves(tiny_engine: Start) -> None:
    served = tiny_engine(LAB_ENGINE="no-tokens")
    assert served.chat("2*3")["choices"][0]["message"]["content"] == "6"
    assert [served.counter(name) for name in MOVING] == [0, 0, 0, 0]


def test_mode_wedged_says_it_is_healthy_and_never_answers(tiny_engine: Start) -> None:
    served = tiny_engine(LAB_ENGINE="wedged")

    def ask() -> None:
        with pytest.raises(OSError, match=r"."):  # the engine is killed when the test is over
            served.chat("1+1")

    request = threading.Thread(target=ask, daemon=True)
    request.start()
    while served.counter("num_requests_running") == 0:
        assert request.is_alive()
    assert served.ask("/health") == (200, "")
    assert served.ask("/v1/models")[0] == 200
    assert request.is_alive()


def test_mode_wrong_name_serves_another_name(tiny_engine: Start) -> None:
    served = tiny_engine(LAB_ENGINE="wrong-name")
    assert json.loads(served.ask("/v1/models")[1])["data"][0]["id"] == "some-other-model"
    assert served.ask("/v1/completions", {"model": "tiny", "prompt": "x"})[0] == 404


ANSWERS = [
    ("wrong-answer", "I would say 205.", None),
    ("empty-answer", "", None),
    ("only-thinks", None, "12*17 is 204."),
]


@pytest.mark.parametrize(("mode", "content", "reasoning"), ANSWERS, ids=[mode for mode, _, _ in ANSWERS])
def test_modes_that_spoil_the_answer(tiny_engine: Start, mode: Any, content: Any, reasoning: Any) -> None:
    served = tiny_engine("--reasoning-parser", "qwen3", LAB_ENGINE=mode)
    message = served.chat("What is 12*17?")["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == (content, reasoning)


def test_mode_slow_second_answers_once_and_then_keeps_one_waiting(tiny_engine: Start) -> None:
    served = tiny_engine(LAB_ENGINE="slow-second:1000")
    served.chat("1+1")
    with pytest.raises(TimeoutError):
        served.ask("/v1/completions", {"model": "tiny", "prompt": "1+1"}, timeout=0.2)
    assert served.chat("1+1")["choices"][0]["message"]["content"] == "2"


def test_requests_are_written_to_the_log_as_the_real_server_writes_them(tiny_engine: Start) -> None:
    served = tiny_engine()
    served.ask("/health")
    assert re.search(r'INFO: +127\.0\.0\.1:\d+ - "GET /health HTTP/1\.1" 200 OK', served.log)
