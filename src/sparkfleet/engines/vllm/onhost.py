"""vLLM on a Spark. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile

from sparkfleet.engines.host import ApiKey, ClusterStart, LogFormat, Metrics
from sparkfleet.engines.openai_api import OpenAiHostEngine

_NAMES = "--served-model-name"


class VllmOnHost(OpenAiHostEngine):
    """vLLM's API, metrics and log."""

    name = "vllm"
    title = "vLLM"
    metrics = Metrics(
        tokens=("vllm:generation_tokens_total", "vllm:iteration_tokens_total_count"),
        prompts=("vllm:prompt_tokens_total", "vllm:request_success_total"),
        accepted="vllm:spec_decode_num_accepted_tokens_total",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        cache_use="vllm:kv_cache_usage_perc",
        missing_hint="remove --disable-log-stats: without counters wedged and idle cannot be distinguished",
    )
    log = LogFormat(
        # INFO 11-20 19:35:21 [core.py:133]  INFO 02-04 18:47:06 core.py:97]
        prefix=re.compile(
            r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\d\d-\d\d [\d:.]+ "
            r"(?:\[[^\]]*\] ?|[\w./]+:\d+\] )?"
        ),
        memory=re.compile(r"Model loading took|Available KV cache memory"),
    )
    tls_flag = "--ssl-certfile"
    api_key = ApiKey(env="VLLM_API_KEY", flag="--api-key")
    cluster_starts: Mapping[str, ClusterStart] = {
        "ray": ClusterStart(6379, head_first=True, head_process="Ray"),  # the port in data/ray_rank.py
        "mp": ClusterStart(29501),
    }
    transient_failures = frozenset({"memory-moved"})

    def served_names(self, argv: Sequence[str]) -> tuple[str, ...]:
        """See ``HostEngine``. The arguments are as the operator's side renders them."""
        after = argv[argv.index(_NAMES) + 1 :] if _NAMES in argv else ()
        return tuple(takewhile(lambda one: not one.startswith("-"), after))


ENGINE = VllmOnHost()
