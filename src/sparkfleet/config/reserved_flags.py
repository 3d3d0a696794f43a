"""Flags and variables that a user cannot set: sparkfleet sets them, or they would expose a secret."""

from __future__ import annotations

import re

from sparkfleet.config.merge import Folded
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.base import Engine

SECRET_ENV = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
"""Variables that no engine gets: the hub's token."""

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``organisation/name`` on the hub; any other value is a path."""


def diagnostics(folded: Folded, engine: Engine) -> list[Diagnostic]:
    """Return a diagnostic for each flag and variable that cannot be set by the user."""
    found = []
    for name in folded.flags:
        place = folded.origin[f"flags.{name}"]
        if name in engine.reserved_flags:
            found.append(
                Diagnostic(
                    place,
                    f"flag '{name}' is set by sparkfleet",
                    engine.reserved_flags[name],
                    "remove it from flags",
                    code="flag-reserved",
                )
            )
        elif name in engine.secret_flags:
            found.append(
                Diagnostic(
                    place,
                    f"flag '{name}' would put a secret on the engine's command line",
                    "no secrets in flags: every user on the Spark can read the command line",
                    "remove it; the hub's token comes from 'hf_token' in group_data",
                    code="secret-exposed",
                )
            )
    for name in sorted(engine.repository_flags & folded.flags.keys()):
        value = folded.flags[name]
        if isinstance(value, str) and REPOSITORY.fullmatch(value):
            found.append(
                Diagnostic(
                    folded.origin[f"flags.{name}"],
                    f"the {name} of another repository ({value}) would be missing: engines start offline",
                    f"the model's own {name}, or a path in the container",
                    "remove the flag, or mount the files ('container.mounts') and give their path",
                    code="tokenizer-missing",
                )
            )
    found += [
        Diagnostic(
            folded.origin[f"env.{name}"],
            f"variable '{name}' would put a secret into the container's environment",
            "no secrets in env: `docker inspect` shows them",
            "remove it; the hub's token comes from 'hf_token' in group_data",
            code="secret-exposed",
        )
        for name in sorted((SECRET_ENV | engine.secret_env) & folded.env.keys())
    ]
    return found
