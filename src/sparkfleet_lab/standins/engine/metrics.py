"""The engine's ``/metrics``: the real names, types and labels; values change as requests are answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

Labels = dict[str, str]

_COUNTERS_AT_ZERO = (
    "estimated_flops_per_gpu", "estimated_read_bytes_per_gpu", "estimated_write_bytes_per_gpu",
    "prefix_cache_hits",
    "external_prefix_cache_queries", "external_prefix_cache_hits", "mm_cache_queries", "mm_cache_hits",
    "num_preemptions", "prompt_tokens_cached",
)  # fmt: skip
_REASONS = ("stop", "length", "abort", "error", "repetition")
_SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
_CACHED = ("device", "host", "p2p", "disk", "external_unspecified")
_BUCKETS = ("0.1", "1.0", "10.0", "100.0", "1000.0", "10000.0", "+Inf")
_ACCEPTED_SHARE = 0.75
"""Share of the tokens at each drafted position that is accepted."""


@dataclass
class Histogram:
    """Observations of one kind."""

    values: list[float] = field(default_factory=list)

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """Return the exposition."""
        for bucket in _BUCKETS:
            count = sum(value <= float(bucket) for value in self.values)
            yield f'{name}_bucket{{{labels},le="{bucket}"}} {float(count)}'
        yield f"{name}_count{{{labels}}} {float(len(self.values))}"
        yield f"{name}_sum{{{labels}}} {float(sum(self.values))}"


_HISTOGRAMS = (
    "request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total",
    "request_max_num_generation_tokens", "request_params_n", "request_params_max_tokens",
    "time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds", "request_inference_time_seconds",
    "request_prefill_time_seconds", "request_decode_time_seconds", "request_num_preemptions",
    "request_prefill_kv_computed_tokens",
)  # fmt: skip


class Metrics:
    """All counters of one engine."""

    def __init__(self, name: str, cache: Labels, *, drafted: int, accepts: bool, frozen: bool) -> None:
        """Count for the model ``name``; ``drafted`` tokens a step (0: none); ``frozen``: no value changes."""
        self.name, self.cache, self.drafted, self.accepts, self.frozen = name, cache, drafted, accepts, frozen
        self.running = 0
        self.prompt = self.generated = self.drafts = 0
        self.accepted = [0] * drafted
        self.finished = dict.fromkeys(_REASONS, 0)
        self.histograms = {kind: Histogram() for kind in _HISTOGRAMS}
        self.created = time.time()
        self.lock = threading.Lock()

    def request(self, prompt: int, generated: int, limit: int, reason: str, seconds: float) -> None:
        """Count one answered request."""
        if self.frozen:
            return
        with self.lock:
            self.prompt += prompt
            self.generated += generated
            self.finished[reason] += 1
            if self.drafted:
                self.drafts += generated
                for position in range(self.drafted if self.accepts else 0):
                    self.accepted[position] += int(generated * _ACCEPTED_SHARE ** (position + 1)) or 1
            step = seconds / max(1, generated)
            observations: dict[str, list[float]] = {
                "request_prompt_tokens": [prompt], "request_generation_tokens": [generated],
                "iteration_tokens_total": [prompt + 1.0] + [1.0] * (generated - 1),
                "request_max_num_generation_tokens": [generated], "request_params_n": [1],
                "request_params_max_tokens": [limit], "time_to_first_token_seconds": [step],
                "inter_token_latency_seconds": [step] * (generated - 1),
                "request_time_per_output_token_seconds": [step], "e2e_request_latency_seconds": [seconds],
                "request_queue_time_seconds": [0.0], "request_inference_time_seconds": [seconds],
                "request_prefill_time_seconds": [step], "request_decode_time_seconds": [seconds - step],
                "request_num_preemptions": [0], "request_prefill_kv_computed_tokens": [prompt],
            }  # fmt: skip
            for kind, values in observations.items():
                self.histograms[kind].values += values

    def render(self) -> str:
        """Return the exposition text."""
        with self.lock:
            lines: list[str] = []
            for kind in _COUNTERS_AT_ZERO:
                self._counter(lines, kind, [({}, 0)])
            self._gauge(lines, "num_requests_running", [({}, self.running)])
            self._gauge(lines, "num_requests_waiting", [({}, 0)])
            reasons: list[tuple[Labels, float]] = [({"reason": "capacity"}, 0), ({"reason": "deferred"}, 0)]
            self._gauge(lines, "num_requests_waiting_by_reason", reasons)
            states = (("awake", 1), ("weights_offloaded", 0), ("discard_all", 0))
            self._gauge(lines, "engine_sleep_state", [({"sleep_state": s}, v) for s, v in states])
            self._gauge(lines, "kv_cache_usage_perc", [({}, 0.001 * self.running)])
            self._counter(lines, "prefix_cache_queries", [({}, self.prompt)])
            self._counter(lines, "prompt_tokens", [({}, self.prompt)])
            by_source = [({"source": s}, self.prompt if s == "local_compute" else 0) for s in _SOURCES]
            self._counter(lines, "prompt_tokens_by_source", by_source)
            self._counter(lines, "prompt_tokens_cached_by_source", [({"source": s}, 0) for s in _CACHED])
            self._counter(lines, "generation_tokens", [({}, self.generated)])
            self._counter(
                lines, "request_success", [({"finished_reason": r}, n) for r, n in self.finished.items()]
            )
            lines.append("# TYPE vllm:admission_rejections_total counter")
            for name in ("max_num_queued_reqs", "max_num_queued_tokens"):
                labels = f'model_name="{self.name}",reason="{name}"'
                lines.append(f"vllm:admission_rejections_total{{{labels}}} 0.0")
            if self.drafted:
                self._speculative(lines)
            for kind, histogram in self.histograms.items():
                lines.append(f"# TYPE vllm:{kind} histogram")
                lines += histogram.lines(f"vllm:{kind}", self._labels({}))
                lines.append(f"# TYPE vllm:{kind}_created gauge")
                lines.append(f"vllm:{kind}_created{{{self._labels({})}}} {self.created}")
            lines.append("# TYPE vllm:cache_config_info gauge")
            labels = ",".join(
                f'{key}="{value}"' for key, value in sorted({**self.cache, "engine": "0"}.items())
            )
            lines.append(f"vllm:cache_config_info{{{labels}}} 1.0")
        return "\n".join(lines) + "\n"

    def _speculative(self, lines: list[str]) -> None:
        self._counter(lines, "spec_decode_num_drafts", [({}, self.drafts)])
        self._counter(lines, "spec_decode_num_draft_tokens", [({}, self.drafts * self.drafted)])
        self._counter(lines, "spec_decode_num_accepted_tokens", [({}, sum(self.accepted))])
        by_position = [({"position": str(p)}, n) for p, n in enumerate(self.accepted)]
        self._counter(lines, "spec_decode_num_accepted_tokens_per_pos", by_position)

    def _counter(self, lines: list[str], kind: str, values: Iterable[tuple[Labels, float]]) -> None:
        values = list(values)
        lines.append(f"# TYPE vllm:{kind}_total counter")
        lines += [f"vllm:{kind}_total{{{self._labels(extra)}}} {float(value)}" for extra, value in values]
        lines.append(f"# TYPE vllm:{kind}_created gauge")
        lines += [f"vllm:{kind}_created{{{self._labels(extra)}}} {self.created}" for extra, _ in values]

    def _gauge(self, lines: list[str], kind: str, values: Iterable[tuple[Labels, float]]) -> None:
        lines.append(f"# TYPE vllm:{kind} gauge")
        lines += [f"vllm:{kind}{{{self._labels(extra)}}} {float(value)}" for extra, value in values]

    def _labels(self, extra: Labels) -> str:
        labels = {"engine": "0", "model_name": self.name, **extra}
        return ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
