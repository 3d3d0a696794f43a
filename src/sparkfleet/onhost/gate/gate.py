"""The readiness gate: the proof that a service serves. ``/health`` proves nothing: a hung engine returns 200.

It verifies, in this order: the declared names are served, the answer to a request of the declared task is as
expected (which warms up the engine), a second answer arrives in time, the engine's token counter moved, and
draft tokens were accepted if speculative decoding is declared. A text must contain the expected one; an
embedding must be a vector of finite numbers, with the same direction both times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import GateResult, Generation, Task
from sparkfleet.engines.host import HostEngine, Request, ServedModel
from sparkfleet.onhost.gate import responses
from sparkfleet.onhost.gate.failure import StartFailedError
from sparkfleet.onhost.machine.system import HttpRequest, HttpResponse, System, runtime_of
from sparkfleet.runtimes.base import Instance, RuntimeRefusedError, RuntimeUnavailableError

POLL_S = 0.25
MIN_REQUEST_S = 1.0
"""Seconds for a request that is sent at the last moment."""
QUICK_S = 10.0
"""Seconds for a response that needs no tokens."""
FIRST_FACTOR = 5
"""The first answer compiles kernels: its limit is this multiple of the second one's."""
COUNTER_S = 10.0
"""Seconds after an answer until its tokens must be counted."""
BROKEN_S = 5.0
"""Seconds for dockerd to report the end of an engine whose connection broke."""
PARALLEL = 0.999
"""Cosine from which two embeddings of one text count as equal: kernels differ in the last digits."""
OK = 200


class EngineEndedError(Exception):
    """The engine's process has ended."""


def listed_names(system: System, generation: Generation) -> tuple[str, ...] | None:
    """Return the names that a generation's port lists now; () = no answer, None = an answer without names,
    or of an engine that these programs do not have.
    """
    if generation.engine not in engines.host_names():
        return None
    gate = Gate(system, generation, lambda: None)
    with suppress(RuntimeRefusedError, RuntimeUnavailableError):  # requested without a key then
        gate.find_api_key(runtime_of(system, generation).find(generation.service))
    response = gate.send(gate.engine.ready, QUICK_S)
    if not response.status:
        return ()
    return tuple(model.name for model in gate.engine.models(response.body)) or None


def http_request(generation: Generation, request: Request, limit_s: float, api_key: str) -> HttpRequest:
    """Return a request to the engine of a generation, with the key that clients must send."""
    headers = [("Content-Type", "application/json")] if request.data else []
    if api_key:
        headers.append(("Authorization", f"Bearer {api_key}"))
    return HttpRequest(
        generation.port,
        request.method,
        request.path,
        limit_s,
        json.dumps(request.data) if request.data else "",
        tuple(headers),
        tls=engines.on_host(generation.engine).uses_tls(generation.argv),
    )


@dataclass
class Gate:
    """One attempt. ``check_alive`` is called repeatedly; it raises EngineEndedError for an ended engine."""

    system: System
    generation: Generation
    check_alive: Callable[[], None]
    waiting: Callable[[str], None] = lambda _: None
    """Receives the name of each step."""
    api_key: str = field(default="", repr=False)
    transcript: list[dict[str, Any]] = field(default_factory=list)
    """Requests and responses, for the evidence."""

    @property
    def engine(self) -> HostEngine:
        """Return the engine of the generation."""
        return engines.on_host(self.generation.engine)

    def find_api_key(self, instance: Instance | None) -> None:
        """Read the API key from the engine's arguments and environment."""
        if instance is not None:
            self.api_key = self.engine.api_key.find(instance.env, instance.command)

    def prove(self) -> GateResult:
        """Return the measurements, or raise StartFailedError or EngineEndedError."""
        gate = self.generation.gate
        started = self.system.monotonic()
        listed = self._wait_ready(started + gate.timeout_s)
        ready_s = self.system.monotonic() - started
        self._check_name(listed)
        before = self._counters()
        limit = responses.token_limit((model.context for model in listed), gate.max_tokens)
        left = started + gate.timeout_s - self.system.monotonic()
        self.waiting(f"the first {self._noun}")
        first, first_s = self._request(
            max(MIN_REQUEST_S, min(left, gate.second_timeout_s * FIRST_FACTOR)), limit
        )
        answer = self._check_answer(first)
        serving_at = self.system.now()
        self.waiting(f"a second {self._noun}")
        second, second_s = self._request(float(gate.second_timeout_s), limit)
        self._check_repeated(first, second)
        tokens, accepted = self._moved(before)
        return GateResult(
            round(ready_s, 2),
            round(first_s, 2),
            round(second_s, 2),
            answer,
            tokens,
            accepted,
            round(serving_at, 3),
        )

    @property
    def _noun(self) -> str:
        """Return the name of an answer in messages."""
        return "completion" if self.generation.gate.task is Task.CHAT else str(self.generation.gate.task)

    def _wait_ready(self, deadline: float) -> tuple[ServedModel, ...]:
        """Wait until the engine lists its models."""
        self.waiting("the engine's start")
        last = HttpResponse(0, error="no request was sent")
        engine = self.engine
        while self.system.monotonic() < deadline:
            self.check_alive()
            last = self.send(engine.ready, QUICK_S, keep=False)
            if last.status == OK:
                self._keep(engine.ready, last)
                return engine.models(last.body)
            if last.status in {401, 403}:
                key = " or ".join(name for name in (engine.api_key.env, engine.api_key.flag) if name)
                raise self._failed(
                    f"the engine refuses to list its models without an API key (HTTP {last.status})",
                    f"set the key by {key}, where the gate reads it",
                    code="gate-api-key-missing",
                )
            self.system.sleep(POLL_S)
        self.check_alive()
        health = self.send(engine.health, QUICK_S)
        state = (
            f"{engine.health.path} returns {health.status}"
            if health.status
            else f"port {self.generation.port} is closed"
        )
        raise self._failed(
            f"not ready after {self.generation.gate.timeout_s} s: {state}, "
            f"{engine.ready.path}: {last.status or last.error}",
            "if the log shows that it was still loading, raise gate: {timeout: ...}",
            code="gate-not-ready",
        )

    def _check_name(self, listed: tuple[ServedModel, ...]) -> None:
        names = [model.name for model in listed]
        declared = dict.fromkeys(
            (self.generation.served_name, *self.engine.served_names(self.generation.argv))
        )
        if not declared.keys() <= set(names):
            raise self._failed(
                f"wrong name: the engine serves {', '.join(names) or 'nothing'}, "
                f"declared is {', '.join(declared)}",
                "another engine answers on this port, or another setting overrides the name",
                code="gate-name-mismatch",
            )

    def _check_answer(self, body: str) -> str:
        """Return the answer as text for people. Raise StartFailedError when it is not as expected."""
        gate = self.generation.gate
        if gate.task is Task.EMBEDDING:
            vector = self.engine.answer_vector(body)
            problem = responses.vector_problem(vector, gate.expect_dimensions)
            if problem:
                raise self._failed(
                    f"wrong embedding of {gate.prompt!r}: {problem}",
                    "check the model, its weights and its pooling; gate: {expect_dimensions: ...} declares "
                    "the length",
                    code="gate-answer-wrong",
                )
            return f"{len(vector)} dimensions"
        answer = self.engine.answer_text(body)
        if gate.expect not in answer or not answer.strip():
            raise self._failed(
                f"wrong answer to {gate.prompt!r}: expected {gate.expect or 'any text'!r}, "
                f"got {responses.short(answer)!r}",
                "check weights, quantization and kernels; if the prompt does not suit this model, set "
                "gate: {prompt: ..., expect: ...}",
                code="gate-answer-wrong",
            )
        return responses.short(answer)

    def _check_repeated(self, first: str, second: str) -> None:
        """Raise StartFailedError when two embeddings of one text differ."""
        if self.generation.gate.task is not Task.EMBEDDING:
            return
        one, two = self.engine.answer_vector(first), self.engine.answer_vector(second)
        cosine = responses.cosine(one, two)
        if not cosine >= PARALLEL:
            raise self._failed(
                f"two embeddings of {self.generation.gate.prompt!r} differ: their cosine is {cosine:.4f}, "
                f"expected at least {PARALLEL}",
                "check quantization and kernels: another backend or image may help",
                code="gate-answer-wrong",
            )

    def _request(self, limit_s: float, max_tokens: int) -> tuple[str, float]:
        """Return the body of a response to the declared task, and its seconds."""
        gate = self.generation.gate
        self.check_alive()
        requests = self.engine.answer_requests(
            gate.task, self.generation.served_name, gate.prompt, max_tokens
        )
        if not requests:
            raise self._failed(
                f"the readiness gate has no request of the task {gate.task} to {self.engine.title}",
                "declare another one: gate: {task: ...}",
                code="gate-task-unsupported",
            )
        started = self.system.monotonic()
        response = HttpResponse(0)
        for request in requests:
            left = limit_s - (self.system.monotonic() - started)
            response = self.send(request, max(MIN_REQUEST_S, left))
            if not self.engine.is_unsupported(response.status, response.body):
                break
        if response.status != OK:
            raise self._no_response(response, limit_s)
        return response.body, self.system.monotonic() - started

    def _no_response(self, response: HttpResponse, limit_s: float) -> StartFailedError:
        self.check_alive()
        if response.timed_out:
            health = self.send(self.engine.health, QUICK_S)
            wedged = (
                f", although {self.engine.health.path} returns 200: it is wedged"
                if health.status == OK
                else ""
            )
            return self._failed(
                f"no {self._noun} within {limit_s:g} s{wedged}",
                "read the engine's log in the evidence; another backend or image may help",
                code="gate-no-answer",
            )
        if response.status:
            message = responses.short(self.engine.error_text(response.body))
            return self._failed(
                f"the {self._noun} request was answered with HTTP {response.status}: {message}",
                code="gate-no-answer",
            )
        deadline = self.system.monotonic() + BROKEN_S
        while self.system.monotonic() < deadline:
            self.check_alive()
            self.system.sleep(POLL_S)
        return self._failed(
            f"the connection broke during the {self._noun}: {response.error}", code="gate-no-answer"
        )

    def _moved(self, before: dict[str, float]) -> tuple[float, float]:
        """Return the tokens generated and accepted since ``before``; wait for late counters."""
        names, counters = self.engine.metrics, self._token_counters
        deadline = self.system.monotonic() + COUNTER_S
        while True:
            self.check_alive()
            after = self._counters()
            tokens = max((after[key] - before.get(key, 0.0) for key in counters if key in after), default=0.0)
            accepted = after.get(names.accepted, 0.0) - before.get(names.accepted, 0.0)
            if tokens > 0 and (accepted > 0 or not self.generation.gate.speculative):
                return tokens, accepted
            if self.system.monotonic() >= deadline:
                break
            self.system.sleep(POLL_S)
        if not any(name in after for name in counters):
            raise self._failed(
                f"the engine publishes no token counter on {names.path} ({' or '.join(counters[:1])})",
                names.missing_hint,
                code="gate-tokens-not-counted",
            )
        if tokens <= 0:
            raise self._failed(
                "the engine's token counter did not move: another process answered",
                code="gate-tokens-not-counted",
            )
        raise self._failed(
            "speculative decoding is declared, but no draft token was accepted",
            "use a drafter for this model and revision, and check that --speculative-config has an effect",
            code="gate-drafts-not-accepted",
        )

    def _failed(self, message: str, hint: str = "", *, code: str) -> StartFailedError:
        return StartFailedError(Diagnostic(self.generation.service, message, hint=hint, code=code))

    @property
    def _token_counters(self) -> tuple[str, ...]:
        names = self.engine.metrics
        return names.prompts if self.generation.gate.task is Task.EMBEDDING else names.tokens

    def _counters(self) -> dict[str, float]:
        names = self.engine.metrics
        text = self.send(Request("GET", names.path), QUICK_S, keep=False).body
        return responses.counters(text, (*self._token_counters, names.accepted))

    def send(self, request: Request, limit_s: float, *, keep: bool = True) -> HttpResponse:
        """Send a request to the engine."""
        started = self.system.monotonic()
        response = self.system.http(http_request(self.generation, request, limit_s, self.api_key))
        if keep:
            self._keep(request, response, self.system.monotonic() - started)
        return response

    def _keep(self, request: Request, response: HttpResponse, seconds: float = 0.0) -> None:
        self.transcript.append(
            {
                "at": round(self.system.now(), 3),
                "path": request.path,
                "request": request.data,
                "seconds": round(seconds, 3),
                "status": response.status,
                "response": response.error or response.body[:4000],
            }
        )
