"""Since when and until when vLLM has something: a flag, an environment variable, a registered name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparkfleet.engines.vllm import schema_archive


@dataclass(frozen=True)
class Span:
    """A run of bundled releases. What lies between two bundled releases is not known exactly."""

    first: str
    last: str
    """The newest bundled release: it is there to this day."""
    after: str
    """The first bundled release without it; "" if there is none."""


def of_flag(name: str) -> tuple[Span, ...]:
    """Return when ``vllm serve`` had the flag, under any of its names."""
    return _spans(
        sorted(
            run[:2]
            for canonical, runs in schema_archive.read()["flags"].items()
            for run in runs
            if name in (canonical, *run[2].get("aliases", ()), *run[2].get("negatives", ()))
        )
    )


def of_name(registry: str, name: str) -> tuple[Span, ...]:
    """Return when a registry (``envs``, ``tool_parsers`` ...) had the name."""
    return _spans(schema_archive.read()["registries"].get(registry, {}).get(name, []))


def of_key(json_class: str, key: str) -> tuple[Span, ...]:
    """Return when a nested config (``SpeculativeConfig``) had the key."""
    return _spans(schema_archive.read()["classes"].get(json_class, {}).get(key, []))


def of_choice(flag: str, choice: str) -> tuple[Span, ...]:
    """Return when the flag took the value as one of its choices."""
    runs = schema_archive.read()["flags"].get(flag, [])
    return _spans([run for run in runs if choice in _choices(run[2])])


def of_key_choice(json_class: str, key: str, choice: str) -> tuple[Span, ...]:
    """Return when the key of a nested config took the value as one of its choices."""
    runs = schema_archive.read()["classes"].get(json_class, {}).get(key, [])
    return _spans([run for run in runs if choice in _enum(run[2]["type"])])


def text(spans: tuple[Span, ...]) -> str:
    """Return the spans as text: ``from 0.13.0``, ``up to 0.17.1``, ``never``."""
    versions = schema_archive.read()["versions"]
    if not spans:
        return f"in no release from {versions[0]} to {versions[-1]}"
    return ", ".join(_text(span, versions) for span in spans)


def _choices(entry: dict[str, Any]) -> list[str]:
    return [str(choice) for choice in entry.get("choices") or entry.get("hint") or ()]


def _enum(kind: Any) -> list[Any]:
    """Return the values of a type description's literals."""
    if not isinstance(kind, dict):
        return []
    return [*kind.get("enum", ()), *(value for one in kind.get("any", ()) for value in _enum(one))]


def _text(span: Span, versions: list[str]) -> str:
    since_ever = span.first == versions[0]
    if not span.after:
        return "in every release" if since_ever else f"from {span.first}"
    return f"up to {span.last}" if since_ever else f"from {span.first} to {span.last}"


def _spans(runs: list[list[Any]]) -> tuple[Span, ...]:
    versions = schema_archive.read()["versions"]
    joined: list[list[int]] = []
    for first, last, *_ in runs:
        if joined and joined[-1][1] == first - 1:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return tuple(
        Span(versions[first], versions[last], versions[last + 1] if last + 1 < len(versions) else "")
        for first, last in joined
    )
