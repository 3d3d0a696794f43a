"""The argument parser of ``vllm serve``, built from the release's own list of flags.

``FlexibleArgumentParser`` and ``make_arg_parser`` are what the real package exports by these names: a
check whether an image's parser accepts some arguments uses this one.
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
    """argparse that accepts ``_`` for ``-`` in names, and merges ``--flag.key value`` into JSON."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Return the parsed arguments; unknown or wrong ones end the program with 2."""
        argv = list(sys.argv[1:] if args is None else args)
        if argv[:1] == ["serve"]:
            argv = _model_to_front(argv)
        spelled = [part for arg in argv for part in _normalize(arg)]
        parsed: argparse.Namespace = super().parse_args(_merge_dotted(spelled), namespace)
        return parsed


class LoRAParserAction(argparse.Action):
    """Reads adapters, each as ``name=path`` or as JSON."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        """Store the adapters."""
        made = []
        for arg in values or ():
            if arg is None or ("=" in arg and "," not in arg):
                made.append(arg)
                continue
            try:
                adapter = json.loads(arg)
            except ValueError:
                parser.error(f"Invalid JSON format for {option}: {arg}")
            if not isinstance(adapter, dict) or not {"name", "path"} <= adapter.keys():
                parser.error(f"Invalid fields for {option}: {arg}")
            made.append(adapter)
        setattr(namespace, self.dest, made)


def make_arg_parser(parser: FlexibleArgumentParser) -> FlexibleArgumentParser:
    """Add all flags of ``vllm serve`` of this release."""
    parser.add_argument("model_tag", type=str, nargs="?", help="The model tag to serve.")
    for name, entry in release.load().flags.items():
        if entry["kind"] != "help":
            _add(parser, name, entry)
    return parser


def validate_parsed_serve_args(args: argparse.Namespace) -> None:
    """Refuse contradictory flags, as the real command does before it logs anything."""
    if args.subparser == "serve" and args.enable_auto_tool_choice and not args.tool_call_parser:
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
    keywords: dict[str, Any] = {"dest": name.lstrip("-").replace("-", "_"), "default": entry.get("default")}
    if isinstance(keywords["default"], dict) and "__dataclass__" in keywords["default"]:
        cls = configs.config(keywords["default"]["__dataclass__"])
        keywords["default"] = object.__new__(cls) if cls else None
    kind = entry["kind"]
    if kind == "bool_optional":
        parser.add_argument(*options, action=argparse.BooleanOptionalAction, **keywords)
        return
    if kind in ("store_true", "store_false"):
        parser.add_argument(*options, action=kind, **keywords)
        return
    type_name = entry.get("type", "")
    choices = entry.get("choices")
    if type_name.startswith("enum:"):
        choices = type_name.removeprefix("enum:").split(",")
    keywords |= {"type": values.reader(type_name, choices), "nargs": entry.get("nargs"), "choices": choices}
    if "hint" in entry:
        keywords["metavar"] = entry["hint"]
    if kind == "LoRAParserAction":
        parser.add_argument(*options, action=LoRAParserAction, **keywords)
    else:
        parser.add_argument(*options, action="append" if kind == "append" else "store", **keywords)


def _model_to_front(argv: list[str]) -> list[str]:
    """Move ``--model X`` to the position of the model in ``vllm serve``."""
    for index, arg in enumerate(argv):
        if arg == "--model" and index + 1 < len(argv):
            return ["serve", argv[index + 1], *argv[1:index], *argv[index + 2 :]]
        if arg.startswith("--model="):
            return ["serve", arg.removeprefix("--model="), *argv[1:index], *argv[index + 1 :]]
    return argv


def _normalize(arg: str) -> list[str]:
    """Return an argument with dashes in its flag's name: ``--max_model_len=8`` -> ``--max-model-len=8``."""
    if re.fullmatch(r"-O=?\w+", arg):
        return ["--optimization-level", arg[2:].removeprefix("=")]
    if not arg.startswith("--"):
        return [arg]
    if arg.startswith("--help="):
        return ["--help"]
    name, equals, value = arg.partition("=")
    flag, dot, keys = name.partition(".")
    return ["--" + flag[2:].replace("_", "-") + dot + keys + equals + value]


def _merge_dotted(argv: list[str]) -> list[str]:
    """Merge each ``--flag.key value`` into one ``--flag '{"key": value}'`` after all other arguments."""
    args: list[str] = []
    gathered: dict[str, dict[str, Any]] = {}
    index = 0
    while index < len(argv):
        arg = argv[index]
        index += 1
        name, equals, value = arg.partition("=")
        if not re.match(r"--?[a-zA-Z][\w-]*\.", name):
            args.append(arg)
            continue
        if not equals and index < len(argv):
            value = argv[index]
            index += 1
        flag, *keys = name.split(".")
        target = gathered.setdefault(flag, {})
        for key in keys[:-1]:
            target = target.setdefault(key, {})
        _insert(target, keys[-1], value)
    for flag, entries in gathered.items():
        args += [flag, json.dumps(entries)]
    return args


def _insert(target: dict[str, Any], key: str, text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if key.endswith("+"):
        more = value if isinstance(value, list) else text.split(",") if isinstance(value, str) else [value]
        target.setdefault(key[:-1], []).extend(more)
    else:
        target[key] = value
