"""The model on disk: its path, its config.json, and whether its weights can be read."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import log

_OFFLINE = (
    "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder "
    "for the specified revision on the local disk and outgoing traffic has been disabled. To enable repo "
    "look-ups and downloads online, pass 'local_files_only=False' as input.\n\n"
    "The above exception was the direct cause of the following exception:\n\n"
)
_NOT_FOUND = (
    "OSError: We couldn't connect to '{endpoint}' to load the files, and couldn't find them in the cached "
    "files.\n"
    "Check your internet connection or see how to run the library in offline mode at "
    "'https://huggingface.co/docs/transformers/installation#offline-mode'."
)


_HEADER_LIMIT = 100_000_000
"""Bytes; the safetensors library rejects larger headers."""


class ModelError(Exception):
    """The engine cannot start with this model; the text is the last part of the real traceback."""


@dataclass(frozen=True)
class Model:
    """A model on disk."""

    name: str
    """As requested: repository or path."""
    path: Path
    config: dict[str, Any]

    @property
    def text(self) -> dict[str, Any]:
        """Return the configuration of the language model inside a multimodal one."""
        nested = self.config.get("text_config")
        return {**self.config, **nested} if isinstance(nested, dict) else self.config

    @property
    def architecture(self) -> str:
        """Return the first architecture."""
        return str((self.config.get("architectures") or ["none"])[0])

    @property
    def context(self) -> int:
        """Return the native context length in tokens; 0 if config.json has none."""
        return int(self.text.get("max_position_embeddings") or 0)

    @property
    def quantization(self) -> str:
        """Return the quantisation method that the model itself declares; "": none."""
        return str((self.config.get("quantization_config") or {}).get("quant_method", ""))


def find(name: str, revision: str | None, download_dir: str | None) -> Model:
    """Return the model: a directory, or a snapshot in the cache, downloaded if that is allowed."""
    path = Path(name)
    if not path.is_dir():
        if name.startswith(("/", "./", "~")) or name.count("/") > 1:
            raise ModelError(
                "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
                f"'namespace/repo_name': '{name}'. Use `repo_type` argument if needed."
            )
        path = _snapshot(name, revision, download_dir)
    config = path / "config.json"
    if not config.is_file():
        raise ModelError(f"ValueError: Could not detect config format for no config file found in {name}")
    return Model(name, path, json.loads(config.read_text()))


def _snapshot(repo: str, revision: str | None, download_dir: str | None) -> Path:
    home = os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface"
    cache = Path(download_dir or os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    base = cache / f"models--{repo.replace('/', '--')}"
    ref = base / "refs" / (revision or "main")
    commit = ref.read_text().strip() if ref.is_file() else revision or "main"
    snapshot = base / "snapshots" / commit
    if (snapshot / "config.json").is_file():
        return snapshot
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError(_OFFLINE + _NOT_FOUND.format(endpoint=endpoint))
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - an image has it

        return Path(snapshot_download(repo, revision=revision, cache_dir=cache))
    except ImportError:
        raise ModelError(_NOT_FOUND.format(endpoint=endpoint)) from None
    except Exception as error:  # the real engine ends with the text of any error
        if type(error).__name__ == "LocalEntryNotFoundError":  # no answer at all
            url = f"{endpoint}/{repo}/resolve/{revision or 'main'}/config.json"
            log.bar(f"'{error.__cause__}' thrown while requesting HEAD {url}\nRetrying in 1s [Retry 1/5].\n")
            raise ModelError(_NOT_FOUND.format(endpoint=endpoint)) from error
        raise ModelError(f"{type(error).__module__}.{type(error).__name__}: {error}") from error


def shards(model: Model) -> list[Path]:
    """Return the weight files in the order they are loaded."""
    files = sorted(model.path.glob("*.safetensors"))
    if not files:
        raise ModelError(f"RuntimeError: Cannot find any model weights with `{model.name}`")
    index = model.path / "model.safetensors.index.json"
    if index.is_file():
        places = json.loads(index.read_text())["weight_map"]
        existing = {file.name for file in files if file.exists()}
        missing = sorted(tensor for tensor, file in places.items() if file not in existing)
        if missing:
            raise ModelError(
                f"ValueError: Following weights were not initialized from checkpoint: {set(missing)}"
            )
    return files


def read_shard(path: Path) -> int:
    """Return the bytes of a shard's tensors; a broken file raises the error of the safetensors library."""
    diagnostic = ""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == len("8 bytes.") else -1
        if length < 0:
            diagnostic = "header too small"
        elif length > _HEADER_LIMIT:
            diagnostic = "header too large"
        elif 8 + length > size:
            diagnostic = "invalid header length"
        else:
            diagnostic, end = _header(stream.read(length))
            if not diagnostic and 8 + length + end != size:
                diagnostic = "incomplete metadata, file not fully covered"
    if diagnostic:
        raise ModelError(f"safetensors_rust.SafetensorError: Error while deserializing header: {diagnostic}")
    return size - 8 - length


def _header(text: bytes) -> tuple[str, int]:
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"invalid JSON in header: {error}", 0
    return "", max(ends, default=0)
