"""The metrics of llama-server, by its own names and in its own order."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

_COUNTERS = (
    ("prompt_tokens_total", "Number of prompt tokens processed, excluding cached tokens"),
    ("prompt_tokens_cached_total", "Number of prompt tokens reused from the cache"),
    ("prompt_seconds_total", "Total time spent processing prompts"),
    ("tokens_predicted_total", "Number of generation tokens processed"),
    ("tokens_predicted_seconds_total", "Total time spent generating tokens"),
    (
        "n_decode_total",
        "Total number of llama_decode() calls, excluding speculative decoding and multimodal decoding",
    ),
    ("n_tokens_max", "Largest observed sequence length (prompt + generation)"),
    ("spec_decode_num_draft_tokens_total", "Speculative: Total draft tokens generated"),
    (
        "spec_decode_num_accepted_tokens_total",
        "Speculative: Total draft tokens accepted by the target model",
    ),
    ("spec_decode_num_drafts_total", "Speculative: Total speculative decoding verification steps"),
)
_GAUGES = (
    ("prompt_tokens_seconds", "Average prompt throughput in tokens/s"),
    ("predicted_tokens_seconds", "Average generation throughput in tokens/s"),
    ("requests_processing", "Number of requests processing"),
    ("requests_deferred", "Number of requests deferred"),
    ("n_busy_slots_per_decode", "Average number of busy slots per llama_decode() call"),
)


@dataclass
class Metrics:
    """Counters since the start."""

    frozen: bool = False
    """Whether all counters keep their values."""
    values: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Count a request that is being processed."""
        with self.lock:
            self._add("requests_processing", 1)

    def end(self, prompt: int, predicted: int, seconds: float) -> None:
        """Count a request that has ended."""
        with self.lock:
            self._add("requests_processing", -1)
            if self.frozen:
                return
            self._add("prompt_tokens_total", prompt)
            self._add("prompt_seconds_total", seconds / 2)
            self._add("tokens_predicted_total", predicted)
            self._add("tokens_predicted_seconds_total", seconds / 2)
            self._add("n_decode_total", predicted)
            self.values["n_tokens_max"] = max(self.values.get("n_tokens_max", 0), prompt + predicted)
            self.values["n_busy_slots_per_decode"] = 1

    def render(self) -> str:
        """Return the text of ``/metrics``."""
        with self.lock:
            lines = []
            for kind, items in (("counter", _COUNTERS), ("gauge", _GAUGES)):
                for name, text in items:
                    lines += [f"# HELP llamacpp:{name} {text}", f"# TYPE llamacpp:{name} {kind}"]
                    lines.append(f"llamacpp:{name} {self.values.get(name, 0):g}")
        return "\n".join(lines) + "\n"

    def _add(self, name: str, amount: float) -> None:
        self.values[name] = self.values.get(name, 0) + amount
