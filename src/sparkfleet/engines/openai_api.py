"""Requests to engines with an OpenAI-compatible API, and reading their answers. Standard library alone."""

from __future__ import annotations

import json

from sparkfleet.engines.host import Request, ServedModel

MODELS = Request("GET", "/v1/models")
HEALTH = Request("GET", "/health")
OK, NOT_FOUND = 200, 404


def models(body: str) -> tuple[ServedModel, ...]:
    """Return the models of a ``/v1/models`` answer."""
    try:
        data = json.loads(body)["data"]
    except (ValueError, KeyError, TypeError):
        return ()
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    return tuple(
        ServedModel(str(entry.get("id", "")), int(entry.get("max_model_len") or 0)) for entry in entries
    )


def answer_requests(task: str, model: str, prompt: str, max_tokens: int) -> tuple[Request, ...]:
    """Return the requests of a task; a base model cannot chat, so that completion comes after chat."""
    common = {"model": model, "temperature": 0, "max_tokens": max_tokens}
    chat = {**common, "messages": [{"role": "user", "content": prompt}]}
    completion = Request("POST", "/v1/completions", {**common, "prompt": prompt})
    if task == "chat":
        return (Request("POST", "/v1/chat/completions", chat), completion)
    if task == "completion":
        return (completion,)
    if task == "embedding":
        return (Request("POST", "/v1/embeddings", {"model": model, "input": prompt}),)
    return ()


def is_unsupported(status: int, body: str) -> bool:
    """Return whether the model has no chat template, or the engine no such path."""
    return status != OK and ("chat template" in body.lower() or status == NOT_FOUND)


def answer_text(task: str, body: str) -> str:
    """Return the text of a chat or plain completion; thinking counts as answer. An embedding is its size."""
    if task == "embedding":
        return _embedding(body)
    try:
        choice = json.loads(body)["choices"][0]
        message = choice.get("message") or {}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ""
    parts = [message.get(key) for key in ("reasoning_content", "reasoning", "content")]
    return "\n".join(part for part in (*parts, choice.get("text")) if isinstance(part, str) and part)


def _embedding(body: str) -> str:
    try:
        vector = json.loads(body)["data"][0]["embedding"]
    except (ValueError, KeyError, TypeError, IndexError):
        return ""
    return f"{len(vector)} dimensions" if isinstance(vector, list) and any(vector) else ""


def error_text(body: str) -> str:
    """Return the message of an error answer, or the answer itself."""
    try:
        data = json.loads(body)
        return str((data.get("error") or data)["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return body
