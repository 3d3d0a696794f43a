"""A YAML file that is named like what it declares, a host or a cluster: its name and its shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sparkfleet.errors import Problem, SparkfleetError
from sparkfleet.spec.validate import describe
from sparkfleet.spec.yamlfile import Document, read, shown

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
"""A host's name, as DNS has them."""


def read_named(path: Path, of: str, remedy: str) -> tuple[Document, dict[Any, Any], list[Problem]]:
    """Return the document, a copy of its data, and what is wrong with the file's name.

    ``of`` is what it declares. Raise ``SparkfleetError``, names included, for a file that is no YAML mapping;
    ``remedy`` says how such a file begins.
    """
    problems = _name_problems(path, of)
    try:
        document = read(path)
    except SparkfleetError as error:
        raise SparkfleetError(*problems, *error.problems) from None
    if not isinstance(document.data, dict):
        problem = Problem(document.where(), f"is {describe(document.data)}", "keys and values", remedy)
        raise SparkfleetError(*problems, problem)
    return document, dict(document.data), problems


def _name_problems(path: Path, of: str) -> list[Problem]:
    problems = []
    file = shown(path)
    if path.suffix != ".yaml":
        found = f"ends with '{path.suffix}' and would not be read"
        problems.append(Problem(file, found, "NAME.yaml", f"mv {file} {file.removesuffix(path.suffix)}.yaml"))
    if not _NAME.fullmatch(path.stem):
        found = f"'{path.stem}' is no name of a {of}"
        expected = "lower-case letters, digits and '-' (and '.' between), as spark-01"
        problems.append(Problem(file, found, expected, f"rename the file: its name is the {of}'s"))
    return problems
