"""What replaces flags, keys and environment variables that vLLM removed, or that never existed.

The sentences are data (``data/replacements.json``), from vLLM's release notes and the sources and schemas of
the releases before and after.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sparkfleet.contract import codec

FILE = Path(__file__).parent / "data" / "replacements.json"


@functools.cache
def read() -> dict[str, dict[str, Any]]:
    """Return ``flags``, ``envs`` and ``keys`` (by config class): name -> what to do."""
    return codec.parse(dict[str, dict[str, Any]], FILE.read_bytes(), str(FILE))


def of_flag(name: str) -> str:
    """Return what to do about a flag, also about its negative; "" if nothing is known."""
    flags = read()["flags"]
    return str(flags.get(name) or flags.get(name.replace("--no-", "--", 1), ""))


def of_env(name: str) -> str:
    """Return what to do about a variable; "" if nothing is known."""
    return str(read()["envs"].get(name, ""))


def of_key(json_class: str, key: str) -> str:
    """Return what to do about a key of a nested config; "" if nothing is known."""
    return str(read()["keys"].get(json_class, {}).get(key, ""))
