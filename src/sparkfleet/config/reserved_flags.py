"""Flags and variables that a user cannot set: sparkfleet sets them, or they would give a secret away."""

from __future__ import annotations

import re

from sparkfleet.config.merge import Folded
from sparkfleet.contract.diagnostic import Diagnostic

OWN_FLAGS = {
    "port": "the field 'port:' of the service",
    "served-model-name": "the field 'served_name:' of the service",
    "revision": "the field 'revision:' of the service",
    "model": "the field 'model:' of the service",
    "model-tag": "the field 'model:' of the service",
    "host": "nothing: the engine listens on every address of its container",
}
"""Flags that sparkfleet renders itself, and what to write instead."""

SECRET_FLAGS = frozenset({"api-key", "hf-token"})
SECRET_ENV = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY"})

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``organisation/name`` on the hub; everything else in its place is a path."""


def diagnostics(folded: Folded) -> list[Diagnostic]:
    """Return a problem for each flag and variable that cannot be set by the user."""
    found = []
    for name in folded.flags:
        place = folded.origin[f"flags.{name}"]
        if name in OWN_FLAGS:
            found.append(
                Diagnostic(
                    place,
                    f"flag '{name}' is set by sparkfleet itself",
                    OWN_FLAGS[name],
                    "remove it from flags",
                )
            )
        elif name in SECRET_FLAGS:
            found.append(
                Diagnostic(
                    place,
                    f"flag '{name}' would put a secret on the engine's command line",
                    "no secret in flags: everyone on the Spark could read it",
                    "remove it; the hub's token comes from 'hf_token' in group_data",
                )
            )
    tokenizer = folded.flags.get("tokenizer")
    if isinstance(tokenizer, str) and REPOSITORY.fullmatch(tokenizer):
        found.append(
            Diagnostic(
                folded.origin["flags.tokenizer"],
                f"the tokenizer of another repository ({tokenizer}) would be missing: engines start offline",
                "the model's own tokenizer, or a path in the container",
                "remove the flag, or mount the files ('container.mounts') and give their path",
            )
        )
    found += [
        Diagnostic(
            folded.origin[f"env.{name}"],
            f"variable '{name}' would put a secret into the container's settings",
            "no secret in env: `docker inspect` shows it",
            "remove it; the hub's token comes from 'hf_token' in group_data",
        )
        for name in sorted(SECRET_ENV & folded.env.keys())
    ]
    return found
