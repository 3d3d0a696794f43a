r"""Add the flags of a llama.cpp release: ``python tools/add_llamacpp_flags.py SOURCE --commit COMMIT``.

SOURCE is a source tree of llama.cpp (a clone, or ``vendor/llama.cpp`` of the source distribution of
llama-cpp-python). The flags are read from ``common/arg.cpp``, where every program of llama.cpp declares them;
those of ``llama-server`` are kept. ``--help-text FILE`` (the output of ``llama-server --help``, built from
that tree) adds the defaults, which the source computes at run time.

A release that is archived already is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).parents[1] / "src/sparkfleet/engines/llamacpp/data/releases.json"
FORMAT = 1
_PROGRAM = "LLAMA_EXAMPLE_SERVER"
_COMMON = "LLAMA_EXAMPLE_COMMON"
_STRING = r'"(?:[^"\\]|\\.)*"'
_HELP_CHARS = 90
_TRISTATE = "[on|off|auto]"
_TWO_STATES = "[on|off]"


def read_flags(source: str) -> dict[str, dict[str, Any]]:
    """Return the flags of ``llama-server`` by their long name, from the text of ``common/arg.cpp``."""
    flags = {}
    source = re.sub(rf"({_STRING})|//[^\n]*", lambda found: found.group(1) or "", source)
    for declaration, settings in _declarations(source):
        programs = _programs(source, settings, "set_examples") or {_COMMON}
        if _PROGRAM in _programs(source, settings, "set_excludes") or not programs & {_PROGRAM, _COMMON}:
            continue
        if "set_preset_only" in settings:
            continue
        name, entry = _flag(declaration, settings)
        if entry.get("type") == "cache_type":
            entry |= {"type": "str", "choices": _cache_types(source)}
        flags[name] = entry
    return dict(sorted(flags.items()))


def read_defaults(help_text: str) -> dict[str, str]:
    """Return option -> default as ``--help`` shows it."""
    defaults: dict[str, str] = {}
    for block in re.split(r"\n(?=-)", help_text):
        head = re.split(r" {2,}|\n", block.strip() + "\n", maxsplit=1)[0]
        options = re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", block.split("\n", 1)[0][:200])
        found = re.search(r"\(?default: *'?([^,;()'\n ]+)'?", block)
        if found and head.startswith("-"):
            for option in options:
                defaults.setdefault(option, found.group(1))
    return defaults


def version(tree: Path) -> str:
    """Return the release of a source tree, from its ``CMakeLists.txt``."""
    text = (tree / "CMakeLists.txt").read_text()
    parts = [re.search(rf"LLAMA_VERSION_{part} (\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
    if not all(parts):
        raise SystemExit(f"{tree}/CMakeLists.txt: no LLAMA_VERSION_MAJOR, MINOR and PATCH; give --release")
    return ".".join(part.group(1) for part in parts if part)


def main() -> int:
    """Write the archive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="source tree of llama.cpp")
    parser.add_argument("--commit", required=True, help="commit of that tree")
    parser.add_argument("--release", help="name of the release (default: from CMakeLists.txt)")
    parser.add_argument("--help-text", type=Path, help="output of llama-server --help, for the defaults")
    options = parser.parse_args()
    flags = read_flags((options.source / "common/arg.cpp").read_text())
    if options.help_text:
        defaults = read_defaults(options.help_text.read_text())
        for name, entry in flags.items():
            if name in defaults and _is_value(entry, defaults[name]):
                entry["default"] = defaults[name]
    release = options.release or version(options.source)
    archive: dict[str, Any] = (
        json.loads(ARCHIVE.read_text()) if ARCHIVE.exists() else {"format": FORMAT, "releases": {}}
    )
    archive["releases"][release] = {"commit": options.commit, "flags": flags}
    lines = json.dumps(archive, sort_keys=True, indent=1, ensure_ascii=False)
    ARCHIVE.write_text(re.sub(r"\n {5,}|\n {4}(?=\})", "", lines) + "\n")
    print(f"{ARCHIVE.name}: llama.cpp {release}, {len(flags)} flags")
    return 0


def _is_value(entry: dict[str, Any], text: str) -> bool:
    """Return whether a default is a value of the flag, not part of a sentence."""
    kind = entry.get("type", entry["kind"])
    if entry["kind"] == "bool":
        return text in ("enabled", "disabled", "true", "false")
    if text in entry.get("choices", ()):
        return True
    if kind in ("tristate", "on_off"):
        return text in ("on", "off", "auto")
    return kind in ("int", "float", "int_or_word") and bool(re.fullmatch(r"-?\d+(\.\d+)?", text))


def _declarations(source: str) -> Iterator[tuple[list[str], str]]:
    """Yield the arguments of each ``common_arg(...)`` and the calls that follow it."""
    for match in re.finditer(r"\badd_opt\(\s*common_arg\(", source):
        inner = _closing(source, match.end() - 1)
        outer = _closing(source, source.index("(", match.start()))
        yield _arguments(source[match.end() : inner]), source[inner + 1 : outer]


def _closing(text: str, opening: int) -> int:
    """Return the index of the bracket that closes the one at ``opening``; outside strings."""
    depth = 0
    token = re.compile(rf"{_STRING}|'(?:[^'\\]|\\.)'|[(){{}}\[\]]")
    for found in token.finditer(text, opening):
        if found.group() in "([{":
            depth += 1
        elif found.group() in ")]}":
            depth -= 1
            if depth == 0:
                return found.start()
    raise ValueError(f"unbalanced brackets after {text[opening : opening + 80]!r}")


def _arguments(text: str) -> list[str]:
    """Split the arguments of a call at its own commas."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(rf"{_STRING}|'(?:[^'\\]|\\.)'|[(){{}}\[\],]", text):
        mark = found.group()
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        elif mark == "," and depth == 0:
            parts.append(text[start : found.start()].strip())
            start = found.end()
    return [*parts, text[start:].strip()]


def _programs(source: str, settings: str, call: str) -> set[str]:
    found = re.search(rf"\.{call}\((?:\{{([^}}]*)\}}|(\w+))\)", settings)
    if not found:
        return set()
    names = found.group(1)
    if names is None:
        named = re.search(rf"{found.group(2)} = \{{([^}}]*)\}}", source)
        names = named.group(1) if named else ""
    return set(re.findall(r"LLAMA_EXAMPLE_\w+", names))


def _cache_types(source: str) -> list[str]:
    found = re.search(r"kv_cache_types = \{([^}]*)\}", source)
    return [name.lower() for name in re.findall(r"GGML_TYPE_(\w+)", found.group(1))] if found else []


def _flag(declaration: list[str], settings: str) -> tuple[str, dict[str, Any]]:
    options = _strings(declaration[0])
    rest = declaration[1:]
    negatives = _strings(rest.pop(0)) if rest[0].startswith("{") else []
    hints = []
    while len(rest) > 2 and re.fullmatch(_STRING, rest[0]):  # noqa: PLR2004 - help and handler are left
        hints.append(_strings(rest.pop(0))[0])
    help_text = " ".join("".join(_strings(rest[0])).split())
    handler = rest[-1]
    name = next((option for option in options if option.startswith("--")), options[0])
    entry: dict[str, Any] = {"kind": _kind(handler, name), "help": _shortened(help_text)}
    aliases = [option for option in options if option != name]
    environment = re.search(rf"\.set_env\(({_STRING})\)", settings)
    optional = {
        "aliases": aliases,
        "negatives": negatives,
        "hint": " ".join(hints),
        "env": _strings(environment.group(1))[0] if environment else "",
        "deprecated": "deprecated" in help_text.lower(),
        "removed": help_text.partition("argument has been removed. ")[2],
    }
    entry |= {key: value for key, value in optional.items() if value}
    if entry["kind"] == "value":
        entry |= _value_type(hints, handler)
    return name, entry


def _kind(handler: str, name: str) -> str:
    """Return switch, bool (has a negative), value, two_values, or help (prints and exits)."""
    if "exit(0)" in handler or name in ("--help", "--completion-bash"):
        return "help"
    signature = re.search(r"\[[^\]]*\]\s*\(([^)]*)\)", handler)
    types = [part.strip() for part in signature.group(1).split(",")][1:] if signature else []
    if not types:
        return "switch"
    if types[0].startswith("bool"):
        return "bool"
    return "two_values" if len(types) > 1 else "value"


def _value_type(hints: list[str], handler: str) -> dict[str, Any]:
    hint = hints[0] if hints else ""
    if hint in (_TRISTATE, _TWO_STATES):
        return {"type": "tristate" if hint == _TRISTATE else "on_off"}
    signature = re.search(r"\[[^\]]*\]\s*\(([^)]*)\)", handler)
    if signature and re.search(r",\s*int\b", signature.group(1)):
        return {"type": "int"}
    compared = re.findall(rf"value == ({_STRING})", handler)
    if hint.startswith("{") or (len(compared) > 1 and "throw" in handler and "sto" not in handler):
        chosen = re.split(r", *", hint.strip("{}")) if hint.startswith("{") else []
        values = [value for text in compared for value in _strings(text) if value]
        return {"type": "str", "choices": list(dict.fromkeys([*chosen, *values]))}
    if "kv_cache_type_from_str" in handler:
        return {"type": "cache_type"}
    if compared and "std::stoi(value)" in handler:
        return {"type": "int_or_word", "choices": [_strings(value)[0] for value in compared]}
    if "string_split" in handler or "parse_csv" in handler or "std::regex" in handler:
        return {"type": "str"}
    if re.search(r"std::stof\(value\)", handler):
        return {"type": "float"}
    if re.search(r"std::sto(i|u?l{1,2})\(value\)", handler):
        return {"type": "int"}
    return {"type": "str"}


def _strings(text: str) -> list[str]:
    return [
        re.sub(r"\\(.)", lambda found: {"n": "\n", "t": " "}.get(found.group(1), found.group(1)), part[1:-1])
        for part in re.findall(_STRING, text)
    ]


def _shortened(text: str) -> str:
    plain = re.sub(r" *\(?default:.*| *\[\(more info\)\].*|\(env:.*", "", text)
    plain = re.split(r"(?<=\w{4})[.;] |,? one of:| allowed values:", plain)[0]
    return plain if len(plain) <= _HELP_CHARS else plain[:_HELP_CHARS].rsplit(" ", 1)[0] + " ..."


if __name__ == "__main__":
    sys.exit(main())
