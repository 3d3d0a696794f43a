"""The gate against the recorded answers of a real vLLM, and against engines that lie."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.contract.generation import Gate as GateFields
from sparkfleet.contract.generation import Task
from sparkfleet.onhost.gate import responses
from sparkfleet.onhost.gate.failure import StartFailedError
from sparkfleet.onhost.gate.gate import EngineEndedError, Gate
from sparkfleet.onhost.machine.system import HttpRequest, HttpResponse
from tests.unit.onhost.world import World, generation

REAL_MODELS = (
    '{"object":"list","data":[{"id":"tiny","object":"model","root":"/models/tiny","max_model_len":512}]}'
)
REAL_CHAT = json.dumps(
    {
        "id": "chatcmpl-a270db18c86482b6",
        "object": "chat.completion",
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "it is 204", "refusal": None, "reasoning": None},
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 19, "total_tokens": 24, "completion_tokens": 5},
    }
)
REAL_METRICS = """\
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="tiny"} 5.0
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{engine="0",model_name="tiny"} 1.7952033653673189e+09
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf",model_name="tiny"} 5.0
vllm:iteration_tokens_total_count{engine="0",model_name="tiny"} 5.0
"""

VLLM = engines.on_host("vllm")


class Service:
    """Answers questions from a table; what is not in it is 404."""

    def __init__(self, world: World, **paths: Any) -> None:
        self.world = world
        self.requests: list[Any] = []
        self.table = {
            "/v1/models": HttpResponse(200, REAL_MODELS),
            "/v1/chat/completions": HttpResponse(200, REAL_CHAT),
        }
        self.table |= {"/" + path.replace("__", "/"): response for path, response in paths.items()}

    def http(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if request.path == "/metrics" and "/metrics" not in self.table:
            count = sum(one.path.startswith("/v1/c") for one in self.requests)
            return HttpResponse(200, REAL_METRICS.replace("5.0", f"{5.0 + count}"))
        response = self.table.get(request.path, HttpResponse(404))
        return response if isinstance(response, HttpResponse) else response()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)


def gate(service: Service, **more: Any) -> Gate:
    tiny = generation("tiny", served_name="tiny")
    return Gate(service, tiny, lambda: None, **more)


def test_answers_as_a_real_vllm_gives_them_pass(world: World) -> None:
    passed = gate(Service(world)).prove()
    assert passed.answer == "it is 204"
    assert passed.tokens == 2.0


def test_the_question_is_deterministic_and_fits_a_short_context(world: World) -> None:
    service = Service(world)
    gate(service).prove()
    body = json.loads(next(one for one in service.requests if one.path == "/v1/chat/completions").body)
    assert body["temperature"] == 0
    assert body["model"] == "tiny"
    assert body["max_tokens"] == 256


def test_thinking_counts_as_answer(world: World) -> None:
    for key in ("reasoning", "reasoning_content"):
        message = {"choices": [{"message": {"content": None, key: "12*17 = 204, so"}}]}
        service = Service(world, v1__chat__completions=HttpResponse(200, json.dumps(message)))
        assert "204" in gate(service).prove().answer


def test_a_model_without_a_chat_template_gets_a_completion_request(world: World) -> None:
    refused = HttpResponse(
        400, '{"error":{"message":"default chat template is no longer allowed, so you must provide one"}}'
    )
    plain = HttpResponse(200, '{"choices":[{"text":" 204"}]}')
    service = Service(world, v1__chat__completions=refused, v1__completions=plain)
    assert gate(service).prove().answer == "204"


@pytest.mark.provokes("gate-no-answer")
def test_the_engines_own_error_is_in_the_cause(world: World) -> None:
    service = Service(
        world, v1__chat__completions=HttpResponse(500, '{"error":{"message":"EngineCore died","code":500}}')
    )
    with pytest.raises(StartFailedError, match="HTTP 500: EngineCore died"):
        gate(service).prove()


@pytest.mark.provokes("gate-tokens-not-counted")
def test_an_engine_without_counters_is_not_proven(world: World) -> None:
    service = Service(world, metrics=HttpResponse(200, "process_cpu_seconds_total 3\n"))
    with pytest.raises(StartFailedError, match="publishes no token counter") as error:
        gate(service).prove()
    assert "--disable-log-stats" in error.value.failure.diagnostic.hint


def test_a_connection_that_breaks_is_the_engines_end_when_it_ended(world: World) -> None:
    service = Service(world, v1__chat__completions=HttpResponse(0, error="Connection reset by peer"))
    ends = world.clock + 2

    def check_alive() -> None:
        if world.clock > ends:
            raise EngineEndedError

    tested = gate(service)
    tested.check_alive = check_alive
    with pytest.raises(EngineEndedError):
        tested.prove()


def test_a_connection_that_breaks_of_a_running_engine_is_reported(world: World) -> None:
    service = Service(world, v1__chat__completions=HttpResponse(0, error="Connection reset by peer"))
    with pytest.raises(StartFailedError, match="Connection reset"):
        gate(service).prove()


def test_an_engine_that_wants_a_key_gets_the_one_of_its_container(world: World) -> None:
    service = Service(world)
    tested = gate(service, api_key="opensesame")
    tested.prove()
    assert all(("Authorization", "Bearer opensesame") in one.headers for one in service.requests)
    assert "opensesame" not in json.dumps(tested.transcript)
    assert "opensesame" not in repr(tested)


def test_a_wedge_is_known_long_before_the_time_for_a_start_is_up(world: World) -> None:
    world.engines["img:1"].wedged = True
    world.add("nano", generation())
    patient = generation(gate=GateFields(timeout_s=1800, second_timeout_s=10))
    before = world.clock
    with pytest.raises(StartFailedError, match="no completion within 50 s, although /health returns 200"):
        Gate(world, patient, lambda: None).prove()
    assert world.clock - before <= 60


@pytest.mark.provokes("gate-api-key-missing")
def test_a_refused_key_fails_at_once(world: World) -> None:
    before = world.clock
    with pytest.raises(StartFailedError, match="API key"):
        gate(Service(world, v1__models=HttpResponse(401))).prove()
    assert world.clock == before


def test_the_transcript_has_question_and_answer(world: World) -> None:
    tested = gate(Service(world))
    tested.prove()
    assert [entry["path"] for entry in tested.transcript] == [
        "/v1/models",
        "/v1/chat/completions",
        "/v1/chat/completions",
    ]
    assert "12*17" in json.dumps(tested.transcript[1]["request"])


def embedding(*numbers: float) -> HttpResponse:
    return HttpResponse(200, json.dumps({"data": [{"index": 0, "embedding": numbers}]}))


def embedding_gate(world: World, *responses: HttpResponse, dimensions: int = 0) -> Gate:
    """Return the gate of an embedding model that answers in this order; its prompt counter moves."""
    left = list(responses)
    requests: list[HttpResponse] = []

    def respond() -> HttpResponse:
        requests.append(left.pop(0))
        return requests[-1]

    def metrics() -> HttpResponse:
        return HttpResponse(200, f'vllm:prompt_tokens_total{{engine="0"}} {7.0 * len(requests)}\n')

    service = Service(world, v1__embeddings=respond, metrics=metrics)
    fields = GateFields(task=Task.EMBEDDING, expect="", expect_dimensions=dimensions)
    return Gate(service, generation("tiny", served_name="tiny", gate=fields), lambda: None)


def test_an_embedding_model_is_proven_by_two_vectors_of_one_direction(world: World) -> None:
    passed = embedding_gate(world, embedding(3, 4), embedding(3.00001, 4), dimensions=2).prove()
    assert passed.answer == "2 dimensions"
    assert passed.tokens == 14.0


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (embedding(), "the response has no vector"),
        (HttpResponse(200, "{}"), "the response has no vector"),
        (embedding(0, 0), "all of its 2 numbers are 0"),
        (embedding(1, math.nan, math.inf), "2 of its 3 numbers are not finite"),
        (embedding(1, 2, 3), "it has 3 dimensions, expected 2"),
    ],
)
def test_what_is_no_embedding_does_not_pass(world: World, response: HttpResponse, problem: str) -> None:
    with pytest.raises(StartFailedError, match=f"wrong embedding of .*: {problem}"):
        embedding_gate(world, response, embedding(1, 2), dimensions=2).prove()


@pytest.mark.parametrize(
    "second", [embedding(4, -3), embedding(3, 4, 5), embedding(), embedding(math.nan, 1)]
)
@pytest.mark.provokes("gate-answer-wrong")
def test_embeddings_of_one_text_that_differ_do_not_pass(world: World, second: HttpResponse) -> None:
    with pytest.raises(StartFailedError, match=r"two embeddings of .* differ"):
        embedding_gate(world, embedding(3, 4), second).prove()


def test_an_embedding_without_a_prompt_counter_proves_nothing(world: World) -> None:
    service = Service(world, v1__embeddings=embedding(1), metrics=HttpResponse(200, REAL_METRICS))
    fields = GateFields(task=Task.EMBEDDING)
    tested = Gate(service, generation("tiny", served_name="tiny", gate=fields), lambda: None)
    with pytest.raises(StartFailedError, match=r"no token counter on /metrics \(vllm:prompt_tokens_total\)"):
        tested.prove()


def test_a_completion_goes_to_its_own_path_alone(world: World) -> None:
    service = Service(world, v1__completions=HttpResponse(200, '{"choices":[{"text":" 204"}]}'))
    fields = GateFields(task=Task.COMPLETION)
    assert (
        Gate(service, generation("tiny", served_name="tiny", gate=fields), lambda: None).prove().answer
        == "204"
    )
    assert "/v1/chat/completions" not in {one.path for one in service.requests}


@pytest.mark.provokes("gate-task-unsupported")
def test_a_task_without_a_request_fails(world: World) -> None:
    fields = GateFields(task=Task.RERANK)
    with pytest.raises(StartFailedError, match="no request of the task rerank to vLLM"):
        Gate(Service(world), generation("tiny", served_name="tiny", gate=fields), lambda: None).prove()


@pytest.mark.parametrize(
    "body", ["", "nonsense", "[]", "{}", '{"data": 3}', '{"data": [1, null]}', "null", "[" * 99_999]
)
def test_a_list_of_models_that_is_none_names_nothing(body: str) -> None:
    assert VLLM.models(body) == ()


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"choices": []}', '{"choices": [{"message": null}]}', '{"choices": [3]}', "null"],
)
def test_a_completion_without_text_is_empty(body: str) -> None:
    assert VLLM.answer_text(body) == ""


def test_counters_are_summed_over_labels() -> None:
    text = 'a{engine="0"} 5.0\na{engine="1"} 1.5e+01\nab{engine="0"} 7\na_created{engine="0"} 9\n# a 3\n'
    assert responses.counters(text, ["a"]) == {"a": 20.0}


def test_a_label_with_a_brace_does_not_hide_a_counter() -> None:
    assert responses.counters('a{model_name="x}y"} 2.0\n', ["a"]) == {"a": 2.0}


def test_every_declared_name_must_be_served(world: World) -> None:
    args = ("org/Tiny", "--served-model-name", "tiny", "org/Tiny", "--host", "0.0.0.0")
    declared = generation("tiny", served_name="tiny", argv=args)
    with pytest.raises(StartFailedError) as failed:
        Gate(Service(world), declared, lambda: None).prove()
    assert failed.value.diagnostic.code == "gate-name-mismatch"
    assert "the engine serves tiny, declared is tiny, org/Tiny" in failed.value.diagnostic.message
    entry = json.loads(REAL_MODELS)["data"][0]
    both = json.dumps({"data": [entry, {**entry, "id": "org/Tiny"}]})
    service = Service(world, v1__models=HttpResponse(200, both))
    assert Gate(service, declared, lambda: None).prove().answer == "it is 204"


def test_an_engine_with_a_certificate_is_asked_over_https(world: World) -> None:
    service = Service(world)
    gate(service).prove()
    assert not any(one.tls for one in service.requests)
    secure = generation("tiny", served_name="tiny", argv=("org/tiny", "--ssl-certfile", "/tls/crt"))
    Gate(service, secure, lambda: None).prove()
    assert all(one.tls for one in service.requests[-3:])
