"""vLLM as programs on a Spark know it. Standard library alone."""

from __future__ import annotations

import re

from sparkfleet.engines import openai_api
from sparkfleet.engines.host import ApiKey, HostEngine, LogFormat, Metrics, Request, ServedModel


class VllmOnHost(HostEngine):
    """vLLM's API, metrics and log."""

    name = "vllm"
    title = "vLLM"
    ready = openai_api.MODELS
    health = openai_api.HEALTH
    metrics = Metrics(
        tokens=("vllm:generation_tokens_total", "vllm:iteration_tokens_total_count"),
        accepted="vllm:spec_decode_num_accepted_tokens_total",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        cache_use="vllm:kv_cache_usage_perc",
        missing_hint="remove --disable-log-stats: without counters wedged and idle cannot be distinguished",
    )
    log = LogFormat(
        # (EngineCore pid=7) INFO 11-20 19:35:21 [core.py:133]
        prefix=re.compile(
            r"^(?:\([^)]*\)\s*)?(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)"
            r"\s+\d\d-\d\d [\d:]+ (?:\[[^\]]*\] ?)?"
        ),
        memory=re.compile(r"Model loading took|Available KV cache memory"),
    )
    api_key = ApiKey(env="VLLM_API_KEY", flag="--api-key")

    def models(self, body: str) -> tuple[ServedModel, ...]:
        """See ``HostEngine``."""
        return openai_api.models(body)

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


ENGINE = VllmOnHost()
