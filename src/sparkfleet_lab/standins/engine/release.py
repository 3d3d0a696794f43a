"""The vLLM release that the stand-in imitates: version, flags and registered names, from a file."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("release.json")


@dataclass(frozen=True)
class Release:
    """One vLLM release, as described by its own argument parser and registries."""

    version: str
    flags: dict[str, dict[str, Any]]
    """Canonical name -> kind, type, nargs, choices, default, aliases."""
    registries: dict[str, tuple[str, ...]]
    json_classes: dict[str, dict[str, Any]]

    def names(self, registry: str) -> tuple[str, ...]:
        """Return the registered names: tool_parsers, reasoning_parsers, quantization, architectures ..."""
        return self.registries.get(registry, ())

    def at_least(self, *minimum: int) -> bool:
        """Return whether this release is that one or later."""
        return (
            tuple(int(part) for part in self.version.split("+")[0].split(".")[:3] if part.isdigit())
            >= minimum
        )


@functools.cache
def load() -> Release:
    """Return the release of this image."""
    data = json.loads(Path(os.environ.get("LAB_ENGINE_RELEASE") or FILE).read_text())
    return Release(
        version=data["version"],
        flags=data["flags"],
        registries={name: tuple(names) for name, names in data["registries"].items()},
        json_classes=data["json_classes"],
    )
