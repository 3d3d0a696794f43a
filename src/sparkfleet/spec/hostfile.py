"""One host file, read and validated: ``serve:`` in each of its three shapes becomes a list of services."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.errors import Problem, SparkfleetError
from sparkfleet.spec.merge import Layer
from sparkfleet.spec.models import HostFile, ServiceSpec
from sparkfleet.spec.namedfile import read_named
from sparkfleet.spec.validate import describe, validate
from sparkfleet.spec.yamlfile import Document, Path_

_SERVE = "a recipe's name, one service, or a list of services"


@dataclass(frozen=True)
class HostSource:
    """What one host file says."""

    name: str
    said: HostFile
    services: tuple[tuple[ServiceSpec, Layer], ...]
    document: Document


def load(path: Path) -> HostSource:
    """Return what the file says; raise ``SparkfleetError`` with all that is wrong with it."""
    document, data, problems = read_named(path, "host", "begin with `serve: RECIPE`")
    serve = data.pop("serve", None)
    said = HostFile()
    services: list[tuple[ServiceSpec, Layer]] = []
    try:
        said = validate(HostFile, data, document.where)
    except SparkfleetError as error:
        problems += error.problems
    for item, base in _items(serve, document, problems):
        try:
            spec = validate(ServiceSpec, item, document.where, base)
        except SparkfleetError as error:
            problems += error.problems
        else:
            services.append((spec, _layer(spec, document, base)))
    if problems:
        raise SparkfleetError(*problems)
    return HostSource(path.stem, said, tuple(services), document)


def _items(serve: Any, document: Document, problems: list[Problem]) -> list[tuple[Any, Path_]]:
    match serve:
        case None:
            return []
        case str():
            return [({"recipe": serve}, ("serve",))]
        case dict():
            return [(serve, ("serve",))]
        case list():
            # A list may name recipes as short as the whole field can.
            return [
                ({"recipe": item} if isinstance(item, str) else item, ("serve", number))
                for number, item in enumerate(serve)
            ]
    found = f"'serve' is {describe(serve)}"
    problems.append(Problem(document.where(("serve",)), found, _SERVE, "change the value"))
    return []


def _layer(spec: ServiceSpec, document: Document, base: Path_) -> Layer:
    return Layer(spec.model_dump(exclude_unset=True), lambda path: document.where((*base, *path)))
