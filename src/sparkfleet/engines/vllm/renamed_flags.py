"""What replaces flags, keys and environment variables that vLLM removed, or that never existed.

The sentences are data (``data/replacements.json``), from vLLM's release notes and the sources and schemas of
the releases before and after.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from sparkfleet import data_files
from sparkfleet.contract import codec


@dataclass(frozen=True)
class Replacements:
    """``data/replacements.json``: name -> what to do; keys by their config class."""

    flags: Mapping[str, str]
    envs: Mapping[str, str]
    keys: Mapping[str, Mapping[str, str]]


@functools.cache
def read() -> Replacements:
    """Return ``data/replacements.json``."""
    content = data_files.read("sparkfleet.engines.vllm", "data/replacements.json")
    return codec.parse(Replacements, content, "data/replacements.json")


def of_flag(name: str) -> str:
    """Return what to do about a flag, also about its negative; "" if nothing is known."""
    flags = read().flags
    return flags.get(name) or flags.get(name.replace("--no-", "--", 1), "")


def of_env(name: str) -> str:
    """Return what to do about a variable; "" if nothing is known."""
    return read().envs.get(name, "")


def of_key(json_class: str, key: str) -> str:
    """Return what to do about a key of a nested config; "" if nothing is known."""
    return read().keys.get(json_class, {}).get(key, "")
