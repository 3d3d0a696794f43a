"""Static checks of a command line or an environment, before an engine starts.

The ``location`` of a diagnostic is the canonical flag (or the variable), with the part of its value after a
blank; "" is the command line as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.version import Version

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.engines.vllm import history, renamed_flags, values
from sparkfleet.engines.vllm.arg_parser import CommandLine, Option, group
from sparkfleet.engines.vllm.check_json import check_config
from sparkfleet.engines.vllm.phrases import either, listing, near
from sparkfleet.engines.vllm.schema import Flag, Schema, load, versions

REGISTRY_OF: Mapping[str, tuple[str, str]] = {
    "--tool-call-parser": ("tool_parsers", "--tool-parser-plugin"),
    "--reasoning-parser": ("reasoning_parsers", "--reasoning-parser-plugin"),
    "--quantization": ("quantization", ""),
    "--load-format": ("load_format", ""),
    "--attention-backend": ("attention_backends", ""),
}
"""Flags whose values the parser accepts and the engine rejects later: their registry, and the flag of
plugins that extend it."""


_OTHER_HARDWARE = re.compile(r"XPU_|ROCM_|CPU_|TPU_|HPU_|AMX_")
"""Names of backends for other hardware than a Spark: never suggested."""


def check_flags(args: Sequence[str], schema: Schema, exact: bool = True) -> tuple[Diagnostic, ...]:
    """Return what is wrong with the arguments of ``vllm serve``.

    With ``exact`` False the schema is that of the nearest bundled release. Then the next bundled one is
    checked too. What only one of them rejects is a warning.
    """
    diagnostics = tuple(_check(group(args, schema), schema))
    if exact:
        return diagnostics
    after = _next_release(schema.version)
    if after is None:
        why = f"vLLM {schema.version} is the newest release known here"
        return tuple(_unsure(finding, why) for finding in diagnostics)
    later = tuple(_check(group(args, after), after))
    merged = [
        finding
        if _key(finding) in map(_key, later)
        else _unsure(finding, f"vLLM {after.version} takes it; this release is between the two")
        for finding in diagnostics
    ]
    merged += [
        _unsure(finding, f"vLLM {schema.version} took it; this release is between the two")
        for finding in later
        if _key(finding) not in map(_key, diagnostics)
    ]
    return tuple(merged)


def check_env(env: Iterable[str], schema: Schema, *, exact: bool = True) -> tuple[Diagnostic, ...]:
    """Return the ``VLLM_`` variables that this vLLM ignores silently."""
    known = schema.registries.get("envs", ())
    after = None if exact else _next_release(schema.version)
    found = []
    for name in env:
        if not known or not name.startswith("VLLM_") or name in known:
            continue
        finding = _unknown_env(name, schema)
        if after is not None and after.has("envs", name):
            finding = _unsure(finding, f"vLLM {after.version} reads it; this release is between the two")
        found.append(finding)
    return tuple(found)


def _unknown_env(name: str, schema: Schema) -> Diagnostic:
    spans = history.of_name("envs", name)
    text = f"vLLM {schema.version} does not read {name}: it has no effect ({history.text(spans)})"
    hint = either(renamed_flags.of_env(name), near(name, schema.registries["envs"], 0.85), "remove it")
    return Diagnostic(name, text, hint=hint, severity=Severity.WARNING, code="unknown-env")


def _next_release(version: str) -> Schema | None:
    known = versions()
    if version not in known or version == known[-1]:
        return None
    return load(known[known.index(version) + 1])


def _key(finding: Diagnostic) -> tuple[str, str]:
    return finding.code, finding.location


def _unsure(finding: Diagnostic, why: str) -> Diagnostic:
    severity = Severity.WARNING if finding.severity is Severity.ERROR else finding.severity
    return dataclasses.replace(finding, severity=severity, message=f"{finding.message} ({why})")


def _check(args: CommandLine, schema: Schema) -> list[Diagnostic]:
    diagnostics = list(_positionals(args, schema))
    options: dict[str, Option] = {}
    for option in args.options:
        if option.flag is None:
            diagnostics.append(_unknown(option, schema))
            continue
        diagnostics += [*_spelling(option, schema), *_value(option, option.flag, schema)]
        before = options.get(option.name)
        if before is not None and option.flag.kind != "append" and before.args != option.args:
            text = f"{option.name} is set twice; the last one applies"
            diagnostics.append(
                Diagnostic(option.name, text, hint="keep one", severity=Severity.WARNING, code="duplicate")
            )
        options[option.name] = option
    diagnostics += _combinations(options, args)
    return [finding for finding in diagnostics if not _plugin_may_bring_it(finding, options)]


def _plugin_may_bring_it(finding: Diagnostic, options: Mapping[str, Option]) -> bool:
    return finding.code == "not-registered" and REGISTRY_OF[finding.location.partition(" ")[0]][1] in options


def _positionals(args: CommandLine, schema: Schema) -> Iterator[Diagnostic]:
    first, *strays = args.positionals or ("",)
    if first in ("vllm", "serve") and strays:
        text = f"the command repeats `{first}`: sparkfleet adds `vllm serve` where the image needs it"
        yield Diagnostic("", text, hint="begin with the model", code="serve-repeated")
    elif strays:
        text = f"arguments that belong to no flag: {' '.join(strays)}"
        glued = any(word.startswith("--") for word in strays)
        hint = (
            "write a flag and its value as two arguments"
            if glued
            else "remove them, or join what is one value"
        )
        yield Diagnostic("", text, hint=hint, code="stray-words")
    if not args.positionals and not any(option.name == "--model" for option in args.options):
        default = schema.flags["--model"].default if "--model" in schema.flags else "its own default"
        yield Diagnostic(
            "",
            f"no model: vLLM would serve {default}",
            hint="name the model",
            severity=Severity.WARNING,
            code="no-model",
        )


def _unknown(option: Option, schema: Schema) -> Diagnostic:
    if option.candidates:
        text = f"{option.written} could be {listing(option.candidates, 5)}"
        return Diagnostic(option.name, text, hint="write the flag in full", code="ambiguous")
    spans = history.of_flag(option.name)
    text = f"vLLM {schema.version} has no flag {option.written} ({history.text(spans)})"
    hint = either(
        renamed_flags.of_flag(option.name),
        _newer_image(spans, schema) if spans else near(option.name, schema.long_options, 0.75),
        "remove it",
    )
    return Diagnostic(option.name, text, hint=hint, code="unknown-flag")


def _newer_image(spans: tuple[history.Span, ...], schema: Schema) -> str:
    """Return the hint to use a later release that has it, if there is one."""
    later = [span.first for span in spans if Version(span.first) > Version(schema.version)]
    return f"use an image with vLLM {later[0]} or later, or remove it" if later else ""


def _spelling(option: Option, schema: Schema) -> Iterator[Diagnostic]:
    if option.abbreviates:
        text = f"{option.written} is short for {option.abbreviates}; a later vLLM may find it ambiguous"
        hint = f"write {option.abbreviates}"
        yield Diagnostic(
            f"{option.name} {option.written}", text, hint=hint, severity=Severity.WARNING, code="abbreviation"
        )
    if option.flag is not None and option.flag.deprecated:
        text = f"vLLM {schema.version} calls {option.name} deprecated"
        yield Diagnostic(
            option.name,
            text,
            hint="see the release's notes for what replaces it",
            severity=Severity.INFO,
            code="deprecated",
        )


def _value(option: Option, flag: Flag, schema: Schema) -> Iterator[Diagnostic]:
    if not flag.takes_value:
        if option.inline:
            off = f"; {flag.negatives[-1]} turns it off" if flag.negatives else ""
            text = f"{flag.name} takes no value{off}"
            yield Diagnostic(flag.name, text, hint=f"write {flag.name} alone", code="no-value-allowed")
        return
    if not _enough(option, flag):
        text = f"{flag.name} needs {'a value' if flag.nargs in (None, '+') else f'{flag.nargs} values'}"
        yield Diagnostic(flag.name, text, hint="add a value, or remove the flag", code="missing-value")
        return
    for word in option.args:
        yield from _word(flag, word, schema)


def _enough(option: Option, flag: Flag) -> bool:
    if isinstance(flag.nargs, int):
        return len(option.args) == flag.nargs
    return bool(option.args) or flag.nargs in ("?", "*")


def _word(flag: Flag, word: str, schema: Schema) -> Iterator[Diagnostic]:
    if flag.name == "--lora-modules" and not _is_adapter(word):
        text = f"--lora-modules: {word!r} is neither NAME=PATH nor a JSON object"
        yield Diagnostic(f"{flag.name} {word}", text, hint="write name=path", code="bad-json")
        return
    try:
        value = values.one(flag, word)
    except ValueError as error:
        is_json = flag.type in ("json", "config", "json_or_str")
        text = f"{flag.name}: {error}" if is_json else f"{flag.name}: {word!r} is not {_type_text(flag)}"
        hint = "write the flag as a mapping in YAML" if is_json else _number_hint(flag, word)
        yield Diagnostic(f"{flag.name} {word}", text, hint=hint, code="bad-json" if is_json else "bad-type")
        return
    if flag.choices is not None:
        if value not in flag.choices:
            yield _bad_choice(flag, word, schema)
        return
    if flag.json_class and value is not None:
        yield from check_config(flag.name, flag.json_class, value, schema)
    yield from _registered(flag, word, value, schema)
    if flag.known and value is not None and word not in flag.known:
        text = f"{flag.name}: {word!r} is not a value of vLLM {schema.version} itself"
        hint = either(near(word, flag.known), f"one of {listing(flag.known)}, or one of a plugin")
        yield Diagnostic(
            f"{flag.name} {word}", text, hint=hint, severity=Severity.WARNING, code="not-built-in"
        )


def _number_hint(flag: Flag, word: str) -> str:
    """Return how to write a number that has a decimal comma, thousands separators or a percent sign."""
    if flag.type == "float" and (match := re.fullmatch(r"(\d+),(\d+)", word)):
        return f"write {match[1]}.{match[2]}"
    if flag.type == "float" and (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?%", word)):
        return f"write {float(match[1]) / 100:g}"
    if flag.type != "float" and re.fullmatch(r"\d{1,3}([,._' ]\d{3})+", word):
        return f"write {re.sub(r'[^0-9]', '', word)}"
    return f"give {_type_text(flag)}"


def _is_adapter(word: str) -> bool:
    """Return whether a word names a LoRA adapter, as vLLM's LoRAParserAction reads it."""
    if not word or ("=" in word and "," not in word):
        return True
    try:
        return isinstance(json.loads(word), dict)
    except ValueError:
        return False


def _bad_choice(flag: Flag, word: str, schema: Schema) -> Diagnostic:
    spans = history.of_choice(flag.name, word)
    text = f"{flag.name}: {word!r} is not a value of vLLM {schema.version}"
    text += f" (it is {history.text(spans)})" if spans else ""
    choices = [choice for choice in flag.choices or () if choice is not None]
    hint = either(
        _newer_image(spans, schema) if spans else near(word, choices, 0.5), f"one of {listing(choices)}"
    )
    return Diagnostic(f"{flag.name} {word}", text, hint=hint, code="bad-choice")


def _registered(flag: Flag, word: str, value: Any, schema: Schema) -> Iterator[Diagnostic]:
    registry, _ = REGISTRY_OF.get(flag.name, ("", ""))
    name = word.upper() if registry == "attention_backends" else word
    if not registry or value in (None, "", "auto") or schema.has(registry, name) is not False:
        return
    spans = history.of_name(registry, name)
    text = f"{flag.name}: vLLM {schema.version} has no {word!r} ({history.text(spans)})"
    names = [name for name in schema.registries[registry] if not _OTHER_HARDWARE.match(name)]
    advice = _newer_image(spans, schema) if spans else near(name, names)
    hint = either(advice, f"one of {listing(names)}")
    yield Diagnostic(f"{flag.name} {word}", text, hint=hint, code="not-registered")


def _type_text(flag: Flag) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "human_int": "a whole number, for example 65536 or 64K",
        "human_int_or_auto": "a whole number, for example 65536 or 64K, or auto",
        "bool": "true or false",
    }.get(flag.type, "a value of its type")


def _combinations(options: Mapping[str, Option], args: CommandLine) -> Iterator[Diagnostic]:
    tools = options.get("--enable-auto-tool-choice")
    if tools is not None and not tools.negative and "--tool-call-parser" not in options:
        text = "--enable-auto-tool-choice needs --tool-call-parser"
        hint = "add the tool-call-parser of the model's recipe"
        yield Diagnostic("--enable-auto-tool-choice", text, hint=hint, code="needs-other-flag")
    named = options.get("--model")
    if (
        "--served-model-name" in options
        and not args.model_first
        and named is None
        and "--config" not in options
    ):
        text = "with --served-model-name, vllm serve takes the model only as its first argument"
        yield Diagnostic("--served-model-name", text, hint="write the model first", code="model-not-first")
    if named is not None and args.positionals:
        # vLLM puts the value of --model first; the other one is a stray word then.
        text = f"the model is set twice: {args.positionals[0]} and --model {' '.join(named.args)}"
        yield Diagnostic("--model", text, hint="remove --model", code="two-models")
