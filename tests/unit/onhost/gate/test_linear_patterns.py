"""Every regular expression that reads text of a host or an engine needs linear time, also for the worst text.

The texts are made from the patterns (``tests/unit/adversarial.py``).
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from tools import host_limits

from sparkfleet import engines
from sparkfleet.onhost.artifacts.fetch import fetch
from sparkfleet.onhost.gate import failure_patterns
from tests.unit import adversarial

SOURCE = host_limits.SOURCE
READERS = (
    "probe/response.py",
    "probe/links.py",
    "probe/machine.py",
    "engines/openai_api.py",
    "engines/vllm/calibrate.py",
    "fleet/connection/printable.py",
)
"""Readers of text of a host that run on the operator's machine."""
IN_IMAGES = ("onhost/artifacts/image/install_packages.py",)
FUNCTIONS = {"compile", "search", "match", "fullmatch", "findall", "finditer", "sub", "split"}
DYNAMIC: Mapping[str, tuple[str, ...]] = {
    "onhost/artifacts/fetch/fetch.py": tuple(pattern for pattern, _ in fetch.CAUSES),
    "onhost/collectors/fabric.py": (r"(?m)^    [\"']?renderer[\"']?: *[\"']?(\w+)", r"\benp1s0f1np1\b"),
    "onhost/collectors/footprints.py": (
        r"\b(drop_caches|docker|nvidia-smi|netplan|vllm|ollama|NOPASSWD:\s*ALL)\b",
        r"\b(vllm|ollama|docker (?:run|start|compose))\b",
    ),
    "onhost/gate/failure_patterns.py": (),  # those of the engines, below
    "resources/kinds/package.py": (r"(?m)^(?:Inst|Remv) (\S+)",),
}
"""Patterns that are no constants of their module, as they are at run time."""


def modules() -> Iterator[Path]:
    """Yield the modules that read text of a host."""
    yield from host_limits.modules()
    for name in READERS:
        path = SOURCE / name
        yield from [path] if path.suffix else sorted(path.rglob("*.py"))
    yield from sorted(SOURCE.glob("engines/*/onhost.py"))


def values(value: Any) -> Iterator[re.Pattern[str]]:
    """Yield the patterns within a value of a module."""
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from values(one)
    elif isinstance(value, Mapping):
        yield from values(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from values([getattr(value, one.name) for one in fields(value)])


def in_module(path: Path) -> Iterator[tuple[str, str, re.Pattern[str]]]:
    """Yield the use of each pattern of a module: a line or a name, a method, and the pattern."""
    name = path.relative_to(SOURCE).as_posix()
    text = path.read_text(encoding="utf-8")
    module = importlib.import_module("sparkfleet." + name.removesuffix(".py").replace("/", "."))
    for variable, value in vars(module).items():
        if getattr(value, "__module__", module.__name__) != module.__name__ and not isinstance(
            value, re.Pattern
        ):
            continue
        used = set(re.findall(rf"\b{variable}\.(\w+)\(", text)) & FUNCTIONS
        anchored = used and used <= {"match", "fullmatch"}
        for number, pattern in enumerate(values(getattr(value, "log", value))):
            yield f"{name}:{variable}{number or ''}", "match" if anchored else "finditer", pattern
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        if ast.unparse(node.func.value) != "re" or node.func.attr not in FUNCTIONS - {"compile"}:
            continue
        flags = [ast.unparse(one) for one in (*node.args[1:], *node.keywords) if "re." in ast.unparse(one)]
        try:
            pattern_text = eval(ast.unparse(node.args[0]), vars(module))
        except NameError:
            assert name in DYNAMIC, f"{name}:{node.lineno}: a pattern that no test knows"
            continue
        if isinstance(pattern_text, str):
            flag = eval(flags[0].rpartition("=")[2], {"re": re}) if flags else 0
            method = node.func.attr if node.func.attr in {"match", "fullmatch"} else "finditer"
            yield f"{name}:{node.lineno}", method, re.compile(pattern_text, flag)


def of_modules() -> Iterator[tuple[str, str, re.Pattern[str]]]:
    """Yield the patterns of all modules."""
    for path in modules():
        name = path.relative_to(SOURCE).as_posix()
        if name not in IN_IMAGES:
            yield from in_module(path)
    for name, patterns in DYNAMIC.items():
        for number, pattern in enumerate(patterns):
            yield f"{name}:dynamic{number}", "finditer", re.compile(pattern)


def of_engines() -> Iterator[tuple[str, str, re.Pattern[str]]]:
    """Yield the patterns of all engines, those that they share once."""
    shared = failure_patterns.shared_patterns()
    by_owner = {name: failure_patterns.engine_patterns(name) for name in engines.host_names()}
    for owner, kinds in {"all": shared, **by_owner}.items():
        for kind, entries in kinds.items():
            for number, entry in enumerate(entries):
                for key in {"re", "context"} & entry.keys():
                    yield f"{owner}:{kind}{number}:{entry.get('id', '')}", "finditer", re.compile(entry[key])


FOUND = {
    (pattern.pattern, pattern.flags): (name, uses, pattern)
    for name, uses, pattern in (*of_modules(), *of_engines())
}


@pytest.mark.parametrize(("name", "uses", "pattern"), FOUND.values(), ids=[one[0] for one in FOUND.values()])
def test_a_pattern_takes_linear_time_for_the_worst_text(
    name: str, uses: str, pattern: re.Pattern[str]
) -> None:
    assert adversarial.slowest(pattern, uses) == "", pattern.pattern


@pytest.mark.parametrize(
    ("pattern", "uses"),
    [
        (r"[\w.-]+\.safetensors: +\d+%\|", "finditer"),
        (r"NCCL INFO .*\bUsing network", "finditer"),
        (r"'api_key': \[[^\]\n]*\]", "finditer"),
        (r"(?:a|b+)+: ", "match"),
        (r"\s*(?:\w+\s*)*;", "match"),
        (r"\s*\n", "finditer"),
        (r"x(?:\w*\d*)=", "match"),
    ],
)
def test_a_pattern_of_quadratic_or_worse_time_is_found(pattern: str, uses: str) -> None:
    assert adversarial.slowest(re.compile(pattern), uses)


@pytest.mark.parametrize(
    "pattern", [r"\d{1,9}%\|", r"NCCL INFO .{0,200}\bUsing network", r"^\w+: x", "error: .+"]
)
def test_a_linear_pattern_is_not_found(pattern: str) -> None:
    assert adversarial.slowest(re.compile(pattern)) == ""
