"""A YAML file whose name is the name of the host or cluster that it declares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sparkfleet.config.validate import describe
from sparkfleet.config.yaml_file import Document, read, shown
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
"""A DNS name."""


def read_named(path: Path, of: str, remedy: str) -> tuple[Document, dict[Any, Any], list[Diagnostic]]:
    """Return the document, a copy of its data, and the errors of the file's name.

    ``of``: "host" or "cluster". Raise ``SparkfleetError`` for a file that is not a YAML mapping, with
    ``remedy`` as its hint.
    """
    diagnostics = _name_diagnostics(path, of)
    try:
        document = read(path)
    except SparkfleetError as error:
        raise SparkfleetError(*diagnostics, *error.diagnostics) from None
    if not isinstance(document.data, dict):
        diagnostic = Diagnostic(
            document.where(),
            f"the file is {describe(document.data)}",
            "a mapping",
            remedy,
            code="yaml-invalid-value",
        )
        raise SparkfleetError(*diagnostics, diagnostic)
    return document, dict(document.data), diagnostics


def _name_diagnostics(path: Path, of: str) -> list[Diagnostic]:
    diagnostics = []
    file = shown(path)
    if path.suffix != ".yaml":
        message = f"the file name ends with '{path.suffix}'"
        diagnostics.append(
            Diagnostic(
                file,
                message,
                "NAME.yaml",
                f"mv {file} {file.removesuffix(path.suffix)}.yaml",
                code="file-name-invalid",
            )
        )
    if not _NAME.fullmatch(path.stem):
        message = f"'{path.stem}' is not a valid {of} name"
        expected = "lower-case letters, digits, '-' and '.', for example spark-01"
        diagnostics.append(
            Diagnostic(
                file,
                message,
                expected,
                f"rename the file: the file name is the {of} name",
                code="file-name-invalid",
            )
        )
    return diagnostics
