"""The argument parser of ``vllm serve``, built from the release's own list of flags.

``FlexibleArgumentParser`` and ``make_arg_parser`` are what the real package exports by these names: whoever
asks an image's parser whether it accepts some words asks this one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from . import configs, release, values

COMMANDS = ("chat", "complete", "serve", "launch", "bench", "collect-env", "run-batch")


class FlexibleArgumentParser(argparse.ArgumentParser):
    """argparse with ``_`` and ``-`` the same in names, and ``--flag.key value`` written into JSON."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Return what the words mean; unknown or wrong ones end the program with 2."""
        words = list(sys.argv[1:] if args is None else args)
        if words[:1] == ["serve"]:
            words = _model_to_front(words)
        spelled = [part for word in words for part in _spelled(word)]
        said: argparse.Namespace = super().parse_args(_merge_dotted(spelled), namespace)
        return said


class LoRAParserAction(argparse.Action):
    """Takes adapters, each as ``name=path`` or as JSON."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        """Keep the adapters."""
        made = []
        for word in values or ():
            if word is None or ("=" in word and "," not in word):
                made.append(word)
                continue
            try:
                adapter = json.loads(word)
            except ValueError:
                parser.error(f"Invalid JSON format for {option}: {word}")
            if not isinstance(adapter, dict) or not {"name", "path"} <= adapter.keys():
                parser.error(f"Invalid fields for {option}: {word}")
            made.append(adapter)
        setattr(namespace, self.dest, made)


def make_arg_parser(parser: FlexibleArgumentParser) -> FlexibleArgumentParser:
    """Add everything that ``vllm serve`` of this release takes."""
    parser.add_argument("model_tag", type=str, nargs="?", help="The model tag to serve.")
    for name, entry in release.load().flags.items():
        if entry["kind"] != "help":
            _add(parser, name, entry)
    return parser


def validate_parsed_serve_args(said: argparse.Namespace) -> None:
    """Refuse flags that make no sense together, as the real command does before anything is logged."""
    if said.subparser == "serve" and said.enable_auto_tool_choice and not said.tool_call_parser:
        raise TypeError("Error: --enable-auto-tool-choice requires --tool-call-parser")


def build() -> tuple[FlexibleArgumentParser, FlexibleArgumentParser]:
    """Return the parsers of ``vllm`` and of ``vllm serve``."""
    main = FlexibleArgumentParser(prog="vllm", description="vLLM CLI")
    main.add_argument("-v", "--version", action="version", version=release.load().version)
    commands = main.add_subparsers(required=False, dest="subparser")
    serve = None
    for command in COMMANDS:
        if command == "serve":
            usage = "vllm serve [model_tag] [options]"
            serve = make_arg_parser(commands.add_parser("serve", usage=usage, help="Start the server."))
        else:
            commands.add_parser(command, add_help=False)
    if serve is None:
        raise AssertionError(COMMANDS)
    return main, serve


def _add(parser: argparse.ArgumentParser, name: str, entry: dict[str, Any]) -> None:
    options = [name, *entry.get("aliases", ())]
    said: dict[str, Any] = {"dest": name.lstrip("-").replace("-", "_"), "default": entry.get("default")}
    if isinstance(said["default"], dict) and "__dataclass__" in said["default"]:
        cls = configs.config(said["default"]["__dataclass__"])
        said["default"] = object.__new__(cls) if cls else None
    kind = entry["kind"]
    if kind == "bool_optional":
        parser.add_argument(*options, action=argparse.BooleanOptionalAction, **said)
        return
    if kind in ("store_true", "store_false"):
        parser.add_argument(*options, action=kind, **said)
        return
    type_name = entry.get("type", "")
    choices = entry.get("choices")
    if type_name.startswith("enum:"):
        choices = type_name.removeprefix("enum:").split(",")
    said |= {"type": values.reader(type_name, choices), "nargs": entry.get("nargs"), "choices": choices}
    if "hint" in entry:
        said["metavar"] = entry["hint"]
    if kind == "LoRAParserAction":
        parser.add_argument(*options, action=LoRAParserAction, **said)
    else:
        parser.add_argument(*options, action="append" if kind == "append" else "store", **said)


def _model_to_front(words: list[str]) -> list[str]:
    """Move ``--model X`` to where ``vllm serve`` wants it."""
    for index, word in enumerate(words):
        if word == "--model" and index + 1 < len(words):
            return ["serve", words[index + 1], *words[1:index], *words[index + 2 :]]
        if word.startswith("--model="):
            return ["serve", word.removeprefix("--model="), *words[1:index], *words[index + 1 :]]
    return words


def _spelled(word: str) -> list[str]:
    """Return a word with dashes in its flag's name: ``--max_model_len=8`` -> ``--max-model-len=8``."""
    if re.fullmatch(r"-O=?\w+", word):
        return ["--optimization-level", word[2:].removeprefix("=")]
    if not word.startswith("--"):
        return [word]
    if word.startswith("--help="):
        return ["--help"]
    name, equals, value = word.partition("=")
    flag, dot, keys = name.partition(".")
    return ["--" + flag[2:].replace("_", "-") + dot + keys + equals + value]


def _merge_dotted(words: list[str]) -> list[str]:
    """Gather ``--flag.key value`` into one ``--flag '{"key": value}'`` after all other words."""
    kept: list[str] = []
    gathered: dict[str, dict[str, Any]] = {}
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        name, equals, value = word.partition("=")
        if not re.match(r"--?[a-zA-Z][\w-]*\.", name):
            kept.append(word)
            continue
        if not equals and index < len(words):
            value = words[index]
            index += 1
        flag, *keys = name.split(".")
        place = gathered.setdefault(flag, {})
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        _put(place, keys[-1], value)
    for flag, said in gathered.items():
        kept += [flag, json.dumps(said)]
    return kept


def _put(place: dict[str, Any], key: str, text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if key.endswith("+"):
        more = value if isinstance(value, list) else text.split(",") if isinstance(value, str) else [value]
        place.setdefault(key[:-1], []).extend(more)
    else:
        place[key] = value
