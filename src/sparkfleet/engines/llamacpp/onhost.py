"""llama-server as programs on a Spark know it. Standard library alone."""

from __future__ import annotations

import json
import re

from sparkfleet.engines import openai_api
from sparkfleet.engines.host import ApiKey, HostEngine, LogFormat, Metrics, Request, ServedModel


class LlamaCppOnHost(HostEngine):
    """llama-server's API, metrics and log."""

    name = "llamacpp"
    title = "llama.cpp"
    ready = openai_api.MODELS
    health = openai_api.HEALTH
    metrics = Metrics(
        tokens=("llamacpp:tokens_predicted_total",),
        accepted="llamacpp:spec_decode_num_accepted_tokens_total",
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        missing_hint="this llama-server publishes no llamacpp:tokens_predicted_total: use a newer image",
    )
    log = LogFormat(
        # 0.01.234.567 I srv    load_model: loading model 'tiny.gguf'
        prefix=re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} (?P<level>[DIWE]) "),
    )
    api_key = ApiKey(env="LLAMA_API_KEY", flag="--api-key")

    def models(self, body: str) -> tuple[ServedModel, ...]:
        """Return the models of a ``/v1/models`` response; each alias counts as a name."""
        try:
            entries = [entry for entry in json.loads(body)["data"] if isinstance(entry, dict)]
        except (ValueError, KeyError, TypeError):
            return ()
        found = []
        for entry in entries:
            context = int((entry.get("meta") or {}).get("n_ctx") or 0)
            names = dict.fromkeys([str(entry.get("id", "")), *map(str, entry.get("aliases") or ())])
            found += [ServedModel(name, context) for name in names]
        return tuple(found)

    def answer_requests(self, task: str, model: str, prompt: str, max_tokens: int) -> tuple[Request, ...]:
        """See ``HostEngine``."""
        return openai_api.answer_requests(task, model, prompt, max_tokens)

    def is_unsupported(self, status: int, body: str) -> bool:
        """See ``HostEngine``."""
        return openai_api.is_unsupported(status, body)

    def answer_text(self, task: str, body: str) -> str:
        """See ``HostEngine``."""
        return openai_api.answer_text(task, body)

    def error_text(self, body: str) -> str:
        """See ``HostEngine``."""
        return openai_api.error_text(body)


ENGINE = LlamaCppOnHost()
