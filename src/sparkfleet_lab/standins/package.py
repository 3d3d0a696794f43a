"""Python packages of lab images: the stand-ins of vLLM (under the real package's names) and llama-server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkfleet.engines.llamacpp import schema as llamacpp_schema
from sparkfleet.engines.vllm import schema_archive

_STANDIN = Path(__file__).parent / "engine"
_LLAMA_SERVER = Path(__file__).parent / "llama_server"
_SHARED = ("answers.py", "api.py", "modes.py")
"""Modules of vLLM's stand-in that llama-server's stand-in shares."""

_NAMES = """\
from vllm.standin.release import load

{variable} = dict.fromkeys(load().names("{registry}"))
"""
_MANAGER = """\
from vllm.standin.release import load


class {name}:
    @staticmethod
    def list_registered():
        return load().names("{registry}")
"""
_REGISTRY = """\
from vllm.standin.release import load

_SPECULATIVE_DECODING_MODELS = load().names("spec_architectures")


class ModelRegistry:
    @staticmethod
    def get_supported_archs():
        return load().names("architectures")
"""
_BACKENDS = """\
import enum

from vllm.standin.release import load

AttentionBackendEnum = enum.Enum("AttentionBackendEnum", load().names("attention_backends"))
"""
_SPECULATIVE = """\
from vllm.standin.configs import config

SpeculativeConfig = config("SpeculativeConfig")
"""


def write_engine(directory: Path, version: str, schema: str | Mapping[str, Any]) -> None:
    """Write the package ``vllm`` of one release: the stand-in under the real package's module names.

    ``schema``: the archived release whose flags it accepts, or the output of an image's own parser.
    """
    package = directory / "vllm"
    standin = package / "standin"
    standin.mkdir(parents=True)
    for source in sorted(_STANDIN.glob("*.py")):
        shutil.copyfile(source, standin / source.name)
    dump = (
        schema_archive.release(schema_archive.read(schema_archive.FILE), schema)
        if isinstance(schema, str)
        else schema
    )
    registries = {name: sorted(names) for name, names in dump["registries"].items()}
    release = {"version": version, "registries": registries}
    release |= {key: dump[key] for key in ("flags", "json_classes")}
    (standin / "release.json").write_text(json.dumps(release, sort_keys=True))
    for name, text in _modules(version).items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(package).parents:
            (package / parent / "__init__.py").touch()
    metadata = directory / f"vllm-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


def write_llama_server(directory: Path, version: str) -> None:
    """Write the stand-in of llama-server of one release, under its own package name."""
    standins = directory / "sparkfleet_lab" / "standins"
    for source, names in ((_STANDIN, _SHARED), (_LLAMA_SERVER, [p.name for p in _LLAMA_SERVER.glob("*.py")])):
        target = standins / source.name
        target.mkdir(parents=True)
        (target / "__init__.py").touch()
        for name in sorted(names):
            shutil.copyfile(source / name, target / name)
    for package in (standins, standins.parent):
        (package / "__init__.py").touch()
    release = json.loads(llamacpp_schema.FILE.read_text(encoding="utf-8"))["releases"][version]
    text = json.dumps({"version": version, **release}, sort_keys=True)
    (standins / _LLAMA_SERVER.name / "release.json").write_text(text)


def _modules(version: str) -> dict[str, str]:
    """Return the modules that others import from the real package, by path: thin, onto the stand-in."""
    names = ("FlexibleArgumentParser", "make_arg_parser", "validate_parsed_serve_args")
    parser = f"from vllm.standin.arguments import {', '.join(names)}\n"
    layers = "model_executor/layers"
    main = "from vllm.standin.__main__ import main\n\nif __name__ == '__main__':\n    main()\n"
    return {
        "version.py": f'__version__ = "{version}"\n',
        "__init__.py": "from vllm.version import __version__\n",
        "platforms/__init__.py": "class Platform:\n    device_type = ''\n\n\ncurrent_platform = Platform()\n",
        "utils/argparse_utils.py": parser,
        "entrypoints/openai/cli_args.py": parser,
        "entrypoints/cli/main.py": main,
        "envs.py": _NAMES.format(variable="environment_variables", registry="envs"),
        "config/speculative.py": _SPECULATIVE,
        f"{layers}/quantization/__init__.py": _NAMES.format(
            variable="QUANTIZATION_METHODS", registry="quantization"
        ),
        "model_executor/model_loader/__init__.py": "LoadFormats = None\n"
        + _NAMES.format(variable="_LOAD_FORMAT_TO_MODEL_LOADER", registry="load_format"),
        "model_executor/models/registry.py": _REGISTRY,
        "tool_parsers/__init__.py": _MANAGER.format(name="ToolParserManager", registry="tool_parsers"),
        "reasoning/__init__.py": _MANAGER.format(name="ReasoningParserManager", registry="reasoning_parsers"),
        "transformers_utils/config.py": _NAMES.format(
            variable="_CONFIG_REGISTRY", registry="custom_config_model_types"
        ),
        "v1/attention/backends/registry.py": _BACKENDS,
    }
