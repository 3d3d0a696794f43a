"""A real argparse parser made of a schema, with the habits of vLLM's own parser written out once more.

It is the yardstick for the checks: argparse itself decides which words belong together and which are refused.
"""

import argparse
import json
import re
from typing import Any, NoReturn

from sparkfleet.engines.vllm.schema import Flag, Schema


class RefusedError(Exception):
    pass


class FlexibleParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RefusedError(message)

    level = "--optimization-level"

    def parse_args(self, args: list[str]) -> argparse.Namespace:  # type: ignore[override]
        names = [re.match(r"--served[-_]model[-_]name(=.+|$)", arg) for arg in args]
        matches = [re.match(r"--(model|config)(=.+|$)", arg) for arg in args]
        if args[:1] and args[0].startswith("-") and any(names) and not any(matches):
            raise RefusedError("`model` should be provided as the first positional argument")
        for i, arg in enumerate(args):
            if re.match(r"--model(=.+|$)", arg):
                if arg == "--model" and i + 1 == len(args):
                    raise RefusedError("list index out of range")
                tag = args[i + 1 : i + 2] if arg == "--model" else [arg.removeprefix("--model=")]
                args = [*tag, *args[:i], *args[i + 1 + (arg == "--model") :]]
                break
        return super().parse_args(self._merge(self._spell_out(args)))

    def _spell_out(self, args: list[str]) -> list[str]:
        out: list[str] = []
        for i, arg in enumerate(args):
            if arg.startswith("--"):
                key, equals, value = arg.partition("=")
                key = re.sub(r"(?<=--)[^.]*", lambda m: m[0].replace("_", "-"), key, count=1)
                out.append(f"{key}{equals}{value}")
            elif arg.startswith("-O") and arg != "-O" and (self.level[1] == "-" or arg[2] != "."):
                out += [self.level, arg[3:] if arg[2] == "=" else arg[2:]]
            elif arg == "-O" and i + 1 < len(args) and args[i + 1] in {"0", "1", "2", "3"}:
                out.append(self.level)
            else:
                out.append(arg)
        return out

    @staticmethod
    def _merge(args: list[str]) -> list[str]:
        merged: dict[str, dict[str, Any]] = {}
        gone: set[int] = set()
        for i, arg in enumerate(args):
            if i in gone or not (arg.startswith("-") and "." in arg):
                continue
            key, equals, text = arg.partition("=")
            if "." not in key or re.fullmatch(r"-\d*\.\d+", key):
                continue
            if not equals:
                if i + 1 >= len(args):
                    raise RefusedError("list index out of range")
                text = args[i + 1]
                gone.add(i + 1)
            gone.add(i)
            if key.endswith("+"):
                key, text = key[:-1], json.dumps(text.split(","))
            try:
                value = json.loads(text)
            except ValueError:
                try:
                    value = human_int(text)
                except (ValueError, argparse.ArgumentTypeError):
                    value = text
            head, *path = key.split(".")
            target = merged.setdefault(head, {})
            for step in path[:-1]:
                if not isinstance(target.get(step), dict):
                    target[step] = {}
                target = target[step]
            update(target, {path[-1]: value})
        remaining = [arg for i, arg in enumerate(args) if i not in gone]
        for head, value in merged.items():
            remaining += [head, json.dumps(value)]
        return remaining


def update(target: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            update(target[key], value)
        elif isinstance(value, list) and isinstance(target.get(key), list):
            target[key] += value
        else:
            target[key] = value


class EnableDisable(argparse.Action):
    def __init__(
        self, option_strings: list[str], dest: str, negatives: tuple[str, ...], **kwargs: Any
    ) -> None:
        self.negatives = negatives
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, option not in self.negatives)


def human_int(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
    if not match:
        return int(text)
    decimal = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    binary = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    if match[2] in decimal:
        return int(float(match[1]) * decimal[match[2]])
    if "." in match[1]:
        raise argparse.ArgumentTypeError("Decimals are not allowed with binary suffixes")
    return int(match[1]) * binary[match[2]]


def converter(flag: Flag) -> Any:
    def convert(text: str) -> Any:
        if flag.name == "--lora-modules" and text and ("=" not in text or "," in text):
            return dict(json.loads(text))
        if flag.optional and text in ("", "None"):
            return None
        match flag.type:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "human_int":
                return human_int(text)
            case "human_int_or_auto":
                return -1 if text.strip().lower() in ("auto", "-1") else human_int(text)
            case "json":
                return json.loads(text)
            case "config":
                value = json.loads(re.sub(r"(?<=[:,\[\s])(\d+(?:\.\d+)?)[kKmMgGtT]\b", r"\1", text))
                if not isinstance(value, dict):
                    raise argparse.ArgumentTypeError("a JSON object is needed")
                return value
            case "json_or_str":
                return json.loads(text) if re.fullmatch(r"(?s)\s*{.*}\s*", text) else text
            case "name":
                return text.lower().replace("-", "_")
            case "bool":
                if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
                    raise ValueError(text)
                return text.lower() in ("true", "1", "yes", "on")
        return text

    return convert


def build(schema: Schema) -> FlexibleParser:
    parser = FlexibleParser(prog="vllm serve", add_help=True)
    parser.add_argument("model_tag", nargs="?")
    if "-O" in schema.options:
        parser.level = "-O.level"
    for flag in schema.flags.values():
        names = [flag.name, *flag.aliases]
        dest = flag.name.lstrip("-").replace("-", "_")
        if flag.kind == "help":
            continue
        if flag.kind == "switch":
            parser.add_argument(*names, dest=dest, action="store_true")
        elif flag.kind == "bool":
            parser.add_argument(
                *names,
                *flag.negatives,
                dest=dest,
                action=EnableDisable,
                negatives=flag.negatives,
                default=None,
            )
        else:
            parser.add_argument(
                *names,
                dest=dest,
                action="append" if flag.kind == "append" else "store",
                type=converter(flag),
                nargs=flag.nargs,
                choices=flag.choices,
            )
    return parser
