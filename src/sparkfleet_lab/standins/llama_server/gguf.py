"""The header of a GGUF file, which llama-server reads before it loads the weights."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class GgufError(Exception):
    """The file cannot be loaded; the text is llama.cpp's log line."""

    def __init__(self, line: str, cause: str = "") -> None:
        """Store the line, and the cause that the loader logs after it ("": none)."""
        super().__init__(line)
        self.cause = cause


@dataclass(frozen=True)
class Gguf:
    """A model's metadata and size."""

    path: Path
    metadata: dict[str, Any]
    tensors: int
    bytes: int

    @property
    def architecture(self) -> str:
        """Return the architecture, as ``llama``."""
        return str(self.metadata.get("general.architecture", ""))

    def number(self, key: str, default: int = 0) -> int:
        """Return a number of the architecture's own keys, as ``context_length``."""
        return int(self.metadata.get(f"{self.architecture}.{key}", default))


def read(path: Path) -> Gguf:
    """Return the metadata of a model, and the size of all its parts."""
    metadata, tensors = _header(path)
    paths = [path]
    count = int(metadata.get("split.count", 0))
    part = _PART.search(path.name)
    if count > 1 and part:
        names = [_PART.sub(f"-{number:05}-of-{count:05}.gguf", path.name) for number in range(1, count + 1)]
        paths = [path.with_name(name) for name in names]
        for other in paths[1:]:
            if not other.is_file():
                raise GgufError(
                    f"gguf_init_from_file: failed to open GGUF file '{other}' (No such file or directory)",
                    f"failed to load GGUF split from {other}",
                )
            tensors += _header(other)[1]
    return Gguf(path, metadata, tensors, sum(file.stat().st_size for file in paths))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic != b"GGUF":
                shown = magic.decode("latin-1").ljust(4, "?")
                raise GgufError(
                    f"gguf_init_from_reader: invalid magic characters: '{shown}', expected 'GGUF'"
                )
            _, tensors, pairs = struct.unpack("<IQQ", file.read(20))
            return {
                _string(file): _value(file, *struct.unpack("<I", file.read(4))) for _ in range(pairs)
            }, tensors
    except FileNotFoundError:
        raise GgufError(
            f"gguf_init_from_file: failed to open GGUF file '{path}' (No such file or directory)"
        ) from None
    except struct.error:
        raise GgufError("gguf_init_from_reader: failed to read header") from None


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        of, count = struct.unpack("<IQ", file.read(12))
        return [_value(file, of) for _ in range(count)]
    form = _SCALARS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return file.read(length).decode(errors="replace")
