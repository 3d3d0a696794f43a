"""Engines with an OpenAI-compatible API: requests and parsing of responses. Standard library alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sparkfleet.contract.generation import Task
from sparkfleet.engines.host import HostEngine, Request, ServedModel, StreamPart

OK, NOT_FOUND = 200, 404


class OpenAiHostEngine(HostEngine):
    """Base class of the on-host part of such engines."""

    ready = Request("GET", "/v1/models")
    health = Request("GET", "/health")

    def models(self, body: str) -> tuple[ServedModel, ...]:
        """See ``HostEngine``; the context is vLLM's ``max_model_len``."""
        return tuple(
            ServedModel(str(entry.get("id", "")), tokens(entry.get("max_model_len")))
            for entry in listed(body)
        )

    def answer_requests(self, task: Task, model: str, prompt: str, max_tokens: int) -> tuple[Request, ...]:
        """See ``HostEngine``. A base model cannot chat, so a completion is the second request of a chat."""
        common = {"model": model, "temperature": 0, "max_tokens": max_tokens}
        chat = {**common, "messages": [{"role": "user", "content": prompt}]}
        completion = Request("POST", "/v1/completions", {**common, "prompt": prompt})
        requests = {
            Task.CHAT: (Request("POST", "/v1/chat/completions", chat), completion),
            Task.COMPLETION: (completion,),
            Task.EMBEDDING: (Request("POST", "/v1/embeddings", {"model": model, "input": prompt}),),
        }
        return requests.get(task, ())

    def stream_request(self, request: Request) -> Request:
        """See ``HostEngine``; the last part of the stream has the number of tokens."""
        return replace(
            request, data={**(request.data or {}), "stream": True, "stream_options": {"include_usage": True}}
        )

    def stream_part(self, line: str) -> StreamPart:
        """See ``HostEngine``; a line is a server-sent event."""
        data = parsed(line.removeprefix("data:")) if line.startswith("data:") else None
        if not isinstance(data, dict):
            return StreamPart()
        usage = data.get("usage")
        count = tokens(usage.get("completion_tokens")) if isinstance(usage, dict) else 0
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return StreamPart(tokens=count)
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        answer = delta.get("content") or choice.get("text")
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        text = answer or thought
        return StreamPart(text if isinstance(text, str) else "", bool(thought and not answer), count)

    def is_unsupported(self, status: int, body: str) -> bool:
        """Return whether the model has no chat template, or the engine no such path."""
        return status != OK and ("chat template" in body.lower() or status == NOT_FOUND)

    def answer_text(self, body: str) -> str:
        """See ``HostEngine``."""
        try:
            choice = parsed(body)["choices"][0]
            message = choice.get("message") or {}
        except (KeyError, TypeError, IndexError, AttributeError):
            return ""
        parts = [message.get(key) for key in ("reasoning_content", "reasoning", "content")]
        return "\n".join(part for part in (*parts, choice.get("text")) if isinstance(part, str) and part)

    def answer_vector(self, body: str) -> tuple[float, ...]:
        """See ``HostEngine``."""
        try:
            return tuple(map(float, parsed(body)["data"][0]["embedding"]))
        except (ValueError, KeyError, TypeError, IndexError, OverflowError):
            return ()

    def error_text(self, body: str) -> str:
        """See ``HostEngine``."""
        try:
            data = parsed(body)
            return str((data.get("error") or data)["message"])
        except (KeyError, TypeError, AttributeError):
            return body


def parsed(body: str) -> Any:
    """Return the JSON value of a response, None when it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def listed(body: str) -> tuple[dict[str, Any], ...]:
    """Return the entries of a ``/v1/models`` response."""
    data = parsed(body)
    entries = data.get("data") if isinstance(data, dict) else None
    return tuple(entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()


def tokens(value: object) -> int:
    """Return a number of tokens, 0 when it is no number."""
    return value if isinstance(value, int) else 0
