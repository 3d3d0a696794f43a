"""What the engine refuses before it loads anything, in the order of the real one's checks."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from . import configs, log, release
from .model import Model, ModelError

_FAMILIES = (
    frozenset({"modelopt", "modelopt_fp4", "modelopt_mixed", "modelopt_mxfp8"}),
    frozenset({"mxfp4", "gpt_oss_mxfp4"}),
    frozenset({"gptq", "gptq_marlin", "auto_gptq"}),
    frozenset({"awq", "awq_marlin", "auto_awq"}),
)
"""Methods that are compatible: a flag with one of a family does not contradict a model with another."""

_FROM_MODEL = frozenset(
    {"modelopt", "modelopt_fp4", "modelopt_mixed", "compressed-tensors", "gptq", "awq", "mxfp4"}
)
"""Methods that need a quantised checkpoint."""


def check_front_end(args: argparse.Namespace) -> None:
    """Check the parsers' names; argparse accepts any."""
    tools = {*release.load().names("tool_parsers"), *_plugin_names(getattr(args, "tool_parser_plugin", ""))}
    if args.enable_auto_tool_choice and args.tool_call_parser not in tools:
        known = ",".join(sorted(tools))
        raise ModelError(
            f"KeyError: 'invalid tool call parser: {args.tool_call_parser} (chose from {{ {known} }})'"
        )
    plugin = getattr(args, "reasoning_parser_plugin", "")
    reasoning = {*release.load().names("reasoning_parsers"), *_plugin_names(plugin)}
    if args.reasoning_parser and args.reasoning_parser not in reasoning:
        known = ",".join(sorted(reasoning))
        raise ModelError(
            f"KeyError: 'invalid reasoning parser: {args.reasoning_parser} (chose from {{ {known} }})'"
        )


def check_model(args: argparse.Namespace, model: Model) -> int:
    """Check the flags against the model; return the context length that will be used."""
    known = release.load().names("architectures")
    if known and model.architecture not in known:
        raise ModelError(
            _validation(
                "ModelConfig",
                f"Model architectures {model.config.get('architectures')} are not supported for now. "
                f"Supported architectures: dict_keys({sorted(known)[:5]!r})",
            )
        )
    log.line(f"Resolved architecture: {model.architecture}", where="model.py:733")
    _check_quantization(args, model)
    length = _context(args, model)
    log.line(f"Using max model len {length}", where="model.py:2152")
    if diagnostic := configs.diagnostic("SpeculativeConfig", args.speculative_config):
        raise ModelError(f"pydantic_core._pydantic_core.ValidationError: {diagnostic}")
    return length


def _check_quantization(args: argparse.Namespace, model: Model) -> None:
    methods = release.load().names("quantization")
    theirs, ours = model.quantization, args.quantization or ""
    if not ours and not theirs:
        return
    same = ours == theirs or any({ours, theirs} <= family for family in _FAMILIES)
    if ours and theirs and not same:
        raise ModelError(
            _validation(
                "ModelConfig",
                f"Quantization method specified in the model config ({theirs}) does not match the "
                f"quantization method specified in the `quantization` argument ({ours}).",
            )
        )
    method = ours or theirs
    if methods and method not in methods:
        text = f"Unknown quantization method: {method}. Must be one of {list(methods)}."
        raise ModelError(_validation("ModelConfig", text))
    if ours in _FROM_MODEL and not theirs:
        raise ModelError(_validation("VllmConfig", f"Cannot find the config file for {ours}"))


def _context(args: argparse.Namespace, model: Model) -> int:
    requested, native = args.max_model_len, model.context
    if requested in (None, -1):
        return native or 2048
    allowed = os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    if native and requested > native and not allowed:
        raise ModelError(
            _validation(
                "ModelConfig",
                f"User-specified max_model_len ({requested}) is greater than the derived max_model_len "
                f"(max_position_embeddings={float(native)} or model_max_length=None in model's config.json). "
                "To allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. "
                "VLLM_ALLOW_LONG_MAX_MODEL_LEN must be used with extreme caution.",
            )
        )
    return int(requested)


def _plugin_names(path: str | None) -> set[str]:
    """Return the names that a parser plugin registers; a file that cannot be read is logged, not refused."""
    if not path:
        return set()
    try:
        text = Path(path).read_text()
    except OSError as error:
        log.line(
            f"Failed to load module '{Path(path).stem}' from {path}.",
            level="ERROR",
            where="abs_parsers.py:180",
        )
        log.line(f"{type(error).__name__}: {error}", level="ERROR", where="abs_parsers.py:180")
        return set()
    return {
        name
        for call in re.findall(r"register_\w+\(([^)]*)\)", text)
        for name in re.findall(r"['\"]([\w.-]+)", call)
    }


def _validation(config: str, text: str) -> str:
    return (
        f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {config}\n"
        f"  Value error, {text} [type=value_error, input_value=ArgsKwargs((), {{'model': ...}}), "
        "input_type=ArgsKwargs]\n"
        "    For further information visit https://errors.pydantic.dev/2.12/v/value_error"
    )
