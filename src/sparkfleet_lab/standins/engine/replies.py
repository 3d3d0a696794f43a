"""Completions in the format of the OpenAI API: complete, and in chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import answers, release

_UNUSED = ("kv_transfer_params", "ec_transfer_params", "metrics")
_PROMPT = ("prompt_logprobs", "prompt_token_ids")


@dataclass(frozen=True)
class Reply:
    """One answer, cut to the requested length."""

    model: str
    chat: bool
    thinking: str
    text: str
    reason: str
    """stop, or length."""
    prompt_tokens: int
    """Tokens of the prompt."""

    @property
    def completion_tokens(self) -> int:
        """Return the tokens of thinking and answer; an empty answer is one token, its end."""
        return max(1, len(answers.tokens(self.thinking)) + len(answers.tokens(self.text)))

    @property
    def usage(self) -> dict[str, Any]:
        """Return the token counts."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": total,
            "completion_tokens": self.completion_tokens,
        }

    def whole(self) -> dict[str, Any]:
        """Return the answer as one object."""
        choice: dict[str, Any] = {"index": 0}
        if self.chat:
            nothing = dict.fromkeys(("refusal", "annotations", "audio", "function_call"))
            content = self.text or (None if self.thinking else "")
            message = {"role": "assistant", "content": content, **nothing, "reasoning": self.thinking or None}
            choice["message"] = message
        else:
            choice |= {"text": self.text, **dict.fromkeys(_PROMPT)}
        choice |= {"logprobs": None, "finish_reason": self.reason, "stop_reason": None}
        choice |= dict.fromkeys(("token_ids", "routed_experts"))
        usage = {**self.usage, "prompt_tokens_details": None, "completion_tokens_details": None}
        extra = {"service_tier": None, "system_fingerprint": f"vllm-{release.load().version}-standin"}
        head = self._head("chat.completion" if self.chat else "text_completion")
        unused = (*_UNUSED, *_PROMPT, "prompt_text") if self.chat else _UNUSED
        return {**head, "choices": [choice], **extra, "usage": usage, **dict.fromkeys(unused)}

    def chunks(self, *, with_usage: bool) -> Iterator[dict[str, Any]]:
        """Return the answer as the parts of a stream."""
        head = self._head("chat.completion.chunk" if self.chat else "text_completion")
        if self.chat:
            yield {**head, "choices": [_choice({"delta": {"role": "assistant", "content": ""}})]}
        for key, whole in (("reasoning", self.thinking), ("content", self.text)):
            for piece in answers.tokens(whole):
                yield {
                    **head,
                    "choices": [_choice({"delta": {key: piece}} if self.chat else {"text": piece})],
                }
        end = _choice({"delta": {"content": ""}} if self.chat else {"text": ""})
        yield {**head, "choices": [{**end, "finish_reason": self.reason, "stop_reason": None}]}
        if with_usage:
            yield {**head, "choices": [], "usage": self.usage}

    def _head(self, kind: str) -> dict[str, Any]:
        name = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex[:16]}"
        return {"id": name, "object": kind, "created": int(time.time()), "model": self.model}


def cut(thinking: str, text: str, limit: int) -> tuple[str, str, str]:
    """Keep ``limit`` tokens of thinking and answer in sum; return them and the reason for the end."""
    first, second = answers.tokens(thinking), answers.tokens(text)
    if len(first) + len(second) <= limit:
        return thinking, text, "stop"
    return "".join(first[:limit]), "".join(second[: max(0, limit - len(first))]), "length"


def _choice(part: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, **part, "logprobs": None, "finish_reason": None}
