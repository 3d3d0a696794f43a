"""llama-server on a Spark. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparkfleet.engines import openai_api
from sparkfleet.engines.host import ApiKey, LogFormat, Metrics, ServedModel
from sparkfleet.engines.openai_api import OpenAiHostEngine


class LlamaCppOnHost(OpenAiHostEngine):
    """llama-server's API, metrics and log."""

    name = "llamacpp"
    title = "llama.cpp"
    metrics = Metrics(
        tokens=("llamacpp:tokens_predicted_total",),
        prompts=("llamacpp:prompt_tokens_total", "llamacpp:n_decode_total"),
        accepted="llamacpp:spec_decode_num_accepted_tokens_total",
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        missing_hint="this llama-server publishes no llamacpp:tokens_predicted_total: use a newer image",
    )
    log = LogFormat(
        # 0.01.234.567 I srv    load_model: loading model 'tiny.gguf'
        prefix=re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} (?P<level>[DIWE]) "),
    )
    tls_flag = "--ssl-cert-file"
    api_key = ApiKey(env="LLAMA_API_KEY", flag="--api-key")

    def served_names(self, argv: Sequence[str]) -> tuple[str, ...]:
        """See ``HostEngine``. The arguments are as the operator's side renders them."""
        return tuple(argv[argv.index("--alias") + 1].split(",")) if "--alias" in argv else ()

    def models(self, body: str) -> tuple[ServedModel, ...]:
        """Return the models of a ``/v1/models`` response; each alias counts as a name."""
        found = []
        for entry in openai_api.listed(body):
            meta, aliases = entry.get("meta"), entry.get("aliases")
            context = openai_api.tokens(meta.get("n_ctx")) if isinstance(meta, dict) else 0
            names = [entry.get("id", ""), *(aliases if isinstance(aliases, list) else ())]
            found += [ServedModel(name, context) for name in dict.fromkeys(map(str, names))]
        return tuple(found)


ENGINE = LlamaCppOnHost()
