"""Reads and validates a host file; each of the three forms of ``serve:`` becomes a list of services."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.config.merge import Layer
from sparkfleet.config.models import HostFile, ServiceSpec
from sparkfleet.config.named_file import read_named
from sparkfleet.config.validate import describe, validate
from sparkfleet.config.yaml_file import Document, Path_
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError

_SERVE = "a recipe name, one service, or a list of services"


@dataclass(frozen=True)
class HostSource:
    """Content of a host file."""

    name: str
    settings: HostFile
    services: tuple[tuple[ServiceSpec, Layer], ...]
    document: Document


def load(path: Path) -> HostSource:
    """Return the content of the file; raise ``SparkfleetError`` with all of its errors."""
    document, data, diagnostics = read_named(path, "host", "start the file with `serve: RECIPE`")
    serve = data.pop("serve", None)
    settings = HostFile()
    services: list[tuple[ServiceSpec, Layer]] = []
    try:
        settings = validate(HostFile, data, document.where)
    except SparkfleetError as error:
        diagnostics += error.diagnostics
    for item, base in _items(serve, document, diagnostics):
        try:
            spec = validate(ServiceSpec, item, document.where, base)
        except SparkfleetError as error:
            diagnostics += error.diagnostics
        else:
            services.append((spec, _layer(spec, document, base)))
    if diagnostics:
        raise SparkfleetError(*diagnostics)
    return HostSource(path.stem, settings, tuple(services), document)


def _items(serve: Any, document: Document, diagnostics: list[Diagnostic]) -> list[tuple[Any, Path_]]:
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
    found = f"'serve' is {describe(serve)}"
    diagnostics.append(
        Diagnostic(document.where(("serve",)), found, _SERVE, "change the value", code="yaml-invalid-value")
    )
    return []


def _layer(spec: ServiceSpec, document: Document, base: Path_) -> Layer:
    return Layer(spec.model_dump(exclude_unset=True), lambda path: document.where((*base, *path)))
