"""One question to a service, answered as a stream: to see that it serves, and how fast."""

from __future__ import annotations

from collections.abc import Callable

from sparkfleet import engines
from sparkfleet.contract.ask import AnswerPart, AskRequest
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import CurrentGeneration, Task
from sparkfleet.engines.host import HostEngine
from sparkfleet.onhost.gate import responses
from sparkfleet.onhost.gate.gate import http_request
from sparkfleet.onhost.machine.system import HttpResponse, System, runtime_of
from sparkfleet.onhost.service import logs
from sparkfleet.onhost.state import store
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError

OK = 200


class Stream:
    """A streamed answer, and its measurements."""

    def __init__(self, system: System, engine: HostEngine, write: Callable[[AnswerPart], None]) -> None:
        """Begin to measure."""
        self._system, self._engine, self._write = system, engine, write
        self._began = system.monotonic()
        self._first_s: float | None = None
        self._tokens = 0

    def line(self, text: str) -> None:
        """Pass on what a line of the response has."""
        part = self._engine.stream_part(text)
        self._tokens = part.tokens or self._tokens
        if part.text:
            if self._first_s is None:
                self._first_s = self._system.monotonic() - self._began
            self._write(AnswerPart(part.text, part.reasoning))

    def end(self, model: str) -> AnswerPart:
        """Return the measurements."""
        total = self._system.monotonic() - self._began
        first = None if self._first_s is None else round(self._first_s, 3)
        return AnswerPart(
            ended=True, model=model, first_s=first, total_s=round(total, 3), tokens=self._tokens
        )


def ask(system: System, request: AskRequest, write: Callable[[AnswerPart], None]) -> None:
    """Send a question to a service and pass on the answer. Raise SparkfleetError without one."""
    service = request.service or logs.only_service(system)
    record = store.current(system.paths.state, store.check_service(service))
    if record is None:
        raise logs.unknown_service(system, service)
    if record.rank and not record.rank.is_head:
        head = record.rank.hosts[0]
        hint = f"sparkfleet ask INVENTORY {head}/{service} ..."
        message = f"only the head of the cluster {record.rank.cluster} answers requests"
        raise SparkfleetError(Diagnostic(service, message, hint=hint, code="ask-failed"))
    engine = engines.on_host(record.engine)
    task = record.gate.task if record.gate.task is Task.COMPLETION else Task.CHAT
    requests = engine.answer_requests(task, record.served_name, request.question, request.max_tokens)
    if record.gate.task not in {Task.CHAT, Task.COMPLETION} or not requests:
        message = f"it serves the task {record.gate.task}, which answers no question"
        raise SparkfleetError(Diagnostic(service, message, hint="ask a chat model", code="ask-failed"))
    key = _api_key(system, engine, record)
    response = HttpResponse(0)
    for one in requests:
        stream = Stream(system, engine, write)
        response = system.http_lines(
            http_request(record, engine.stream_request(one), request.timeout_s, key), stream.line
        )
        if not engine.is_unsupported(response.status, response.body):
            break
    if response.status != OK or response.error:
        raise SparkfleetError(_no_response(service, record, engine, response))
    write(stream.end(record.served_name))


def _api_key(system: System, engine: HostEngine, record: CurrentGeneration) -> str:
    try:
        instance = runtime_of(system, record).find(record.service)
    except (RuntimeRefusedError, RuntimeUnavailableError):
        return ""
    return engine.api_key.find(instance.env, instance.command) if instance else ""


def _no_response(
    service: str, record: CurrentGeneration, engine: HostEngine, response: HttpResponse
) -> Diagnostic:
    if response.status:
        why = (
            f"HTTP {response.status}: {responses.short(engine.error_text(response.body))}"
            if response.body
            else ""
        )
        message = f"no answer: {why or response.error}"
    else:
        message = f"no answer on port {record.port}: {response.error}"
    hint = f"sparkfleet logs INVENTORY HOST/{service} shows why"
    return Diagnostic(service, message, hint=hint, code="ask-failed")
