"""Reads and validates a host file; each of the three forms of ``serve:`` becomes a list of services."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.config.merge import Layer
from sparkfleet.config.models import HostFile, ServiceSpec
from sparkfleet.config.named_file import read_named
from sparkfleet.config.validate import describe, valid_part
from sparkfleet.config.yaml_file import Document, Path_
from sparkfleet.contract.diagnostic import Diagnostic

_SERVE = "a recipe name, one service, or a list of services"


_DETERMINES = frozenset({"recipe", "model", "engine", "image", "file"})
"""Values of a service without which nothing else of it can be checked."""
_RULES_READ = frozenset({"flags", "env", "container"})
"""Values of a service that lint rules read: without one of them they would guess."""


@dataclass(frozen=True)
class ServiceSource:
    """A service as a file declares it."""

    spec: ServiceSpec
    layer: Layer
    is_complete: bool = True
    """False: an invalid value was left out."""
    has_rules: bool = True
    """False: a value that lint rules need was left out."""


@dataclass(frozen=True)
class HostSource:
    """Content of a host file."""

    name: str
    settings: HostFile
    services: tuple[ServiceSource, ...]
    document: Document
    is_complete: bool = True
    """Whether every service of the file is here, with all of its values."""


def load(path: Path) -> tuple[HostSource, list[Diagnostic]]:
    """Return the valid content of the file and all of its errors.

    Raise ``SparkfleetError`` with all errors if nothing of it can be used.
    """
    document, data, diagnostics = read_named(path, "host", "start the file with `serve: RECIPE`")
    serve = data.pop("serve", None)
    settings = valid_part(HostFile, data, document.where)
    diagnostics += settings.diagnostics
    items = _items(serve, document, diagnostics)
    read = [service_source(item, document, base, diagnostics) for item, base in items]
    services = tuple(one for one in read if one)
    source = HostSource(
        path.stem,
        settings.value or HostFile(),
        services,
        document,
        is_complete=len(services) == len(items) and all(one.is_complete for one in services),
    )
    return source, diagnostics


def service_source(
    item: Any, document: Document, base: Path_, diagnostics: list[Diagnostic]
) -> ServiceSource | None:
    """Return a service of the document, without its invalid values; None if they determine the others."""
    part = valid_part(ServiceSpec, item, document.where, base)
    diagnostics += part.diagnostics
    first = {path[0] for path in part.invalid if path}
    if part.value is None or first & _DETERMINES:
        return None
    return ServiceSource(
        part.value,
        _layer(part.value, document, base),
        is_complete=not part.invalid,
        has_rules=not any(
            path[0] in _RULES_READ and (len(path) == 1 or path[1] == "mounts") for path in part.invalid
        ),
    )


def _items(serve: Any, document: Document, diagnostics: list[Diagnostic]) -> list[tuple[Any, Path_]]:
    """Return each service with its path in the document."""
    match serve:
        case None:
            return []
        case str():
            return [({"recipe": serve}, ("serve",))]
        case dict():
            return [(serve, ("serve",))]
        case list():
            # An item of the list may be a recipe name.
            return [
                ({"recipe": item} if isinstance(item, str) else item, ("serve", number))
                for number, item in enumerate(serve)
            ]
    message = f"'serve' is {describe(serve)}"
    diagnostics.append(
        Diagnostic(document.where(("serve",)), message, _SERVE, "change the value", code="yaml-invalid-value")
    )
    return []


def _layer(spec: ServiceSpec, document: Document, base: Path_) -> Layer:
    return Layer(spec.model_dump(exclude_unset=True), lambda path: document.where((*base, *path)))
