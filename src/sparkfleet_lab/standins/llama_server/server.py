"""The HTTP interface of llama-server: it answers from the start on, with 503 until the model is loaded."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from sparkfleet_lab.standins.engine import answers
from sparkfleet_lab.standins.engine.api import ApiHandler, delay
from sparkfleet_lab.standins.engine.modes import Settings
from sparkfleet_lab.standins.llama_server import log
from sparkfleet_lab.standins.llama_server.metrics import Metrics

_CHAT = ("/v1/chat/completions", "/chat/completions")
_TEXT = ("/v1/completions", "/completions", "/completion")
_MODELS = ("/v1/models", "/models")
_HEALTH = ("/health", "/v1/health")


@dataclass
class ServedModel:
    """The served model and its interface; ``ready`` is set when the model is loaded."""

    name: str
    aliases: tuple[str, ...]
    build: str
    context: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    api_keys: tuple[str, ...] = ()
    has_metrics: bool = False
    ready: threading.Event = field(default_factory=threading.Event)
    metrics: Metrics = field(default_factory=Metrics)
    settings: Settings = field(default_factory=Settings)
    completions: int = 0


class ErrorReply(Exception):  # noqa: N818 - a response, not a failure
    """A response in the format of an error."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        """Store the response's fields."""
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": status, "message": message, "type": kind}}


class Server(ThreadingHTTPServer):
    """Server and state."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], served_model: ServedModel) -> None:
        """Bind and listen."""
        self.served_model = served_model
        super().__init__(address, Handler)


class Handler(ApiHandler):
    """One request."""

    server_version = "llama.cpp"
    sys_version = ""
    json_type = "application/json; charset=utf-8"
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: llama-server logs requests at a higher verbosity than its default."""

    def respond(self, path: str, body: bytes) -> None:
        """Respond to the request."""
        try:
            if not self.server.served_model.ready.is_set():
                raise ErrorReply(503, "unavailable_error", "Loading model")  # noqa: TRY301
            self._check_key(path)
            self._route(path, body)
        except ErrorReply as error:
            self.send_json(error.body, error.status)

    def _check_key(self, path: str) -> None:
        keys = self.server.served_model.api_keys
        token = self.headers.get("Authorization") or self.headers.get("X-Api-Key") or ""
        if keys and path not in _HEALTH and token.removeprefix("Bearer ") not in keys:
            raise ErrorReply(401, "authentication_error", "Invalid API Key")

    def _route(self, path: str, body: bytes) -> None:
        served_model = self.server.served_model
        if self.command == "POST" and path in (*_CHAT, *_TEXT):
            self._complete(_parsed(body), chat=path in _CHAT)
        elif self.command == "GET" and path in _HEALTH:
            self.send_json({"status": "ok"})
        elif self.command == "GET" and path in _MODELS:
            self.send_json(_models(served_model))
        elif self.command == "GET" and path == "/metrics":
            if not served_model.has_metrics:
                message = "This server does not support metrics endpoint. Start it with `--metrics`"
                raise ErrorReply(501, "not_supported_error", message)
            self.send(served_model.metrics.render().encode(), "text/plain; version=0.0.4")
        elif self.command == "GET" and path == "/props":
            self.send_json(
                {"model_alias": served_model.name, "build_info": served_model.build, "total_slots": 4}
            )
        else:
            raise ErrorReply(404, "not_found_error", "File Not Found")

    def _complete(self, request: dict[str, Any], *, chat: bool) -> None:
        served_model = self.server.served_model
        if chat and not isinstance(request.get("messages"), list):
            raise ErrorReply(400, "invalid_request_error", "'messages' is required")
        if not chat and "prompt" not in request:
            raise ErrorReply(400, "invalid_request_error", '"prompt" is missing')
        served_model.completions += 1
        number, started = served_model.completions, time.monotonic()
        served_model.metrics.begin()
        log.slot("launch_slot_with_task", number, "processing task, is_child = 0")
        prompt, completion_tokens = 0, 0
        try:
            delay(served_model.settings, number)
            question = answers.question(request)
            text, reason = _cut(_text(question, served_model), request)
            prompt, completion_tokens = len(answers.tokens(question)) + 4, max(1, len(answers.tokens(text)))
            reply = _Reply(served_model, chat, text, reason, prompt, completion_tokens)
        finally:  # before the reply is sent: whoever has it may ask for the metrics at once
            served_model.metrics.end(prompt, completion_tokens, time.monotonic() - started)
            log.slot(
                "release", number, f"stop processing: n_tokens = {prompt + completion_tokens}, truncated = 0"
            )
        if request.get("stream"):
            self.send_stream(reply.chunks())
        else:
            self.send_json(reply.whole())


@dataclass(frozen=True)
class _Reply:
    served_model: ServedModel
    chat: bool
    text: str
    reason: str
    prompt: int
    completion_tokens: int

    def whole(self) -> dict[str, Any]:
        choice: dict[str, Any] = {"finish_reason": self.reason, "index": 0}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": self.text}
        else:
            choice |= {"text": self.text, "logprobs": None}
        usage = {
            "completion_tokens": self.completion_tokens,
            "prompt_tokens": self.prompt,
            "total_tokens": self.completion_tokens + self.prompt,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        kind = "chat.completion" if self.chat else "text_completion"
        return {"choices": [choice], **self._head(kind), "usage": usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        head = self._head("chat.completion.chunk" if self.chat else "text_completion")
        pieces = answers.tokens(self.text)
        deltas = [{"role": "assistant", "content": None}, *({"content": piece} for piece in pieces)]
        for part in deltas if self.chat else pieces:
            choice = {"delta": part} if self.chat else {"text": part}
            yield {"choices": [{"finish_reason": None, "index": 0, **choice}], **head}
        last: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        yield {"choices": [{"finish_reason": self.reason, "index": 0, **last}], **head}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "created": int(time.time()),
            "model": self.served_model.name,
            "system_fingerprint": self.served_model.build,
            "object": kind,
            "id": f"chatcmpl-{secrets.token_urlsafe(24)}",
        }


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except ValueError as error:
        raise ErrorReply(500, "server_error", f"[json.exception.parse_error.101] {error}") from None
    if not isinstance(request, dict):
        raise ErrorReply(400, "invalid_request_error", "expected a JSON object")
    return request


def _text(question: str, served_model: ServedModel) -> str:
    if "wrong-answer" in served_model.settings:
        return "I would say 205."
    if "empty-answer" in served_model.settings:
        return ""
    return answers.answer(question, served_model.name)[1]


def _cut(text: str, request: dict[str, Any]) -> tuple[str, str]:
    limit = int(request.get("max_tokens") or request.get("max_completion_tokens") or -1)
    pieces = answers.tokens(text)
    if 0 <= limit < len(pieces):
        return "".join(pieces[:limit]), "length"
    return text, "stop"


def _models(served_model: ServedModel) -> dict[str, Any]:
    blank = ("modified_at", "size", "digest")
    model: dict[str, Any] = {
        "name": served_model.name,
        "model": served_model.name,
        **dict.fromkeys(blank, ""),
    }
    details: dict[str, Any] = {"parent_model": "", "format": "gguf", "family": "", "families": [""]}
    details |= {"parameter_size": "", "quantization_level": ""}
    model |= {"type": "model", "description": "", "tags": [""], "capabilities": ["completion"]}
    model |= {"parameters": "", "details": details}
    entry = {
        "id": served_model.name,
        "aliases": list(served_model.aliases),
        "tags": [],
        "object": "model",
        "created": int(time.time()),
        "owned_by": "llamacpp",
        "meta": {**served_model.meta, "n_ctx": served_model.context},
    }
    return {"models": [model], "object": "list", "data": [entry]}
