"""Rules that are checked outside of a single service's check, listed for reference."""

from __future__ import annotations

from collections.abc import Mapping

_FLAGS = "flag check"
_ENV = "the check of the environment"
_LOCK = "`sparkfleet lock`"
_BUILT = "how sparkfleet starts containers"
_HOST = "the plan, from the probe"

EXTERNAL_CHECKS: Mapping[str, tuple[str, str]] = {
    "IMG-02": ("images are pinned by digest", "the loader: a tag without a digest is an error"),
    "IMG-03": ("the command does not repeat `vllm serve`", f"{_BUILT}, and {_FLAGS} (serve-repeated)"),
    "IMG-05": ("the image has a manifest for linux/arm64", _LOCK),
    "IMG-07": ("docker is logged in at nvcr.io", _HOST),
    "KV-06": ("the KV cache type is one of this vLLM", f"{_FLAGS} (bad-choice)"),
    "MEM-05": ("the memory that the engine requests is free", _HOST),
    "MEM-07": ("the page cache is flushed before a start", "the valve, before every start"),
    "MEM-08": ("services of one Spark share its memory and ports", "the loader: all services of a file"),
    "MEM-13": ("--swap-space is gone from 0.18", f"{_FLAGS} (unknown-flag)"),
    "BK-11": ("VLLM_FLASHINFER_MOE_* are gone from 0.24.0", f"{_ENV} (unknown-env)"),
    "SD-04": ("--speculative-disable-by-batch-size exists in no release", f"{_FLAGS} (unknown-flag)"),
    "SD-07": ("keys of the speculative config are those of this vLLM", f"{_FLAGS} (json-unknown-key)"),
    "SD-09": ("draft tokens are accepted", "the gate, after every start"),
    "P-01": ("parser names are registered in this vLLM", f"{_FLAGS} (not-registered)"),
    "P-04": ("--enable-auto-tool-choice needs --tool-call-parser", f"{_FLAGS} (needs-other-flag)"),
    "P-12": ("files beside the model are pinned", _LOCK),
    "H-02": ("models live outside the container", _BUILT),
    "H-05": ("weights are complete before an engine starts", "staging, before every stop"),
    "H-06": ("files belong to the login user", "staging"),
    "H-07": ("each image has its own compile cache", _BUILT),
    "H-08": ("there is room for the weights", _HOST),
    "H-11": ("VLLM_ variables are read by this vLLM", f"{_ENV} (unknown-env)"),
    "H-12": ("the gate sends the first request, not a user", "the readiness gate, which warms up the engine"),
}
"""Rule id -> requirement, and what checks it."""
