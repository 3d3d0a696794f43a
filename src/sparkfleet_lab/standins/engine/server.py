"""The engine's HTTP interface: the endpoints of an OpenAI-compatible vLLM server."""

from __future__ import annotations

import json
import math
import socket
import ssl
import threading
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

from . import answers, log, release
from .api import ApiHandler, delay
from .metrics import Metrics
from .modes import Settings
from .replies import Reply, cut

COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True)
class ServedModel:
    """The served model and its interface."""

    names: tuple[str, ...]
    root: str
    max_model_len: int
    api_keys: tuple[str, ...]
    thinks: bool
    """Whether a reasoning parser separates thinking from the answer."""
    dimensions: int = 0
    """Length of an embedding; 0: the model generates text."""

    @property
    def routes(self) -> tuple[tuple[str, str], ...]:
        """Return paths and methods: vLLM registers only those of the model's tasks."""
        common = (
            ("/health", "GET"), ("/load", "GET"), ("/ping", "GET"), ("/ping", "POST"), ("/version", "GET"),
            ("/metrics", "GET"), ("/v1/models", "GET"),
        )  # fmt: skip
        tasks = (EMBEDDINGS,) if self.dimensions else COMPLETIONS
        return (*common, *((path, "POST") for path in tasks))


class ErrorResponse(Exception):  # noqa: N818 - an answer, not a failure
    """A response in the format of an OpenAI error."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        """Store the response's fields."""
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": status}
        }


class Server(ThreadingHTTPServer):
    """Server and state."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, listener: socket.socket, served_model: ServedModel, metrics: Metrics, settings: Settings
    ) -> None:
        """Listen on a bound socket; ``serve_forever`` answers requests."""
        super().__init__(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_activate()
        self.served_model, self.metrics, self.settings = served_model, metrics, settings
        self.completions = 0
        self.lock = threading.Lock()

    def use_tls(self, certificate: str, key: str) -> None:
        """Serve HTTPS; each connection makes its handshake when it is first read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class Handler(ApiHandler):
    """One request."""

    server: Server
    stream_type = "text/event-stream; charset=utf-8"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write uvicorn's access line."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """Write uvicorn's access line."""
        status = HTTPStatus(int(code))
        where = f"{self.client_address[0]}:{self.client_address[1]}"
        log.uvicorn(f'{where} - "{self.requestline}" {status.value} {status.phrase}')

    def respond(self, path: str, body: bytes) -> None:
        """Respond to the request."""
        path = path.rstrip("/") or "/"
        try:
            self._check_key(path)
            if (path, self.command) not in self.server.served_model.routes:
                known = {route for route, _ in self.server.served_model.routes}
                status, text = (405, "Method Not Allowed") if path in known else (404, "Not Found")
                self.send_json({"detail": text}, status)
            elif path in COMPLETIONS:
                self._complete(self._parsed(body), chat="chat" in path)
            elif path == EMBEDDINGS:
                self._embed(self._parsed(body))
            else:
                self._look_up(path)
        except ErrorResponse as error_response:
            self.send_json(error_response.body, error_response.status)

    def _check_key(self, path: str) -> None:
        keys = self.server.served_model.api_keys
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if keys and path.startswith("/v1") and token not in keys:
            error_response = ErrorResponse(401, "", "")
            error_response.body = {"error": "Unauthorized"}
            raise error_response

    def _look_up(self, path: str) -> None:
        if path == "/metrics":
            return self.send(
                self.server.metrics.render().encode(), "text/plain; version=0.0.4; charset=utf-8"
            )
        if path == "/version":
            return self.send_json({"version": release.load().version})
        if path == "/v1/models":
            return self.send_json(
                {"object": "list", "data": [self._model(name) for name in self.server.served_model.names]}
            )
        if path == "/load":
            return self.send_json({"server_load": self.server.metrics.running})
        return self.send(b"", "")

    def _model(self, name: str) -> dict[str, Any]:
        served_model, now = self.server.served_model, int(time.time())
        flags = {
            "allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True,
            "allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False,
        }  # fmt: skip
        permission = {
            "id": f"modelperm-{uuid.uuid4().hex[:16]}",
            "object": "model_permission",
            "created": now,
        }
        permission |= {**flags, "organization": "*", "group": None, "is_blocking": False}
        return {
            "id": name, "object": "model", "created": now, "owned_by": "vllm", "root": served_model.root,
            "parent": None, "max_model_len": served_model.max_model_len, "permission": [permission],
        }  # fmt: skip

    def _parsed(self, body: bytes) -> dict[str, Any]:
        try:
            request = json.loads(body)
        except ValueError as error:
            raise ErrorResponse(
                400, "Bad Request", f"[{{'type': 'json_invalid', 'msg': '{error}'}}]"
            ) from error
        if not isinstance(request, dict) or not ({"messages", "prompt", "input"} & request.keys()):
            raise ErrorResponse(400, "Bad Request", "[{'type': 'missing', 'msg': 'Field required'}]")
        names = self.server.served_model.names
        name = request.setdefault("model", names[0])
        if name not in names:
            message = f"The model `{name}` does not exist."
            if release.load().at_least(0, 30):
                message += f" Valid aliases: {', '.join(names)}."
            raise ErrorResponse(404, "NotFoundError", message, "model")
        return request

    def _complete(self, request: dict[str, Any], *, chat: bool) -> None:
        server, began = self.server, time.monotonic()
        with server.lock:
            server.completions += 1
            number = server.completions
            server.metrics.running += 1
        try:
            delay(server.settings, number)
            reply = self._reply(request, chat=chat)
            took = time.monotonic() - began
            server.metrics.request(
                reply.prompt_tokens, reply.completion_tokens, self._limit(request), reply.reason, took
            )
            if request.get("stream"):
                usage = (request.get("stream_options") or {}).get("include_usage", False)
                self.send_stream(reply.chunks(with_usage=usage))
            else:
                self.send_json(reply.whole())
        finally:
            with server.lock:
                server.metrics.running -= 1

    def _embed(self, request: dict[str, Any]) -> None:
        text = str(request["input"])
        count = len(answers.tokens(text))
        vector = answers.vector(text, self.server.served_model.dimensions)
        if "wrong-answer" in self.server.settings:
            vector = [math.nan] * len(vector)
        self.server.metrics.request(count, 0, 0, "stop", 0.01)
        self.send_json(
            {
                "id": f"embd-{uuid.uuid4().hex[:16]}", "object": "list", "created": int(time.time()),
                "model": request["model"],
                "data": [{"index": 0, "object": "embedding", "embedding": vector}],
                "usage": {
                    "prompt_tokens": count, "total_tokens": count, "completion_tokens": 0,
                    "prompt_tokens_details": None,
                },
            }
        )  # fmt: skip

    def _limit(self, request: dict[str, Any]) -> int:
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        return int(limit or self.server.served_model.max_model_len)

    def _reply(self, request: dict[str, Any], *, chat: bool) -> Reply:
        """Return the answer, as the modes define it."""
        settings = self.server.settings
        question = answers.question(request)
        thinking, text = answers.answer(question, request["model"])
        if not chat or not self.server.served_model.thinks:
            thinking = ""
        if "wrong-answer" in settings:
            thinking, text = "", "I would say 205."
        if "empty-answer" in settings:
            thinking, text = "", ""
        if "only-thinks" in settings:
            thinking, text = thinking or text, ""
        thinking, text, reason = cut(thinking, text, self._limit(request))
        return Reply(request["model"], chat, thinking, text, reason, len(answers.tokens(question)))
