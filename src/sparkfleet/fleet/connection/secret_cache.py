"""Secrets of the operator's machine: each source is read once in a run."""

from __future__ import annotations

from gevent.lock import RLock

from sparkfleet.config import secret

_known: dict[str, str] = {}
_reading = RLock()
"""The hosts' greenlets need the same secret at the same time."""


def read_once(source: str, *, field: str) -> str:
    """Return a secret, "" when its variable is not set; ``field`` names it in errors.

    Raise SparkfleetError when a declared file or command gives no secret.
    """
    with _reading:
        if source not in _known:
            _known[source] = secret.read(source, field=field)
        return _known[source]


def forget() -> None:
    """Clear the cache."""
    _known.clear()
