"""One question to a service: the streamed answer, its measurements, and every reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sparkfleet.contract.ask import AnswerPart, AskRequest
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.generation import Gate, Rank, Task
from sparkfleet.onhost.machine.system import HttpRequest, HttpResponse
from sparkfleet.onhost.service import ask
from tests.unit.onhost.world import World, generation

NANO = generation()
REQUEST = AskRequest("nano", "12*17?")
DELTAS = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"reasoning": "hm"}}]},
    {"choices": [{"delta": {"content": "2"}}]},
    {"choices": [{"delta": {"content": "04"}}]},
    {"choices": [], "usage": {"completion_tokens": 5}},
]


@pytest.fixture
def sent(world: World, monkeypatch: pytest.MonkeyPatch) -> list[HttpRequest]:
    """Requests to the engine, which streams DELTAS, one a second."""
    requests: list[HttpRequest] = []

    def http_lines(request: HttpRequest, on_line: Callable[[str], None]) -> HttpResponse:
        requests.append(request)
        for delta in DELTAS:
            world.sleep(1)
            on_line(f"data: {json.dumps(delta)}")
            on_line("")
        on_line("data: [DONE]")
        return HttpResponse(200)

    monkeypatch.setattr(world, "http_lines", http_lines)
    return requests


def answer_parts(world: World) -> list[AnswerPart]:
    parts: list[AnswerPart] = []
    ask.ask(world, REQUEST, parts.append)
    return parts


def refused(world: World) -> str:
    with pytest.raises(SparkfleetError) as caught:
        answer_parts(world)
    assert caught.value.diagnostic.code in {"ask-failed", "service-unknown"}
    return str(caught.value.diagnostic)


def test_an_answer_comes_in_parts_and_its_end_has_the_measurements(
    world: World, sent: list[HttpRequest]
) -> None:
    world.serve(NANO)
    *parts, end = answer_parts(world)
    assert [(one.text, one.reasoning) for one in parts] == [("hm", True), ("2", False), ("04", False)]
    assert end == AnswerPart(ended=True, model="nano", first_s=2.0, total_s=5.0, tokens=5)
    assert end.rate == pytest.approx(4 / 3)
    (request,) = sent
    body = json.loads(request.body)
    assert (request.port, body["stream"], body["messages"]) == (
        8000,
        True,
        [{"role": "user", "content": "12*17?"}],
    )


def test_the_engines_key_is_sent_and_stays_on_the_spark(world: World, sent: list[HttpRequest]) -> None:
    world.serve(NANO).env = ("VLLM_API_KEY=very-secret-key",)
    parts = answer_parts(world)
    assert ("Authorization", "Bearer very-secret-key") in sent[0].headers
    assert "very-secret" not in repr(parts)


def test_a_model_without_a_chat_template_completes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serve(NANO)
    paths: list[str] = []

    def http_lines(request: HttpRequest, on_line: Callable[[str], None]) -> HttpResponse:
        paths.append(request.path)
        if "chat" in request.path:
            return HttpResponse(400, '{"error": {"message": "you must provide a chat template"}}')
        on_line('data: {"choices": [{"text": "204"}]}')
        return HttpResponse(200)

    monkeypatch.setattr(world, "http_lines", http_lines)
    assert [one.text for one in answer_parts(world)] == ["204", ""]
    assert paths == ["/v1/chat/completions", "/v1/completions"]


@pytest.mark.provokes("ask-failed")
@pytest.mark.parametrize(
    ("response", "message"),
    [
        (HttpResponse(0, error="Connection refused"), "no answer on port 8000: Connection refused"),
        (
            HttpResponse(500, '{"error": {"message": "engine is dead"}}'),
            "no answer: HTTP 500: engine is dead",
        ),
        (HttpResponse(200, error="the response is longer than 8 MiB"), "the response is longer than 8 MiB"),
    ],
)
def test_an_engine_that_does_not_answer_is_quoted(
    world: World, monkeypatch: pytest.MonkeyPatch, response: HttpResponse, message: str
) -> None:
    world.serve(NANO)
    monkeypatch.setattr(world, "http_lines", lambda *_: response)
    assert message in refused(world)


def test_what_answers_no_question_is_named(world: World) -> None:
    assert "no such service is here" in refused(world)
    world.serve(replace(NANO, gate=Gate(task=Task.EMBEDDING)))
    assert "it serves the task embedding" in refused(world)


def test_a_rank_that_is_not_the_head_names_the_head(world: World) -> None:
    rank = Rank("pair", 1, ("spark-01", "spark-02"), ("10.0.0.1", "10.0.0.2"), "ray", "f")
    world.serve(replace(NANO, rank=rank))
    assert "sparkfleet ask INVENTORY spark-01/nano" in refused(world)
