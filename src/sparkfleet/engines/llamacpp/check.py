"""Static checks of the arguments and the environment of ``llama-server``.

The ``location`` of a diagnostic is the canonical flag or the variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.engines.llamacpp.args import parse, read_value
from sparkfleet.engines.llamacpp.schema import Flag, Schema
from sparkfleet.suggest import did_you_mean

_NUMBERS: dict[str, type] = {"int": int, "float": float}
_STATES = {"tristate": ("on", "off", "auto"), "on_off": ("on", "off")}
RESERVED = {
    "--model": "model: and file: of the service",
    "--model-url": "model: and file: of the service",
    "--hf-repo": "model: of the service",
    "--hf-file": "file: of the service",
    "--docker-repo": "model: and file: of the service",
    "--alias": "name: of the service (the served name)",
    "--host": "nothing: it is always 0.0.0.0",
    "--port": "port: of the service",
    "--metrics": "nothing: it is always on, the readiness gate reads the token counter",
}
"""Flags that sparkfleet sets itself -> what sets them."""
_SECRETS = ("--hf-token", "--api-key")


def check_arguments(
    arguments: Sequence[str], schema: Schema, *, exact: bool = True
) -> tuple[Diagnostic, ...]:
    """Return what this release refuses in the arguments; warnings where the release is not bundled."""
    severity = Severity.ERROR if exact else Severity.WARNING
    doubt = "" if exact else f" (flags of {schema.version}, the nearest release known)"
    parsed = parse(arguments, schema)
    diagnostics = [_unknown(option, schema, severity, doubt) for option in parsed.unknown]
    diagnostics += [
        Diagnostic(option, f"{option} has no value", "a value", severity=severity, code="missing-value")
        for option in parsed.incomplete
    ]
    for name, value in parsed.values.items():
        flag = schema.flags.get(name)
        if flag is not None:
            diagnostics += _value(flag, value, severity, doubt)
    return tuple(diagnostics)


def check_environment(names: Iterable[str], schema: Schema) -> tuple[Diagnostic, ...]:
    """Return which ``LLAMA_ARG_`` variables have no effect in this release."""
    return tuple(
        Diagnostic(
            name,
            f"llama.cpp {schema.version} does not read {name}: it has no effect",
            hint=did_you_mean(name, schema.variables, "write the flag under flags: instead", 0.8, 2),
            severity=Severity.WARNING,
            code="unknown-env",
        )
        for name in names
        if name.startswith("LLAMA_ARG_") and name not in schema.variables
    )


def _unknown(option: str, schema: Schema, severity: Severity, doubt: str) -> Diagnostic:
    if "=" in option and option.partition("=")[0] in schema.options:
        name = option.partition("=")[0]
        return Diagnostic(
            name,
            f"llama-server does not read {name}=VALUE{doubt}",
            f"{name} VALUE: two arguments",
            severity=severity,
            code="unknown-flag",
        )
    return Diagnostic(
        option,
        f"llama.cpp {schema.version} has no flag {option}{doubt}",
        hint=did_you_mean(option, schema.options, "correct the flag, or remove it", 0.8, 2),
        severity=severity,
        code="unknown-flag",
    )


def _value(flag: Flag, value: Any, severity: Severity, doubt: str) -> Iterator[Diagnostic]:
    if flag.removed:
        yield Diagnostic(
            flag.name,
            f"{flag.name} has been removed{doubt}",
            flag.removed,
            f"remove {flag.name}",
            severity=severity,
            code="unknown-flag",
        )
        return
    expected = _expected(flag, value)
    if expected:
        yield Diagnostic(
            flag.name,
            f"{flag.name} is {value!r}{doubt}",
            expected,
            "correct the value",
            severity=severity,
            code="bad-flag-value",
        )
    if flag.kind == "help":
        yield Diagnostic(
            flag.name,
            f"{flag.name} makes llama-server print something and exit",
            "a flag that serves",
            f"remove {flag.name}",
            code="exits-at-once",
        )
    if flag.deprecated:
        yield Diagnostic(
            flag.name,
            f"{flag.name} is deprecated: {flag.help}",
            severity=Severity.WARNING,
            code="deprecated-flag",
        )
    if flag.name in _SECRETS:
        yield Diagnostic(
            flag.name,
            f"{flag.name} puts a secret into the container's command, where every user of the host reads it",
            "a file (--api-key-file), or a secret of the host file",
            f"remove {flag.name}",
            severity=Severity.WARNING,
            code="secret-in-argv",
        )


def _expected(flag: Flag, value: Any) -> str:
    """Return what the flag accepts; "" if it accepts the value."""
    if not flag.takes_value or flag.kind == "two_values":
        return ""
    if flag.type in _STATES:
        return "" if value in _STATES[flag.type] else " or ".join(_STATES[flag.type])
    if flag.type == "int_or_word":
        return (
            "" if isinstance(value, int) or value in flag.choices else f"a number, {', '.join(flag.choices)}"
        )
    if flag.type in _NUMBERS:
        number = "a whole number" if flag.type == "int" else "a number"
        return "" if isinstance(read_value(flag, str(value)), _NUMBERS[flag.type]) else number
    return "" if not flag.choices or value in flag.choices else f"one of {', '.join(flag.choices)}"
