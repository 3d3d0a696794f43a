"""What a term means: a key, a flag, a rule, an error code, a failure, an exit code, a word of the glossary.

Everything comes from the tables that the reference pages are generated from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sparkfleet import engines, exit_codes, glossary
from sparkfleet.config import field_reference
from sparkfleet.config.json_schema import KINDS
from sparkfleet.contract.codes import AREAS
from sparkfleet.onhost.gate import failure_patterns

FILES = {"host": "host file", "cluster": "cluster file", "recipe": "recipe", "group-data": "group_data"}


@dataclass(frozen=True)
class Explanation:
    """One meaning of a term."""

    kind: str
    """What it is: ``lint rule``."""
    name: str
    text: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """Label -> value, in the order to show."""


@dataclass(frozen=True)
class Source:
    """A table of names that can be explained."""

    names: Callable[[], Iterable[str]]
    find: Callable[[str], Iterable[Explanation]]


def of(term: str) -> tuple[Explanation, ...]:
    """Return all meanings of a term, the most specific first; none if it is unknown."""
    return tuple(one for source in SOURCES for one in source.find(term))


def names() -> tuple[str, ...]:
    """Return every name that ``of`` explains, sorted, each once."""
    return tuple(sorted({name for source in SOURCES for name in source.names()}))


@cache
def _keys() -> Mapping[tuple[str, str, str, str], Mapping[str, str]]:
    """Return each key of the YAML files (name, value, default, description) -> file -> its path there."""
    table: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for kind, model in KINDS.items():
        for key in field_reference.all_keys(model):
            identity = (key.path.rpartition(".")[2], key.value, key.default, key.description)
            table.setdefault(identity, {}).setdefault(FILES[kind], key.path)
    return table


def _find_key(term: str) -> Iterator[Explanation]:
    for (name, value, default, description), files in _keys().items():
        paths = {file: path for file, path in files.items() if f".{path}".endswith(f".{term}")}
        if paths:
            facts = {"value": value, "default": default.strip("`")}
            yield Explanation("YAML key", name, description, {k: v for k, v in facts.items() if v} | paths)


def _flags() -> Iterator[str]:
    return (name for engine in engines.names() for name in engines.get(engine).flag_names())


def _find_flag(term: str) -> Iterator[Explanation]:
    name = term.removeprefix("flags.").removeprefix("env.")
    for engine in map(engines.get, engines.names()):
        for spelling in (name, f"--{name.replace('_', '-')}"):
            facts = dict(engine.flag_facts(spelling))
            if facts:
                kind = "flag" if spelling.startswith("-") else "variable"
                instead = engine.reserved_flags.get(spelling.removeprefix("--"))
                facts |= {"set by sparkfleet": instead} if instead else {}
                yield Explanation(f"{kind} of {engine.title}", spelling, facts.pop("", ""), facts)
                break


def _find_rule(term: str) -> Iterator[Explanation]:
    for engine in map(engines.get, engines.names()):
        for rule in engine.rules():
            if rule.id == term.upper():
                sources = (
                    title for short, title in engine.rule_sources.items() if short in rule.source.split()
                )
                facts = {
                    "source": rule.source,
                    "sources": "; ".join(sources),
                    "enforced by": rule.kept_by,
                    "ignore": f"ignore_rules: {{{rule.id}: REASON}} in a host file or in group_data",
                }
                yield Explanation("lint rule", rule.id, rule.title, {k: v for k, v in facts.items() if v})


def _find_code(term: str) -> Iterator[Explanation]:
    for area, codes in AREAS.items():
        if term in codes:
            remedy = {"remedy": codes[term].remedy, "area": area}
            yield Explanation("diagnostic code", term, codes[term].cause, remedy)


@cache
def _failures() -> Mapping[str, tuple[dict[str, Any], ...]]:
    """Return failure patterns by id, those of engines first."""
    shared = failure_patterns.shared_patterns()
    entries = [
        *(
            entry
            for name in engines.host_names()
            for entry in failure_patterns.engine_patterns(name)["failures"]
        ),
        *shared["failures"],
        *shared["endings"],
    ]
    table: dict[str, tuple[dict[str, Any], ...]] = {}
    for entry in entries:
        table[entry["id"]] = (*table.get(entry["id"], ()), entry)
    return table


def _find_failure(term: str) -> Iterator[Explanation]:
    for entry in _failures().get(term, ()):
        samples = [sample["text"] for sample in entry.get("samples", ())]
        facts = {"remedy": _filled(entry["remedy"]), "log line": samples[0] if samples else ""}
        yield Explanation(
            "failure of a start", term, _filled(entry["cause"]), {k: v for k, v in facts.items() if v}
        )


def _filled(template: str) -> str:
    """Return a template with ``...`` for each value of a log."""
    return re.sub(r"(?<!{)(?:\{\w+\})+", "...", template).replace("{{", "{").replace("}}", "}")


def _find_exit_code(term: str) -> Iterator[Explanation]:
    for code, text in exit_codes.MEANINGS.items():
        if term == str(int(code)):
            commands = {
                name: meanings[code] for name, meanings in exit_codes.COMMANDS.items() if code in meanings
            }
            yield Explanation("exit code", term, text, commands)


def _find_term(term: str) -> Iterator[Explanation]:
    for name, meaning in glossary.TERMS.items():
        if term.lower() == name.lower():
            yield Explanation("term", name, meaning)


SOURCES = (
    Source(lambda: {path for files in _keys().values() for path in files.values()}, _find_key),
    Source(_flags, _find_flag),
    Source(lambda: (rule.id for name in engines.names() for rule in engines.get(name).rules()), _find_rule),
    Source(lambda: (name for codes in AREAS.values() for name in codes), _find_code),
    Source(_failures, _find_failure),
    Source(lambda: (str(int(code)) for code in exit_codes.MEANINGS), _find_exit_code),
    Source(lambda: glossary.TERMS, _find_term),
)
