"""What is known of a flag or variable of vLLM over all bundled releases, for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sparkfleet.engines.vllm import history, renamed_flags, schema, schema_archive


def names() -> Iterable[str]:
    """Return every flag and variable that a bundled release has or that was replaced."""
    archive, replaced = schema_archive.read(), renamed_flags.read()
    return {*archive["flags"], *archive["registries"]["envs"], *replaced.flags, *replaced.envs}


def of(name: str) -> Mapping[str, str]:
    """Return label -> text; empty for a name that vLLM never had."""
    facts = _flag(name) if name.startswith("-") else _variable(name)
    return {label: text for label, text in facts.items() if text}


def _variable(name: str) -> Mapping[str, str]:
    spans, instead = history.of_name("envs", name), renamed_flags.of_env(name)
    return {"releases": history.text(spans), "instead": instead} if spans or instead else {}


def _flag(name: str) -> Mapping[str, str]:
    spans, instead = history.of_flag(name), renamed_flags.of_flag(name)
    if not spans:
        return {"releases": history.text(spans), "instead": instead} if instead else {}
    flag = schema.load(spans[-1].last).options[name]
    values = flag.choices or flag.known
    value = ", ".join(map(str, values)) if values else _TYPES.get(flag.type, flag.type)
    default = "" if flag.default in (None, {}) else json.dumps(flag.default)
    return {
        "flag": ", ".join((flag.name, *flag.aliases, *flag.negatives)),
        "value": value if flag.takes_value else "none",
        "keys": ", ".join(schema.load(spans[-1].last).json_classes[flag.json_class].fields)
        if flag.json_class
        else "",
        "default": default,
        "releases": history.text(spans),
        "deprecated": "yes" if flag.deprecated else "",
        "instead": instead,
    }


_TYPES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "human_int": "whole number, also as 64K",
    "human_int_or_auto": "whole number, also as 64K, or auto",
    "json": "mapping (JSON)",
    "config": "mapping (JSON)",
    "json_or_str": "mapping (JSON), or text",
}
