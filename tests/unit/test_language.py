"""The project's language: code, tests and texts avoid the words that CONTRIBUTING.md rules out."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest

from sparkfleet.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sparkfleet"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LINUX_SWAP = re.compile(
    r"linux_?swap|memory_swap|swap_(total|used|free|space|lines|file)|(put|back)_swap", re.IGNORECASE
)
"""Names of Linux swap, which keeps its word."""


def banned() -> frozenset[str]:
    _, table = CONTRIBUTING.read_text().split("## Words that are not used")
    rows = re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE)
    return frozenset(word for row in rows for word in row.split(", ")) - {"not"}


BANNED = banned()
PROSE = sorted(BANNED - {"swap", "words", "together", "meet"})
"""Without words that prose may use in their usual meaning."""
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
"""Participles and words like pronouns: allowed within a name and in prose, but not as a name."""
PARTICIPLE_MODULE = re.compile(
    r"(test_)?[a-z]+ed|(test_)?(again|brought|given|kept|known|made|said|seen|shown|told)"
)
"""Names of modules that say neither what a module contains nor what it does."""
MODULE_NAMES_KEPT = frozenset({"src/sparkfleet/probe/stored.py"})
"""Modules that must not be renamed without a reason of their own."""

ANSWER = frozenset({"answer", "answers", "answered", "answering"})
"""What a model, or a person, says. A program and a protocol have responses, replies and output."""
ANSWER_OF_A_MODEL = (
    "src/sparkfleet/cli/ask.py",
    "src/sparkfleet/contract/ask.py",
    "src/sparkfleet/contract/generation.py",
    "src/sparkfleet/contract/rollout.py",
    "src/sparkfleet/engines/host.py",
    "src/sparkfleet/engines/openai_api.py",
    "src/sparkfleet/engines/vllm/data/ask_parser.py",  # runs in images, apart from ours
    "src/sparkfleet/fleet/operations/service.py",
    "src/sparkfleet/onhost/gate/gate.py",
    "src/sparkfleet_lab/standins/",
    "tests/lab/gguf_steps.py",
    "tests/lab/test_bad_engines.py",
    "tests/unit/cli/test_ask.py",
    "tests/unit/onhost/service/test_ask.py",
    "tests/unit/onhost/state/test_history.py",
    "tests/unit/onhost/world.py",
    "tests/unit/standins/test_engine_serves.py",
)
ANSWER_OF_A_PERSON = (
    "tests/lab/test_apply.py",
    "tests/unit/test_fleet_directory.py",
    "tests/unit/test_upgrade.py",
)
OBSERVED_TYPE = re.compile(r"\w*Seen|Ran")
"""Names of types that are participles: ``ObservedPath``, ``CommandResult`` are nouns."""


def parts(identifier: str) -> set[str]:
    """Return the parts of an identifier: ``SwapRequest`` and ``swap_request`` have swap and request."""
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
            case (
                ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name))
            ):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)):
                yield name


def identifiers_ruled_out(paths: Iterable[Path]) -> list[str]:
    """Return ``path: name`` for each identifier in these modules that has such a word."""
    return sorted(
        {
            f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}: {name}"
            for path in paths
            for name in identifiers(path)
            if parts(name) & BANNED or name.strip("_").lower() in BARE
        }
    )


FROZEN = frozenset({"engines/vllm/data/ray_rank.py", "onhost/artifacts/image/install_packages.py"})
"""Programs that must not change by a byte: commands of running ranks and names of built images derive from
them."""


def directories() -> list[Path]:
    """Return the directories that are checked one by one; the checks are recursive below ``PARTS``."""
    product = [*SOURCE.glob("*"), *(SOURCE / "onhost").glob("*")]
    tests = (ROOT / "tests" / name for name in ("lab", "real_llamacpp", "real_vllm"))
    others = (ROOT / "src" / "sparkfleet_lab", ROOT / "tools", *tests, *(ROOT / "tests" / "unit").glob("*"))
    roots = {SOURCE, SOURCE / "onhost", ROOT / "tests", ROOT / "tests" / "unit"}
    found = {path for path in (*product, *others) if path.is_dir() and path.name != "__pycache__"}
    return sorted(found | roots)


SHALLOW = frozenset({SOURCE, SOURCE / "onhost", ROOT / "tests", ROOT / "tests" / "unit"})
"""Directories whose subdirectories are checked separately."""
EVERY_DIRECTORY = pytest.mark.parametrize(
    "directory", directories(), ids=lambda path: path.relative_to(ROOT).as_posix()
)


def modules(directory: Path) -> list[Path]:
    found = directory.glob("*.py") if directory in SHALLOW else directory.rglob("*.py")
    frozen = {SOURCE / name for name in FROZEN} | {Path(__file__)}
    return sorted(path for path in found if path not in frozen)


@EVERY_DIRECTORY
def test_no_identifier_has_a_word_that_is_ruled_out(directory: Path) -> None:
    found = identifiers_ruled_out(modules(directory))
    assert not found, "\n".join(found)


@EVERY_DIRECTORY
def test_only_models_and_people_answer(directory: Path) -> None:
    names = [
        (path.relative_to(ROOT).as_posix(), name) for path in modules(directory) for name in identifiers(path)
    ]
    found = {
        f"{path}: {name}"
        for path, name in names
        if parts(name) & ANSWER
        and not name.startswith("test_")
        and not path.startswith((*ANSWER_OF_A_MODEL, *ANSWER_OF_A_PERSON))
    }
    assert not found, "\n".join(sorted(found))


@EVERY_DIRECTORY
def test_no_type_is_named_by_a_participle(directory: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(directory)
        for name in identifiers(path)
        if OBSERVED_TYPE.fullmatch(name)
    ]
    assert not found, "\n".join(found)


@EVERY_DIRECTORY
def test_no_module_is_named_by_a_bare_participle(directory: Path) -> None:
    paths = [path for path in modules(directory) if PARTICIPLE_MODULE.fullmatch(path.stem)]
    found = {path.relative_to(ROOT).as_posix() for path in paths} - MODULE_NAMES_KEPT
    assert not found, "\n".join(sorted(found))


def test_an_identifier_that_is_ruled_out_is_reported_with_its_module(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("def test_it_is_told(given: int, plain: int) -> None:\n    pass\n")
    assert identifiers_ruled_out([tmp_path / "test_x.py"]) == [
        f"{tmp_path}/test_x.py: given",
        f"{tmp_path}/test_x.py: test_it_is_told",
    ]


def test_every_module_is_checked_once() -> None:
    checked = [path for directory in directories() for path in modules(directory)]
    everything = {path for name in ("src", "tests", "tools") for path in (ROOT / name).rglob("*.py")}
    unchecked = everything - set(checked) - {SOURCE / name for name in FROZEN} - {Path(__file__)}
    assert len(checked) == len(set(checked))
    assert not {path for path in unchecked if "fixtures" not in path.parts and "golden" not in path.parts}


def test_the_check_knows_a_word_inside_of_a_name() -> None:
    assert parts("SwapRequest") & {"swap"}
    assert parts("engine_words_seen") & {"words"}
    assert not parts("linux_swap") & {"swap"}


PAGES = sorted((ROOT / "docs").rglob("*.md"))
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


FRONT_PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]


@pytest.mark.parametrize("page", [*FRONT_PAGES, *PAGES], ids=lambda page: page.name)
def test_no_page_has_a_word_that_is_ruled_out(page: Path) -> None:
    prose, _, _ = page.read_text().partition("## Words that are not used")
    text = " ".join(CODE.sub("", prose).lower().split())
    text = re.sub(r"\]\([^)]*\)", "]", text)
    assert not [word for word in (*PROSE, *PHRASES) if re.search(rf"\b{word}\b", text)]


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


PHRASES = (
    "again and again",
    "anew",
    "are told",
    "as it comes",
    "books",
    "brings? (it|them|all|both) back",
    "comes? back by itself",
    "diary",
    "from the box",
    "goes on by itself",
    "in words",
    "is of no use",
    "is told",
    "mend(s|ed|ing)?",
    "out of its box",
    "put(s)? (it|them|all) back",
    "shall be",
    "so many",
    "taken? (it|them) away",
    "takes away",
    "the very",
    "the words of",
    "what serves",
    "what served",
)
"""Expressions that are no plain technical English, for messages, docstrings and comments."""
PROSE_WORDS = sorted(BANNED & {"diary", "party", "said", "spoken", "told", "trial", "wanted"})
"""Words that docstrings and comments avoid, too."""
TEST_NAME_PHRASES = (
    "all the same",
    "brought back",
    "go(es)? back",
    "nobody",
    "puts? back",
    "serves on",
    "somebody",
    "taken? back",
    "takes back",
    "trouble",
    "what served",
    "what serves",
    "whoever",
)
"""Expressions that names of tests avoid, too."""
COMMANDS_OF_OLDER_VERSIONS = frozenset({" guard "})
"""Literals that are no prose: part of a command line that older versions wrote."""
QUOTED = (
    "can't find the page you are looking for",
    "Looking in links:",
    "no such thing",
    "http://elsewhere",
)
"""Parts of literals that imitate other programs, and of addresses."""


def docstrings(tree: ast.Module) -> list[ast.Constant]:
    """Return the docstrings of a module, of its definitions and of its attributes."""
    bodies = [
        node.body
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [
        statement.value
        for body in bodies
        for statement in body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string literal with several words, parts of f-strings included.

    Messages are built in variables, tables and nested calls before they become a diagnostic or output. So
    every literal with a space counts, wherever it is; only docstrings do not.
    """
    tree = ast.parse(source)
    skipped = set(map(id, docstrings(tree)))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in skipped
            and " " in node.value
            and not any(quoted in node.value for quoted in (*COMMANDS_OF_OLDER_VERSIONS, *QUOTED))
        ):
            yield node.lineno, node.value


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, and of each block of comments."""
    for node in docstrings(ast.parse(source)):
        yield node.lineno, str(node.value)
    block: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != block[-1][0] + 1:
                yield block[0][0], " ".join(text for _, text in block)
                block = []
            block.append((token.start[0], token.string.lstrip("# ")))
    if block:
        yield block[0][0], " ".join(text for _, text in block)


def occurrences(found: Iterator[tuple[int, str]], expressions: Iterable[str]) -> list[str]:
    """Return ``line: expression`` for each expression in these texts."""
    spaced = [(line, " ".join(text.lower().split())) for line, text in found]
    return [
        f"{line}: {expression}"
        for line, text in spaced
        for expression in expressions
        if re.search(rf"\b{expression}\b", text)
    ]


@EVERY_DIRECTORY
def test_no_message_has_a_word_that_is_ruled_out(directory: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{one}"
        for path in modules(directory)
        for one in occurrences(texts(path.read_text(encoding="utf-8")), {*PROSE, *PHRASES})
    ]
    assert not found, "\n".join(found)


@EVERY_DIRECTORY
def test_no_docstring_or_comment_has_a_phrase_that_is_ruled_out(directory: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{one}"
        for path in modules(directory)
        for one in occurrences(prose(path.read_text(encoding="utf-8")), {*PROSE_WORDS, *PHRASES})
    ]
    assert not found, "\n".join(found)


@EVERY_DIRECTORY
def test_no_test_has_a_name_with_a_phrase_that_is_ruled_out(directory: Path) -> None:
    names = (
        name.removeprefix("test_").replace("_", " ")
        for path in modules(directory)
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
    found = [
        f"{name}: {phrase}"
        for name in names
        for phrase in (*PROSE_WORDS, *PHRASES, *TEST_NAME_PHRASES)
        if re.search(rf"\b{phrase}\b", name)
    ]
    assert not found, "\n".join(found)


SAMPLE = '''
"""A module that is
told something."""
# The books are
# kept anew.
def f(x):
    """A docstring is no message: elsewhere."""
    hint = f"run {x} and the job is told"
    raise SystemExit(hint + {"key": "elsewhere it works"}["key"], "elsewhere")
'''


def test_messages_are_found_wherever_they_are_built() -> None:
    assert sorted(occurrences(texts(SAMPLE), {*PROSE, *PHRASES})) == [
        "8: is told",
        "8: told",
        "9: elsewhere",
    ]


def test_phrases_are_found_across_lines() -> None:
    assert sorted(occurrences(prose(SAMPLE), PHRASES)) == ["2: is told", "4: anew", "4: books"]
