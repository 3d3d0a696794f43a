"""Keeps secrets out of everything that is written: events, evidence, results."""

from __future__ import annotations

import re
from typing import Any

from sparkfleet import engines
from sparkfleet.runtimes.base import Instance

MASK = "***"
SECRET_NAME = re.compile(
    r"token|secret|passw|credential|api_?key|private_?key|access_?key|(^|_)auth", re.IGNORECASE
)
"""Names of environment variables whose values are secret."""

_VARIABLE = re.compile(r"\w+", re.ASCII)
_SHAPES = re.compile(
    r"\b(?:hf|sk|nvapi|ghp|glpat)[-_][A-Za-z0-9_-]{16,}"
    r"|(?<=Bearer )[^\s'\"]+"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<='api_key': )\[[^\]\n]*\]?"
)
"""Each in linear time: what may have no end, such as a list, matches without one, too."""
SHORTEST = 6
"""A known value shorter than this is not masked in text: it would mask ordinary words."""


def secrets_of(instance: Instance | None) -> tuple[str, ...]:
    """Return the secret values that the instance was given by environment or command line."""
    if instance is None:
        return ()
    pairs = (entry.partition("=") for entry in instance.env)
    found = {value for name, _, value in pairs if SECRET_NAME.search(name)}
    for engine in map(engines.on_host, engines.host_names()):
        found.add(engine.api_key.find(instance.env, instance.command))
    return tuple(sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True))


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return ``text`` without the given values and without anything shaped like a token."""
    for value in secrets:
        text = text.replace(value, MASK)
    return _SHAPES.sub(MASK, text)


def inspect_for_evidence(instance: Instance) -> dict[str, Any]:
    """Return the runtime's description with secret-like environment values and arguments masked."""
    secrets = secrets_of(instance)

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [clean(item) for item in value]
        return _masked(redact(value, secrets)) if isinstance(value, str) else value

    found: dict[str, Any] = clean(instance.details)
    return found


def _masked(text: str) -> str:
    """Return ``NAME=value`` without the value of a secret-like name, any other text as it is."""
    name, _, value = text.partition("=")
    return f"{name}={MASK}" if value and _VARIABLE.fullmatch(name) and SECRET_NAME.search(name) else text
