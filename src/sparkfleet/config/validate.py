"""Validates plain data against a model; every deviation becomes a Diagnostic with its place."""

from __future__ import annotations

import copy
import json
import re
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sparkfleet import engines
from sparkfleet.config.resource_models import PATTERN_TEXTS
from sparkfleet.config.yaml_file import Path_
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.suggest import did_you_mean

M = TypeVar("M", bound=BaseModel)
Where = Callable[[Path_], str]
"""Returns ``file:line`` of a value."""

_SECRET = frozenset({"hf_token", "password", "sudo_password"})
"""Keys whose value is never shown: it may be the secret itself by mistake."""

_RENAMED = {
    "allow": "ignore_rules",
    "bootstrap": "rendezvous",
    "bundle": "mirror",
    "facts": "model_info",
    "floor_gib": "min_available_gib",
    "needs": "requires",
    "old_caches": "compile_cache_retention",
    "own": "chown_contents_max",
}
"""Renamed keys: old -> new."""

_ENTRYPOINT = (
    "remove it: sparkfleet runs the engine by the image's own entrypoint, with 'flags'; what has to be "
    "installed first goes into 'packages', or into an image of your own"
)
_CORES = "use 'cpuset' for a range of cores, for example 0-9"
_FILE = "mount the file: `container: {mounts: [{source: ..., target: ..., read_only: true}]}`"
_MEMORY = "use 'memory'; where little is left, the watchdog stops the engine ('min_available_gib')"
_STOP = "remove it: an engine has 60 s to end, then it is killed"
_HINTS = {
    "build": "build and push the image yourself, and name it: `image: REGISTRY/NAME:TAG`",
    "cap_drop": "remove it: an engine has Docker's default capabilities, and 'cap_add'",
    "command": _ENTRYPOINT,
    "configs": _FILE,
    "container_name": "use 'name'",
    "cpu_quota": _CORES,
    "cpu_shares": _CORES,
    "cpus": _CORES,
    "depends_on": "remove it: each service starts by itself, in the order of the plan",
    "deploy": "remove it: `container: {gpus: all}` is the default",
    "entrypoint": _ENTRYPOINT,
    "dns": "remove it: an engine is offline; write names under 'extra_hosts'",
    "env_file": "write its variables under 'env'. `docker inspect` shows them to every user of docker: mount "
    "a file with a secret (`container: {mounts: ...}`), and give the engine its path",
    "environment": "use 'env'",
    "expose": "remove it: 'port' is the port of the API, 'ports' are further ones",
    "group_add": "use 'user' with a group, for example 1000:44",
    "healthcheck": "remove it: the readiness gate proves the start, and the supervisor watches the engine",
    "host": "use `ssh: {hostname: ADDRESS}`",
    "hostname": "use `ssh: {hostname: ADDRESS}`",
    "init": "remove it: all processes of a container end with its first one",
    "labels": "remove it: sparkfleet labels its containers itself",
    "logging": "remove it: logs are bounded (json-file, 3 files of 50 MB)",
    "mem_limit": "use 'memory'",
    "mem_reservation": _MEMORY,
    "mem_swappiness": _MEMORY,
    "memswap_limit": _MEMORY,
    "network_mode": "use 'network'",
    "networks": "use `network: host` or `network: bridge`",
    "oom_kill_disable": _MEMORY,
    "oom_score_adj": _MEMORY,
    "password": "log in by key (`ssh-copy-id`); the password for sudo is 'sudo_password'",
    "pid": "remove it: an engine needs no processes of the host",
    "pids_limit": "remove it: there is no limit",
    "platform": "remove it: images are those for linux/arm64",
    "privileged": "remove it; name what the engine needs: 'devices', 'cap_add', 'security_opt', 'ulimits'",
    "pull_policy": "remove it: the lock file pins the image, and it is fetched before the engine stops",
    "read_only": "remove it: engines write temporary files; a mount has `read_only: true`",
    "restart": "remove it: the service's systemd unit restarts the container",
    "runtime": "remove it: `gpus: all` is the default",
    "secrets": _FILE,
    "security_opts": "use 'security_opt'",
    "stdin_open": "remove it: an engine has no input",
    "stop_grace_period": _STOP,
    "stop_signal": _STOP,
    "sysctls": "use `prepare: {sysctls: ...}`, which sets them on the Spark",
    "tty": "remove it: an engine has no terminal",
    "userns_mode": "remove it: an engine needs the GPU and the models of the Spark's users",
    "volumes": "use `container: {mounts: ...}`",
    "working_dir": "remove it, and write paths in full",
}
"""Keys of Compose and of Ansible that are no keys here -> what to write."""

_HINTS_AT_TOP = {"user": "use `ssh: {user: NAME}`"}
"""Such keys at the top of a host file."""

_PATTERNS = {
    "name": "at most 63 lower-case letters, digits, '.' and '-', starting with a letter or digit",
    "recipe": "at most 63 lower-case letters, digits, '.' and '-', starting with a letter or digit",
    "extends": "the name of a recipe",
    "revision": "a commit: 7 to 40 hex digits",
    "model": "a Hugging Face repository: organisation/name",
    "links": "a URL that starts with https://",
    "served_name": "a name, in which {name} and {model} are replaced and no other braces stand",
    "timeout": "a duration: 30m, 1h30m, 1800s or a number of seconds",
    "hf_token": "where the token comes from: env:NAME, file:PATH or command:COMMAND",
    "sudo_password": "where the password comes from: env:NAME, file:PATH, command:COMMAND or ask",
}
"""Key -> what its pattern means, where its type does not say it (``resource_models.PATTERN_TEXTS``)."""

LONGEST_NUMBER = 18
"""Digits of the longest number that ``yaml_file`` reads as one."""

_TYPES = {
    "string_too_short": "a non-empty string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


@dataclass(frozen=True)
class ValidPart(Generic[M]):
    """What could be read of plain data, for checks that do not depend on the rest."""

    value: M | None
    """None: nothing is left without what is invalid."""
    diagnostics: tuple[Diagnostic, ...] = ()
    invalid: tuple[Path_, ...] = ()
    """Paths of the values that are invalid; ``value`` is without them."""


def validate(model: type[M], data: Any, where: Where, base: Path_ = ()) -> M:
    """Return the data as a model; raise ``SparkfleetError`` with every deviation.

    ``base`` is the path of ``data`` in the document of ``where``. Strict: strings and numbers are not
    converted into each other.
    """
    found = valid_part(model, data, where, base)
    if found.value is None or found.diagnostics:
        raise SparkfleetError(*found.diagnostics)
    return found.value


def valid_part(model: type[M], data: Any, where: Where, base: Path_ = ()) -> ValidPart[M]:
    """Return the valid part of the data as a model, and every deviation."""
    diagnostics: list[Diagnostic] = []
    invalid: list[Path_] = []
    while True:
        try:
            value = model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            deviations = _deviations(data, error)
            if not invalid:  # later errors follow from what was removed
                diagnostics += [
                    _diagnostic(model, data, path, details, where=where, base=base)
                    for path, details in deviations.items()
                ]
            invalid += deviations
            if () in deviations:
                return ValidPart(None, tuple(diagnostics), tuple(invalid))
            data = _without(data, deviations)
        except (TypeError, ValueError, RecursionError):
            diagnostic = Diagnostic(
                where(base),
                "the value is not plain data",
                "strings, numbers, booleans, lists and dicts",
                "replace it by plain data",
                code="yaml-invalid-value",
            )
            return ValidPart(None, (diagnostic,), ((),))
        else:
            return ValidPart(value, tuple(diagnostics), tuple(invalid))


def _without(data: Any, paths: Iterable[Path_]) -> Any:
    """Return a copy without these values. Items are removed from the end of a list, so that paths stay."""
    data = copy.deepcopy(data)
    for path in sorted(
        paths, key=lambda path: [(isinstance(part, str), part) for part in path], reverse=True
    ):
        inner = data
        for part in path[:-1]:
            inner = inner[part]
        del inner[path[-1]]
    return data


def describe(value: Any) -> str:
    """Return the description of a value for an error: type and short text."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"  # noqa: PLR2004
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return f"a {type(value).__name__}"


def _deviations(data: Any, error: ValidationError) -> dict[Path_, list[Any]]:
    """Return pydantic's errors by the path in the data."""
    # A union reports an error for each of its members; they belong to one mistake at one path.
    found: dict[Path_, list[Any]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_path(data, detail), []).append(detail)
    # Deeper errors of the same union member explain more than "not the other member".
    return {
        path: details
        for path, details in found.items()
        if not path or not any(len(other) > len(path) and other[: len(path)] == path for other in found)
    }


def _path(data: Any, detail: Any) -> Path_:
    """Return the part of pydantic's location that exists in the data."""
    path: list[str | int] = []
    for part in detail["loc"]:
        keys_here = range(len(data)) if isinstance(data, list) else data if isinstance(data, dict) else ()
        if part not in keys_here:
            break
        data = data[part]
        path.append(part)
    return tuple(path)


def _diagnostic(
    model: type[BaseModel], data: Any, path: Path_, details: list[Any], *, where: Where, base: Path_
) -> Diagnostic:
    first = details[0]
    value = data
    for part in path:
        value = value[part]
    place = where((*base, *path))
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    label = dotted((*base, *path))
    if first["type"] == "extra_forbidden":
        valid_keys = keys(model, path[:-1])
        renamed = _RENAMED.get(name, "")
        hints = _HINTS_AT_TOP | _HINTS if len((*base, *path)) == 1 else _HINTS
        remedy = hints.get(name) or did_you_mean(name, valid_keys, "remove it, or see `sparkfleet schema`")
        if renamed in valid_keys:
            remedy = f"'{name}' is now called '{renamed}'"
        return Diagnostic(
            place,
            f"unknown key '{label}'",
            f"one of: {', '.join(valid_keys)}",
            remedy,
            code="yaml-unknown-key",
        )
    if first["type"] == "missing":
        missing = str(first["loc"][-1])
        inside = f" in '{label}'" if label else ""
        return Diagnostic(
            place,
            f"missing key '{missing}'{inside}",
            f"{missing}: ...",
            f"add '{missing}:'",
            code="yaml-missing-key",
        )
    if {"int_type"} & {detail["type"] for detail in details} and _is_too_long(value):
        details = _as_number(model, data, path, int(value)) or details
    shown = "a value (not shown: it may be a secret)" if name in _SECRET else describe(value)
    return Diagnostic(
        place,
        f"'{label or 'the file'}' is {shown}",
        _expected(details, name, value, keys(model, path)),
        _remedy(details, name, value) or _change(model, path),
        code="yaml-invalid-value",
    )


_NUMBERS = frozenset({"int_type", "float_type", "int_from_float"})
_LEADING_ZERO = re.compile(r"0[0-9]+")
_EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")
_WHOLE = re.compile(r"[-+]?[0-9]+")


def _expected(details: list[Any], name: str, value: Any, valid_keys: Sequence[str]) -> str:
    """Return what a value must be; ``known``: the keys of a mapping at its place."""
    kinds = {detail["type"] for detail in details}
    if "string_pattern_mismatch" in kinds and name in _PATTERNS:
        return _PATTERNS[name]
    for detail in details:
        if text := PATTERN_TEXTS.get(detail.get("ctx", {}).get("pattern", "")):
            return text
    texts: list[str] = []
    for detail in details:
        context = detail.get("ctx", {})
        match detail["type"]:
            case "string_pattern_mismatch":
                text = f"a string that matches {context['pattern']}"
            case "literal_error":
                text = context["expected"].replace("'", "")
            case "greater_than":
                text = f"more than {context['gt']:g}"
            case "greater_than_equal":
                text = f"at least {context['ge']:g}"
            case "less_than_equal":
                text = f"at most {context['le']:g}"
            case "model_type" | "model_attributes_type" if valid_keys:
                text = f"a mapping with keys of: {', '.join(valid_keys)}"
            case kind:
                text = _TYPES.get(kind, str(detail["msg"]))
        if text not in texts:
            texts.append(text)
    if "a number" in texts and "an integer" in texts:
        texts.remove("an integer")
    if kinds & {"greater_than_equal", "less_than_equal"} and _is_number(value) and "a string" in texts:
        texts.remove("a string")  # a number was meant, and it is out of range
    return " or ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def _is_too_long(value: Any) -> bool:
    """Return whether ``yaml_file`` read a number as text because it has too many digits."""
    return isinstance(value, str) and len(value) > LONGEST_NUMBER and _WHOLE.fullmatch(value) is not None


def _as_number(model: type[BaseModel], data: Any, path: Path_, value: int) -> list[Any]:
    """Return pydantic's errors about a number at that path."""
    data = copy.deepcopy(data)
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    try:
        model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return _deviations(data, error).get(path, [])
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _change(model: type[BaseModel], path: Path_) -> str:
    """Return the remedy of last resort: what the key means."""
    current: type[BaseModel] | None = model
    meaning = ""
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        meaning = (field.description or "") if field else ""
        current = _model_in(field.annotation) if field else None
    first = meaning.partition(". ")[0].rstrip(".")
    return f"change the value; its meaning: {first}" if first else "change the value"


def _remedy(details: list[Any], name: str, value: Any) -> str:
    """Return what to do about a frequent mistake, else ""."""
    kinds = {detail["type"] for detail in details}
    if kinds & {"greater_than_equal", "less_than_equal"}:
        return ""
    if name == "model" and isinstance(value, str) and value.startswith(("/", "~", "./", "../")):
        return (
            "a directory of the Spark cannot be pinned: put the model into a (private) repository of the hub "
            "or of your own hub (`hf_endpoint` in group_data)"
        )
    if name == "image" and "dict_type" in kinds and isinstance(value, str):
        return f"name the engine, since an image is for one: `image: {{{engines.DEFAULT}: {value}}}`"
    if "string_type" in kinds and _is_number(value):
        return f'put it in quotes: "{value}"'
    wants_plain = kinds & {*_NUMBERS, "bool_type"} and "string_type" not in kinds
    if wants_plain and isinstance(value, str):
        # A plain number of this form is a string, by the rules of ``yaml_file``.
        if _LEADING_ZERO.fullmatch(value):
            return f"write it without the leading zero: {value.lstrip('0') or '0'}"
        if kinds & _NUMBERS and (_is_too_long(value) or _EXPONENT.fullmatch(value)):
            return "write a smaller number, without exponent"
        if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?|true|false", value):
            return "write it without quotes"
    if kinds & {"dict_type", "model_type", "model_attributes_type"} and name in _MAPPINGS:
        return _as_mapping(name, value)
    return ""


_MAPPINGS = {"env": "NCCL_DEBUG: INFO", "flags": "max-model-len: 8192"}
"""Key -> an example of a line below it."""


def _as_mapping(name: str, value: Any) -> str:
    """Return how to write flags or variables that are given as words, with the first of them."""
    items = [str(item) for item in value] if isinstance(value, list) else str(value).split(" -")
    first = items[0] if items else ""
    key, separator, rest = first.lstrip("-").replace("=", " ", 1).partition(" ")
    example = f"{key}: {rest.strip()}" if separator and re.fullmatch(r"[\w.-]+", key) else _MAPPINGS[name]
    return f"write one line for each, without dashes and '=': {name}: {{{example}}}"


def dotted(path: Path_) -> str:
    """Return a path in dotted notation: ``serve[0].flags.max-model-len``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def keys(model: type[BaseModel], path: Path_) -> list[str]:
    """Return the valid keys at that path of a model, sorted."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        current = _model_in(field.annotation) if field else None
    return sorted(current.model_fields) if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple, list, dict, Annotated):
        for part in get_args(annotation):
            if get_origin(part) is not Literal and (found := _model_in(part)):
                return found
    return None
