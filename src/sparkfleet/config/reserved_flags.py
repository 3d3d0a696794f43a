"""Flags and variables that a user cannot set: sparkfleet sets them, or they would expose a secret."""

from __future__ import annotations

import re

from sparkfleet.config.merge import MergedService
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.base import Engine

SECRET_ENV = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
"""Variables that no engine gets: the hub's token."""

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``organisation/name`` on the hub; any other value is a path."""


_SECRET_NAME = re.compile(
    r"(?:.*_)?(?:API_?KEY|ACCESS_KEY|SECRET|SECRET_KEY|TOKEN|PASSWORD|PASSWD)", re.IGNORECASE
)
"""Names of variables whose values are secrets."""
_NO_SECRETS = frozenset({"", "0", "1", "dummy", "empty", "false", "none", "true"})
"""Values that programs want where no key is needed."""
_CREDENTIALS = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
"""A URL with user and password."""
_USE_GATEWAY = (
    "remove it; put a gateway with keys of its own (for example LiteLLM) in front, and close the "
    "engine's port to others by a firewall"
)
_FROM_GROUP_DATA = "remove it; the hub's token comes from 'hf_token' in group_data"
_MOUNT_A_FILE = (
    "remove it; a program in the container can read it from a file that you mount (`read_only: true`)"
)


def diagnostics(folded: MergedService, engine: Engine) -> list[Diagnostic]:
    """Return a diagnostic for each flag and variable that cannot be set by the user, and remove these flags.

    Further checks then see the service as sparkfleet would start it.
    """
    errors = []
    for name in [*folded.flags]:
        place = folded.origin[f"flags.{name}"]
        if name in engine.reserved_flags:
            errors.append(
                Diagnostic(
                    place,
                    f"flag '{name}' is set by sparkfleet",
                    engine.reserved_flags[name],
                    "remove it from flags",
                    code="flag-reserved",
                )
            )
            del folded.flags[name]
        elif name in engine.secret_flags:
            errors.append(
                Diagnostic(
                    place,
                    f"flag '{name}' would put a secret on the engine's command line",
                    "no secrets in flags: every user on the Spark can read the command line",
                    _FROM_GROUP_DATA if "token" in name else _USE_GATEWAY,
                    code="secret-exposed",
                )
            )
            del folded.flags[name]
    for name in sorted(engine.repository_flags & folded.flags.keys()):
        value = folded.flags[name]
        if isinstance(value, str) and REPOSITORY.fullmatch(value):
            errors.append(
                Diagnostic(
                    folded.origin[f"flags.{name}"],
                    f"the {name} of another repository ({value}) would be missing: engines start offline",
                    f"the model's own {name}, or a path in the container",
                    "remove the flag, or mount the files ('container.mounts') and give their path",
                    code="tokenizer-missing",
                )
            )
    errors += [
        Diagnostic(
            folded.origin[f"env.{name}"],
            f"variable '{name}' would put a secret into the container's environment",
            "no secrets in env: `docker inspect` shows them",
            hint,
            code="secret-exposed",
        )
        for name, value in sorted(folded.env.items())
        if (hint := _secret_hint(name, value, engine))
    ]
    return errors


def _secret_hint(name: str, value: str, engine: Engine) -> str:
    """Return what to do instead of a variable with a secret; "" if it has none."""
    if name in SECRET_ENV:
        return _FROM_GROUP_DATA
    if name in engine.secret_env:
        return _USE_GATEWAY
    if _CREDENTIALS.search(value):
        return "remove user and password from the URL: a proxy can know the Spark by its address"
    if value.lower() in _NO_SECRETS or not _SECRET_NAME.fullmatch(name):
        return ""
    return _MOUNT_A_FILE
