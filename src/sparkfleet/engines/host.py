"""An engine on a Spark: readiness gate, metrics, log. Standard library only.

An engine's ``onhost.py`` subclasses ``HostEngine`` and assigns an instance to ``ENGINE``. Engines with an
OpenAI-compatible API take requests and answers from ``openai_api``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparkfleet.contract.generation import Task


@dataclass(frozen=True)
class Request:
    """An HTTP request to the engine, without host and port."""

    method: str
    path: str
    data: dict[str, Any] | None = None
    """Sent as JSON; None: no body."""


@dataclass(frozen=True)
class ServedModel:
    """One model that the engine serves."""

    name: str
    context: int = 0
    """Tokens of its context; 0: unknown."""


@dataclass(frozen=True)
class Metrics:
    """Names in the engine's Prometheus metrics; "" or empty: it does not publish that."""

    path: str = "/metrics"
    tokens: tuple[str, ...] = ()
    """Counters of generated tokens; one that moves is enough."""
    prompts: tuple[str, ...] = ()
    """Counters of prompts: they move for a task that generates no tokens, too; one that moves is enough."""
    accepted: str = ""
    """Counter of accepted draft tokens."""
    running: str = ""
    """Gauge of requests being served."""
    waiting: str = ""
    """Gauge of requests in the queue."""
    cache_use: str = ""
    """Gauge of KV cache use, 0 to 1."""
    missing_hint: str = ""
    """What to do when no token counter is published."""


@dataclass(frozen=True)
class ApiKey:
    """Where the key that clients must send is found in a container."""

    env: str = ""
    flag: str = ""

    def find(self, env: Sequence[str], argv: Sequence[str]) -> str:
        """Return the key from ``NAME=value`` entries or argv; "" if the engine needs none."""
        for entry in env:
            if self.env and entry.startswith(f"{self.env}="):
                return entry.partition("=")[2]
        for index, word in enumerate(argv):
            if self.flag and word == self.flag and index + 1 < len(argv):
                return argv[index + 1]
            if self.flag and word.startswith(f"{self.flag}="):
                return word.partition("=")[2]
        return ""


@dataclass(frozen=True)
class LogFormat:
    """How the engine's log is read."""

    patterns: str = "failure_patterns.json"
    """Data file in the engine's folder: ``failures``, ``harmless``, ``warnings``, ``phases``."""
    prefix: re.Pattern[str] = field(default_factory=lambda: re.compile(r"^(?!)(?P<level>)"))
    """What the logger writes before a message; group ``level`` is DEBUG, INFO, WARNING, ERROR or CRITICAL,
    or its first letter."""
    memory: re.Pattern[str] = field(default_factory=lambda: re.compile(r"(?!)"))
    """Lines that are stored with a generation, for ``Engine.measured``."""


@dataclass(frozen=True)
class StreamPart:
    """What one line of a streamed answer has."""

    text: str = ""
    reasoning: bool = False
    """Whether the text is reasoning before the answer."""
    tokens: int = 0
    """Tokens of the whole answer, at its end; 0: the line does not say."""


@dataclass(frozen=True)
class ClusterStart:
    """The order in which the ranks of a cluster start."""

    head_port: int
    """TCP port of the head for the rendezvous of the ranks. It must be free before a start."""
    head_first: bool = False
    """True: the other ranks start when the head listens there. False: the head starts when they run."""
    head_process: str = ""
    """Name of the process that listens there, for messages; "": the engine itself."""


class HostEngine(Protocol):
    """The on-host part of an engine."""

    name: str
    title: str
    """As its makers write it: ``vLLM``."""
    ready: Request
    """Responds with 200 and the models when the engine serves."""
    health: Request
    """Responds with 200 while the process runs; proves nothing more."""
    metrics: Metrics
    log: LogFormat
    api_key: ApiKey
    tls_flag: str = ""
    """Flag with the certificate for HTTPS; "": it serves HTTP only."""
    cluster_starts: Mapping[str, ClusterStart] = {}
    """Executor of a cluster -> how its ranks start; empty: it serves on single Sparks only."""
    transient_failures: frozenset[str] = frozenset()
    """Ids of failure patterns that a second start may not show: the candidate start retries these once."""

    def models(self, body: str) -> tuple[ServedModel, ...]:
        """Return the models in the response to ``ready``."""
        ...

    def uses_tls(self, argv: Sequence[str]) -> bool:
        """Return whether the API is served over HTTPS by the engine's arguments."""
        return any(self.tls_flag and one.partition("=")[0] == self.tls_flag for one in argv)

    def served_names(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the model in the API by the engine's arguments; () if it can have only one."""
        del argv
        return ()

    def answer_requests(self, task: Task, model: str, prompt: str, max_tokens: int) -> tuple[Request, ...]:
        """Return the requests that prove a task; none when the engine has no such request.

        The first one is sent, the next one only if ``is_unsupported`` is true for the response.
        """
        ...

    def stream_request(self, request: Request) -> Request:
        """Return an answer request whose response is streamed."""
        ...

    def stream_part(self, line: str) -> StreamPart:
        """Return what a line of a streamed response has."""
        ...

    def is_unsupported(self, status: int, body: str) -> bool:
        """Return whether the model does not support such requests (as opposed to a failure of this one)."""
        ...

    def answer_text(self, body: str) -> str:
        """Return the text of a chat or completion, reasoning included; "" when there is none."""
        ...

    def answer_vector(self, body: str) -> tuple[float, ...]:
        """Return the vector of an embedding; empty when there is none."""
        ...

    def error_text(self, body: str) -> str:
        """Return the message of an error response, or the response itself."""
        ...
