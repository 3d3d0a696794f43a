"""Ask the vLLM that is importable here what its own ``vllm serve`` parser says. Runs inside an engine image.

    docker run --rm -i --network none --entrypoint python3 IMAGE - parse WORDS ... < ask_parser.py
    docker run --rm -i --network none --entrypoint python3 IMAGE - schema          < ask_parser.py

``parse`` prints {"ok", "error", "version"} for the words after ``vllm serve``; ``schema`` prints everything
that the parser and the registries know. No GPU is needed. One JSON document goes to stdout, the rest to
stderr.
"""

# ruff: noqa: SLF001, BLE001
# A program, not a module; argparse and vLLM keep in private names what is asked here; a failure is an answer.

from __future__ import annotations

import argparse
import dataclasses
import enum
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

MAKERS = (
    "vllm.entrypoints.openai.cli_args",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.common.cli_args",
)
"""Where ``make_arg_parser`` has been so far: up to 0.29, 0.30 to 0.32, from 0.33."""
PACKAGES = (
    "vllm",
    "torch",
    "transformers",
    "flashinfer-python",
    "flashinfer-cubin",
    "mistral-common",
    "compressed-tensors",
    "fastsafetensors",
    "instanttensor",
    "scipy",
    "soundfile",
    "librosa",
    "ray",
    "triton",
    "nvidia-modelopt",
)
DEEPEST = 6
CONFIG_OF = {
    "speculative_config": "SpeculativeConfig",
    "pooler_config": "PoolerConfig",
    "override_pooler_config": "PoolerConfig",
}
"""Flags whose type is plain JSON although a config class reads it."""
VLLMS_OWN = ("VllmConfig", "ModelConfig", "ParallelConfig", "LoadConfig")
"""Configs that vLLM puts into others itself: nobody gives them as JSON."""
KINDS = {
    "_StoreAction": "store",
    "_StoreTrueAction": "store_true",
    "_StoreFalseAction": "store_false",
    "BooleanOptionalAction": "bool_optional",
    "EnableDisableAction": "bool_optional",
    "_AppendAction": "append",
    "_HelpAction": "help",
}


class RefusedError(Exception):
    """The parser does not accept the words."""


def pretend_gpu() -> None:
    """Let configs be built where no GPU is seen: the parser's defaults ask for a device type."""
    current_platform = first_attribute("vllm.platforms:current_platform")
    if current_platform is None:
        return
    if not getattr(current_platform, "device_type", ""):
        type(current_platform).device_type = "cuda"
        type(current_platform).device_name = "cuda"


def maker() -> tuple[Callable[[Any], Any], Any]:
    """Return ``make_arg_parser`` and the module it is in; releases move it."""
    root = pathlib.Path(str(importlib.import_module("vllm").__file__)).parent
    found = [
        "vllm." + ".".join(path.relative_to(root).with_suffix("").parts)
        for path in sorted(root.glob("entrypoints/**/*.py"))
        if "def make_arg_parser" in path.read_text(errors="replace")
    ]
    for name in dict.fromkeys([*MAKERS, *found]):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name.startswith(error.name):
                continue  # this release keeps it elsewhere
            raise
        if hasattr(module, "make_arg_parser"):
            return module.make_arg_parser, module
    raise LookupError("this vLLM has no make_arg_parser")


def command_line() -> tuple[Any, Any, Any]:
    """Return the parsers of ``vllm`` and of ``vllm serve``, and the module that makes the latter."""
    pretend_gpu()
    kind = first_attribute(
        "vllm.utils.argparse_utils:FlexibleArgumentParser", "vllm.utils:FlexibleArgumentParser"
    )
    make, module = maker()
    whole = kind(prog="vllm")
    serve = whole.add_subparsers(dest="subparser").add_parser("serve")
    return whole, make(serve), module


def build() -> tuple[Any, Any]:
    """Return the parser of ``vllm serve`` and the module that makes it."""
    _, serve, module = command_line()
    return serve, module


def version() -> str:
    """Return the version as vLLM names it."""
    return str(first_attribute("vllm.version:__version__", "vllm:__version__"))


def first_attribute(*places: str) -> Any:
    """Return the first ``module:name`` that this release has; None when it has none of them."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


def parse(argv: list[str]) -> dict[str, Any]:
    """Return whether the parser accepts the words after ``vllm serve``, and what it says if not."""
    whole, serve, module = command_line()

    def refuse(message: str) -> None:
        raise RefusedError(message)

    whole.error = serve.error = refuse
    error = ""
    try:
        # From the word `serve` on, as `vllm` does it: it treats a few words of `serve` by themselves.
        args = whole.parse_args(["serve", *argv])
        validate = getattr(module, "validate_parsed_serve_args", None)
        if validate is not None:
            args.chat_template = None  # its file is mounted into the service's container, not into this one
            validate(args)
    except RefusedError as refusal:
        error = str(refusal)
    except SystemExit as exit_:
        error = "" if exit_.code in (0, None) else f"the parser ended with {exit_.code}"
    except (TypeError, ValueError, KeyError, IndexError) as exception:
        error = f"{type(exception).__name__}: {exception}"
    return {"ok": not error, "error": error, "version": version()}


def plain(value: Any, depth: int = 0) -> Any:
    """Return a default as JSON data."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"__dataclass__": type(value).__name__}
    if depth > DEEPEST:
        return repr(value)
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item, depth + 1) for item in value), key=str)
    return repr(value)


def hint(kind: Any, classes: dict[str, Any]) -> Any:
    """Return a type hint as JSON data; literals and enums are spelled out, configs noted in ``classes``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return hint(arguments[0], classes)
    if origin is typing.Literal:
        return {"enum": [plain(value) for value in arguments]}
    if origin in (typing.Union, types.UnionType):
        return {"any": [hint(argument, classes) for argument in arguments]}
    if kind is type(None):
        return "null"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum_names": list(kind.__members__)}
    if origin in (list, tuple, set, dict):
        return {origin.__name__: [hint(argument, classes) for argument in arguments]}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__ not in VLLMS_OWN:
        note(kind, classes)
    return kind.__name__ if isinstance(kind, type) else str(kind)


def note(cls: Any, classes: dict[str, Any]) -> None:
    """Note a config class and those within it."""
    if cls.__name__ not in classes:
        classes[cls.__name__] = {}
        classes[cls.__name__].update(fields(cls, classes))


def fields(cls: Any, classes: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a config class, and whether it forbids others."""
    settings = getattr(cls, "__pydantic_config__", None) or {}
    out: dict[str, Any] = {"__extra__": str(settings.get("extra", "ignore"))}
    for field in dataclasses.fields(cls):
        default: Any = field.default
        if type(default).__name__ == "FieldInfo":
            default = default.default
        if default is dataclasses.MISSING:
            default = "<required>" if field.default_factory is dataclasses.MISSING else "<factory>"
        out[field.name] = {"type": hint(field.type, classes), "default": plain(default)}
        if not field.init:
            out[field.name]["init"] = False
    return out


def type_of(converter: Any, classes: dict[str, Any]) -> str | None:
    """Return the name of an argparse type; note in ``classes`` the config class that it reads JSON into."""
    if converter is None:
        return None
    name = getattr(converter, "__name__", str(converter))
    cells = [cell.cell_contents for cell in getattr(converter, "__closure__", None) or ()]
    if name == "parse_dataclass":
        known = [*(converter.__defaults__ or ()), *cells]
        cls = next((value for value in known if isinstance(value, type)), None)
        if cls is None:
            return "json"
        note(cls, classes)
        return f"json:{cls.__name__}"
    if name in ("_optional_type", "_parse_type") and cells:
        inner = next((type_of(cell, classes) for cell in cells if callable(cell)), None) or "str"
        return inner if name == "_parse_type" or inner.startswith("optional:") else f"optional:{inner}"
    if isinstance(converter, type) and issubclass(converter, enum.Enum):
        return "enum:" + ",".join(converter.__members__)
    return {"loads": "json", "union_dict_and_str": "json_or_str"}.get(name, name)


def flag_of(action: Any, parser: Any, classes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a flag's canonical name and what is known of it."""
    kind = KINDS.get(type(action).__name__, type(action).__name__)
    options = [name for name, known in parser._option_string_actions.items() if known is action]
    options = list(dict.fromkeys([*action.option_strings, *options]))
    negatives = list(getattr(action, "negative_option_strings", ()))
    if kind == "bool_optional":
        negatives += [name for name in options if name.startswith("--no-")]
    positives = [name for name in options if name not in negatives]
    name = next((name for name in positives if name.startswith("--")), positives[0])
    entry: dict[str, Any] = {"kind": kind, "aliases": [other for other in positives if other != name]}
    if negatives:
        entry["negatives"] = sorted(set(negatives))
    converter = type_of(action.type, classes)
    if converter:
        entry["type"] = converter
    if action.choices is not None:
        entry["choices"] = [plain(choice) for choice in action.choices]
    if action.nargs not in (None, 0):
        entry["nargs"] = action.nargs
    if isinstance(action.metavar, (list, tuple)):
        entry["hint"] = list(action.metavar)
    if action.default is not argparse.SUPPRESS:
        entry["default"] = plain(action.default)
    if "deprecated" in (action.help or "").lower()[:400] or action in getattr(parser, "_deprecated", ()):
        entry["deprecated"] = True
    if action.dest in CONFIG_OF:
        entry["json_class"] = CONFIG_OF[action.dest]
    return name, entry


def members(place: str) -> list[str]:
    """Return the sorted names that a mapping or list of this release holds, ``module:name``."""
    module, _, name = place.partition(":")
    return sorted(getattr(importlib.import_module(module), name))


def registered(manager: Any, attribute: str) -> list[str]:
    """Return the names that a manager of parsers knows."""
    names = manager.list_registered() if hasattr(manager, "list_registered") else getattr(manager, attribute)
    return sorted(names)


def load_formats() -> list[str]:
    """Return the load formats."""
    loader = importlib.import_module("vllm.model_executor.model_loader")
    return sorted(typing.get_args(loader.LoadFormats) or loader._LOAD_FORMAT_TO_MODEL_LOADER)


def architectures() -> list[str]:
    """Return the model architectures."""
    registry = importlib.import_module("vllm.model_executor.models.registry")
    return sorted(registry.ModelRegistry.get_supported_archs())


def tool_parsers() -> list[str]:
    """Return the tool call parsers."""
    manager = first_attribute(
        "vllm.tool_parsers:ToolParserManager", "vllm.entrypoints.openai.tool_parsers:ToolParserManager"
    )
    return registered(manager, "tool_parsers")


def reasoning_parsers() -> list[str]:
    """Return the reasoning parsers."""
    return registered(importlib.import_module("vllm.reasoning").ReasoningParserManager, "reasoning_parsers")


def attention_backends() -> list[str]:
    """Return the attention backends."""
    kind = first_attribute(
        "vllm.v1.attention.backends.registry:AttentionBackendEnum",
        "vllm.attention.backends.registry:AttentionBackendEnum",
        "vllm.platforms.interface:_Backend",
        "vllm.attention.backends.registry:_Backend",
    )
    return sorted(kind.__members__)


REGISTRIES: dict[str, Callable[[], list[str]]] = {
    "envs": lambda: members("vllm.envs:environment_variables"),
    "quantization": lambda: members("vllm.model_executor.layers.quantization:QUANTIZATION_METHODS"),
    "load_format": load_formats,
    "tool_parsers": tool_parsers,
    "reasoning_parsers": reasoning_parsers,
    "attention_backends": attention_backends,
    "architectures": architectures,
    "custom_config_model_types": lambda: members("vllm.transformers_utils.config:_CONFIG_REGISTRY"),
    "spec_architectures": lambda: members("vllm.model_executor.models.registry:_SPECULATIVE_DECODING_MODELS"),
    "transformers_model_types": lambda: members(
        "transformers.models.auto.configuration_auto:CONFIG_MAPPING_NAMES"
    ),
}


def installed(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def required() -> list[str]:
    """Return the requirements of the vLLM that is installed."""
    try:
        return importlib.metadata.requires("vllm") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def schema() -> dict[str, Any]:
    """Return everything that the parser and the registries know."""
    parser, _ = build()
    classes: dict[str, Any] = {}
    errors: dict[str, str] = {}
    registries: dict[str, list[str]] = {}
    flags = dict(flag_of(action, parser, classes) for action in parser._actions if action.option_strings)
    for name, read in REGISTRIES.items():
        try:
            registries[name] = read()
        except Exception as error:  # a registry that this release keeps elsewhere must not hide the rest
            errors[name] = f"{type(error).__name__}: {error}"[:300]
    speculative = first_attribute(
        "vllm.config.speculative:SpeculativeConfig", "vllm.config:SpeculativeConfig"
    )
    if speculative is not None:
        note(speculative, classes)
    return {
        "vllm_version": version(),
        "flags": dict(sorted(flags.items())),
        "json_classes": dict(sorted(classes.items())),
        "registries": registries,
        "requires": required(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "errors": errors,
    }


def main(argv: list[str]) -> int:
    """Answer on stdout; exit code 0 accepted, 1 refused, 2 could not be asked."""
    out = os.dup(1)
    os.dup2(2, 1)  # vLLM logs to stdout: it is kept for the answer
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_PLUGINS", "")
    os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1")
    try:
        answer = schema() if argv[:1] == ["schema"] else parse(argv[1:])
    except Exception as error:  # whatever happens in there, the answer is JSON
        answer = {"ok": None, "error": f"{type(error).__name__}: {error}"[:2000], "version": ""}
    with os.fdopen(out, "w") as stdout:
        stdout.write(json.dumps(answer) + "\n")
    return {True: 0, False: 1}.get(answer.get("ok", True), 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
