"""Static checks of a command line or an environment, before an engine starts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.version import Version

from sparkfleet.engines.vllm import history, renamed_flags, values
from sparkfleet.engines.vllm.arg_parser import CommandLine, Option, group
from sparkfleet.engines.vllm.check_json import check_config
from sparkfleet.engines.vllm.findings import Finding, either, listing, near
from sparkfleet.engines.vllm.schema import Flag, Schema, load, versions

REGISTRY_OF: Mapping[str, tuple[str, str]] = {
    "--tool-call-parser": ("tool_parsers", "--tool-parser-plugin"),
    "--reasoning-parser": ("reasoning_parsers", "--reasoning-parser-plugin"),
    "--quantization": ("quantization", ""),
    "--load-format": ("load_format", ""),
    "--attention-backend": ("attention_backends", ""),
}
"""Flags whose values the argument parser does not check and the engine refuses later: their registry, and the
flag that brings further values in."""


def check_flags(args: Sequence[str], schema: Schema, exact: bool = True) -> tuple[Finding, ...]:
    """Return what is wrong with the words after ``vllm serve``.

    With ``exact`` False the schema is that of the nearest bundled release. Then the next bundled one is asked
    too, and what only one of the two finds is a warning: the release in between is not known.
    """
    found = tuple(_check(group(args, schema), schema))
    if exact:
        return found
    after = _next_release(schema.version)
    if after is None:
        why = f"vLLM {schema.version} is the newest release known here"
        return tuple(_unsure(finding, why) for finding in found)
    later = tuple(_check(group(args, after), after))
    merged = [
        finding
        if _key(finding) in map(_key, later)
        else _unsure(finding, f"vLLM {after.version} takes it; this release is between the two")
        for finding in found
    ]
    merged += [
        _unsure(finding, f"vLLM {schema.version} took it; this release is between the two")
        for finding in later
        if _key(finding) not in map(_key, found)
    ]
    return tuple(merged)


def check_env(env: Iterable[str], schema: Schema, *, exact: bool = True) -> tuple[Finding, ...]:
    """Return which ``VLLM_`` variables of the environment this vLLM ignores silently."""
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


def _unknown_env(name: str, schema: Schema) -> Finding:
    spans = history.of_name("envs", name)
    text = f"vLLM {schema.version} does not read {name}: it has no effect ({history.text(spans)})"
    remedy = either(
        renamed_flags.ENVS.get(name, ""), near(name, schema.registries["envs"], 0.85), "remove it"
    )
    return Finding("warning", "unknown-env", name, text, remedy)


def _next_release(version: str) -> Schema | None:
    known = versions()
    if version not in known or version == known[-1]:
        return None
    return load(known[known.index(version) + 1])


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.code, finding.flag, finding.subject


def _unsure(finding: Finding, why: str) -> Finding:
    level = "warning" if finding.level == "error" else finding.level
    return dataclasses.replace(finding, level=level, text=f"{finding.text} ({why})")


def _check(args: CommandLine, schema: Schema) -> list[Finding]:
    found = list(_positionals(args, schema))
    given: dict[str, Option] = {}
    for option in args.options:
        if option.flag is None:
            found.append(_unknown(option, schema))
            continue
        found += [*_spelling(option, schema), *_value(option, option.flag, schema)]
        before = given.get(option.name)
        if before is not None and option.flag.kind != "append" and before.args != option.args:
            text = f"{option.name} is given twice; the last one counts"
            found.append(Finding("warning", "duplicate", option.name, text, "keep one"))
        given[option.name] = option
    found += _combinations(given, args)
    return [finding for finding in found if not _plugin_may_bring_it(finding, given)]


def _plugin_may_bring_it(finding: Finding, given: Mapping[str, Option]) -> bool:
    return finding.code == "not-registered" and REGISTRY_OF[finding.flag][1] in given


def _positionals(args: CommandLine, schema: Schema) -> Iterator[Finding]:
    first, *strays = args.positionals or ("",)
    if first in ("vllm", "serve") and strays:
        text = f"the command repeats `{first}`: sparkfleet adds `vllm serve` where the image needs it"
        yield Finding("error", "serve-repeated", "", text, "begin with the model")
    elif strays:
        text = f"no flag takes these arguments: {' '.join(strays)}"
        glued = any(word.startswith("--") for word in strays)
        remedy = (
            "write a flag and its value as two arguments"
            if glued
            else "remove them, or join what is one value"
        )
        yield Finding("error", "stray-words", "", text, remedy)
    if not args.positionals and not any(option.name == "--model" for option in args.options):
        default = schema.flags["--model"].default if "--model" in schema.flags else "its own default"
        yield Finding(
            "warning", "no-model", "", f"no model is given: vLLM would serve {default}", "name the model"
        )


def _unknown(option: Option, schema: Schema) -> Finding:
    if option.candidates:
        text = f"{option.written} could be {listing(option.candidates, 5)}"
        return Finding("error", "ambiguous", option.name, text, "write the flag in full")
    spans = history.of_flag(option.name)
    text = f"vLLM {schema.version} has no flag {option.written} ({history.text(spans)})"
    remedy = either(
        renamed_flags.FLAGS.get(option.name, ""),
        _newer_image(spans, schema) if spans else near(option.name, schema.long_options, 0.75),
        "remove it",
    )
    return Finding("error", "unknown-flag", option.name, text, remedy)


def _newer_image(spans: tuple[history.Span, ...], schema: Schema) -> str:
    """Return the advice to take a release that has it, where one does after this schema's."""
    later = [span.first for span in spans if Version(span.first) > Version(schema.version)]
    return f"take an image with vLLM {later[0]} or later, or remove it" if later else ""


def _spelling(option: Option, schema: Schema) -> Iterator[Finding]:
    if option.abbreviates:
        text = f"{option.written} is short for {option.abbreviates}; a later vLLM may find it ambiguous"
        remedy = f"write {option.abbreviates}"
        yield Finding("warning", "abbreviation", option.name, text, remedy, subject=option.written)
    if option.flag is not None and option.flag.deprecated:
        text = f"vLLM {schema.version} calls {option.name} deprecated"
        yield Finding("info", "deprecated", option.name, text, "see the release's notes for what replaces it")


def _value(option: Option, flag: Flag, schema: Schema) -> Iterator[Finding]:
    if not flag.takes_value:
        if option.inline:
            off = f"; {flag.negatives[-1]} turns it off" if flag.negatives else ""
            text = f"{flag.name} takes no value{off}"
            yield Finding("error", "no-value-allowed", flag.name, text, f"write {flag.name} alone")
        return
    if not _enough(option, flag):
        text = f"{flag.name} needs {'a value' if flag.nargs in (None, '+') else f'{flag.nargs} values'}"
        yield Finding("error", "missing-value", flag.name, text, "give it one, or remove the flag")
        return
    for word in option.args:
        yield from _word(flag, word, schema)


def _enough(option: Option, flag: Flag) -> bool:
    if isinstance(flag.nargs, int):
        return len(option.args) == flag.nargs
    return bool(option.args) or flag.nargs in ("?", "*")


def _word(flag: Flag, word: str, schema: Schema) -> Iterator[Finding]:
    if flag.name == "--lora-modules" and not _is_adapter(word):
        text = f"--lora-modules: {word!r} is neither NAME=PATH nor a JSON object"
        yield Finding("error", "bad-json", flag.name, text, "write name=path", subject=word)
        return
    try:
        value = values.one(flag, word)
    except ValueError as error:
        is_json = flag.type in ("json", "config", "json_or_str")
        text = f"{flag.name}: {error}" if is_json else f"{flag.name}: {word!r} is not {_type_text(flag)}"
        remedy = "write the flag as a mapping in YAML" if is_json else f"give {_type_text(flag)}"
        yield Finding("error", "bad-json" if is_json else "bad-type", flag.name, text, remedy, subject=word)
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
        remedy = either(near(word, flag.known), f"one of {listing(flag.known)}, or one of a plugin")
        yield Finding("warning", "not-built-in", flag.name, text, remedy, subject=word)


def _is_adapter(word: str) -> bool:
    """Return whether a word names a LoRA adapter, as vLLM's LoRAParserAction reads it."""
    if not word or ("=" in word and "," not in word):
        return True
    try:
        return isinstance(json.loads(word), dict)
    except ValueError:
        return False


def _bad_choice(flag: Flag, word: str, schema: Schema) -> Finding:
    spans = history.of_choice(flag.name, word)
    text = f"{flag.name}: {word!r} is not a value of vLLM {schema.version}"
    text += f" (it is {history.text(spans)})" if spans else ""
    choices = [choice for choice in flag.choices or () if choice is not None]
    remedy = either(
        _newer_image(spans, schema) if spans else near(word, choices, 0.5), f"one of {listing(choices)}"
    )
    return Finding("error", "bad-choice", flag.name, text, remedy, subject=word)


def _registered(flag: Flag, word: str, value: Any, schema: Schema) -> Iterator[Finding]:
    registry, _ = REGISTRY_OF.get(flag.name, ("", ""))
    name = word.upper() if registry == "attention_backends" else word
    if not registry or value in (None, "", "auto") or schema.has(registry, name) is not False:
        return
    spans = history.of_name(registry, name)
    text = f"{flag.name}: vLLM {schema.version} has no {word!r} ({history.text(spans)})"
    names = schema.registries[registry]
    advice = _newer_image(spans, schema) if spans else near(name, names, 0.5)
    remedy = either(advice, f"one of {listing(names)}")
    yield Finding("error", "not-registered", flag.name, text, remedy, subject=word)


def _type_text(flag: Flag) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "human_int": "a whole number, as 65536 or 64K",
        "human_int_or_auto": "a whole number, as 65536 or 64K, or auto",
        "bool": "true or false",
    }.get(flag.type, "a value of its type")


def _combinations(given: Mapping[str, Option], args: CommandLine) -> Iterator[Finding]:
    tools = given.get("--enable-auto-tool-choice")
    if tools is not None and not tools.negative and "--tool-call-parser" not in given:
        text = "--enable-auto-tool-choice needs --tool-call-parser"
        remedy = "add the tool-call-parser of the model's recipe"
        yield Finding("error", "needs-other-flag", "--enable-auto-tool-choice", text, remedy)
    named = given.get("--model")
    if "--served-model-name" in given and not args.model_first and named is None and "--config" not in given:
        text = "with --served-model-name, vllm serve takes the model only as its first argument"
        yield Finding("error", "model-not-first", "--served-model-name", text, "write the model first")
    if named is not None and args.positionals:
        # vLLM puts the value of --model first; the other one is a stray word then.
        text = f"the model is given twice: {args.positionals[0]} and --model {' '.join(named.args)}"
        yield Finding("error", "two-models", "--model", text, "remove --model")
