"""One word for one idea: the words that docs/reference/glossary.md rules out are used nowhere."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sparkfleet.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sparkfleet"
GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
LINUX_SWAP = re.compile(
    r"linux_?swap|memory_swap|swap_(total|used|free|space|lines|file)|(put|back)_swap", re.IGNORECASE
)
"""Names of Linux swap, which keeps its word."""

UNFINISHED = frozenset(
    {
        "contract",
        "engines",
        "fleet",
        "onhost/artifacts",
        "onhost/collectors",
        "onhost/fabric",
        "onhost/prune",
        "onhost/rollout",
        "onhost/state",
        "probe",
        "runtimes",
    }
)
"""Packages that still have such words. A package that has none any more must leave this list."""


def banned() -> frozenset[str]:
    _, table = GLOSSARY.read_text().split("## Words that are not used")
    rows = re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE)
    return frozenset(word for row in rows for word in row.split(", ")) - {"not"}


BANNED = banned()
BARE = frozenset(
    {
        "asked",
        "given",
        "kept",
        "wanted",
        "brought",
        "others",
        "here",
        "there",
        "tell",
        "say",
        "spoken",
        "mend",
    }
)
"""Participles and words like pronouns: fine within a name and in prose, and no name by themselves."""


def parts(identifier: str) -> set[str]:
    """Return the words of an identifier: ``SwapRequest`` and ``swap_request`` have swap and request."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", LINUX_SWAP.sub("", identifier))
    return {part.lower() for part in spaced.split("_")}


def identifiers(path: Path) -> Iterator[str]:
    """Yield every name that a module defines, and its own."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def packages() -> list[str]:
    below = [path.relative_to(SOURCE).as_posix() for path in SOURCE.glob("*") if path.is_dir()]
    inside = [path.relative_to(SOURCE).as_posix() for path in SOURCE.glob("onhost/*") if path.is_dir()]
    return sorted(name for name in (*below, *inside, ".") if name not in {"onhost", "__pycache__"})


def modules(package: str) -> list[Path]:
    return sorted((SOURCE / package).glob("*.py") if package == "." else (SOURCE / package).rglob("*.py"))


@pytest.mark.parametrize(
    "package",
    [
        pytest.param(name, marks=[pytest.mark.xfail(strict=True)] if name in UNFINISHED else [])
        for name in packages()
    ],
)
def test_no_identifier_has_a_word_that_is_ruled_out(package: str) -> None:
    found = {
        f"{path.relative_to(SOURCE)}: {name}"
        for path in modules(package)
        for name in identifiers(path)
        if parts(name) & BANNED or name.strip("_").lower() in BARE
    }
    assert not found, "\n".join(sorted(found))


def test_the_check_knows_a_word_inside_of_a_name() -> None:
    assert parts("SwapRequest") & {"swap"}
    assert parts("engine_words_seen") & {"words"}
    assert not parts("linux_swap") & {"swap"}


PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if page != GLOSSARY)
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_no_page_has_a_word_that_is_ruled_out(page: Path) -> None:
    text = CODE.sub("", page.read_text()).lower()
    text = re.sub(r"\]\([^)]*\)", "]", text)
    found = sorted(
        word for word in BANNED - {"swap", "words", "together", "meet"} if re.search(rf"\b{word}\b", text)
    )
    assert not found


def keys(schema: object) -> Iterator[str]:
    """Yield the names of all properties in a JSON Schema."""
    if isinstance(schema, dict):
        properties = schema.get("properties")
        yield from properties if isinstance(properties, dict) else ()
        for value in schema.values():
            yield from keys(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from keys(value)


@pytest.mark.parametrize(
    "schema", sorted((ROOT / "docs" / "schema").glob("*.json")), ids=lambda path: path.stem
)
def test_no_yaml_key_has_a_word_that_is_ruled_out(schema: Path) -> None:
    names = set(keys(json.loads(schema.read_text()))) - {"swap"}
    assert not {name for name in names if parts(name) & BANNED}


def options() -> Iterator[str]:
    """Yield the commands and options of the command line."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name
        members = command.commands.values() if isinstance(command, click.Group) else [command]
        for member in members:
            for parameter in member.params:
                yield from (option.strip("-").replace("-", "_") for option in parameter.opts)


def test_no_option_has_a_word_that_is_ruled_out() -> None:
    assert not {name for name in options() if parts(name) & BANNED}
