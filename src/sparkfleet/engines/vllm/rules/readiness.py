"""Rules for the readiness gate: it asks the API over HTTP, for the task of the model, and reads counters."""

from __future__ import annotations

import re

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Task
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, rule, warning

_EMBEDS = r"embed|/bge-|/e5-|/gte-|/all-minilm|nomic-bert|colbert"
_EMBEDS_ARCHITECTURE = re.compile(
    r"(?:Bert|Roberta|Embedding|Embeddings)\w*Model$|EmbeddingModel$|^\w*BertModel$"
)
_RERANKS = r"rerank|cross-encoder|reward"
_RERANKS_ARCHITECTURE = re.compile(r"For(?:Sequence|Token)Classification$|RewardModel$")
_HEARS = r"/whisper|/voxtral|parakeet|canary-1b"
_HEARS_ARCHITECTURE = re.compile(r"^Whisper")
_NO_REQUEST = (
    "serve it by a container of your own, and keep its memory free with 'reserve_gib' in the host file: the "
    "readiness gate has no request for it yet"
)
_CERTIFICATE, _KEY, _CLIENTS = "--ssl-certfile", "--ssl-keyfile", "--ssl-cert-reqs"


@rule("GATE-01", "the service has an API", "vLLM: --headless starts an engine without an API server")
def headless(case: Case) -> Diagnostic | None:
    """Ranks of a cluster get the flag from sparkfleet."""
    if case.is_rank or not case.on("--headless"):
        return None
    return error("--headless: without an API there is nothing to request", "remove it", "--headless")


@rule(
    "GATE-02",
    "the API answers over HTTP or HTTPS on the service's port",
    "the readiness gate, the supervisor and clients",
)
def unreachable(case: Case) -> Diagnostic | None:
    """HTTPS needs certificate and key; the gate has no certificate of its own."""
    if case.text("--uds"):
        text = f"--uds: the readiness gate sends its requests to port {case.service.port}"
        return error(text, "remove it", "--uds")
    if bool(case.text(_KEY)) != bool(case.text(_CERTIFICATE)):
        have, lacking = (_KEY, _CERTIFICATE) if case.text(_KEY) else (_CERTIFICATE, _KEY)
        return error(f"{have} without {lacking}: HTTPS needs both", f"add {lacking[2:]}", have)
    if case.text(_CERTIFICATE) and str(case.values.get(_CLIENTS) or 0) != "0":
        text = f"{_CLIENTS}: the readiness gate has no certificate that an engine could verify"
        return error(text, "remove it; let a gateway verify clients", _CLIENTS)
    return None


@rule("GATE-03", "the engine counts tokens", "vLLM: --disable-log-stats switches /metrics off")
def no_counters(case: Case) -> Diagnostic | None:
    """Without the token counter a wedged engine looks like an idle one, and the gate fails."""
    flag = "--disable-log-stats"
    if not case.on(flag):
        return None
    return error(f"{flag}: the readiness gate needs the token counter of /metrics", "remove it", flag)


@rule("P-18", "an embedding model has `gate: {task: embedding}`", "vLLM: embedding models have no chat API")
def embedding(case: Case) -> Diagnostic | None:
    """By its architecture or flags it is certain, by its name it is likely."""
    if case.service.gate.task is Task.EMBEDDING or _other_task(case):
        return None
    is_certain = _has_architecture(case, _EMBEDS_ARCHITECTURE) or case.text("--convert") == "embed"
    if not is_certain and (case.config or not case.is_model(_EMBEDS)):
        return None
    text = (
        f"{case.service.weights.repo} embeds, and the readiness gate would ask it to {case.service.gate.task}"
    )
    hint = "add gate: {task: embedding}"
    return error(text, hint) if is_certain else warning(text, hint)


@rule(
    "P-19",
    "the readiness gate has a request for the model's task",
    "tasks of the gate: chat, completion, embedding",
)
def other_task(case: Case) -> Diagnostic | None:
    """Rerankers, classifiers and speech recognition have APIs of their own."""
    what = _other_task(case)
    if not what:
        return None
    architectures = (_RERANKS_ARCHITECTURE, _HEARS_ARCHITECTURE)
    is_certain = any(_has_architecture(case, one) for one in architectures)
    text = f"{case.service.weights.repo} is a model for {what}, which cannot {case.service.gate.task}"
    return error(text, _NO_REQUEST) if is_certain else warning(text, _NO_REQUEST)


def _other_task(case: Case) -> str:
    if _has_architecture(case, _HEARS_ARCHITECTURE) or (not case.config and case.is_model(_HEARS)):
        return "speech recognition"
    is_reranker = _has_architecture(case, _RERANKS_ARCHITECTURE) or case.text("--convert") == "classify"
    return "reranking" if is_reranker or (not case.config and case.is_model(_RERANKS)) else ""


def _has_architecture(case: Case, pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(str(name)) for name in case.config.get("architectures") or ())


@rule(
    "P-20", "vLLM serves safetensors, not GGUF", "docs/how-to/serve-gguf.md: `engine: llamacpp` serves GGUF"
)
def gguf(case: Case) -> Diagnostic | None:
    """Repositories of GGUF files have no safetensors, which are all that is staged for vLLM."""
    if not case.is_model(r"gguf\b"):
        return None
    hint = 'set engine: llamacpp, an image of it, and file: "*Q4_K_M.gguf"; or use a safetensors repository'
    return error(f"{case.service.weights.repo} is a repository of GGUF files", hint, "model")


RULES: tuple[Rule, ...] = (headless, unreachable, no_counters, embedding, other_task, gguf)
