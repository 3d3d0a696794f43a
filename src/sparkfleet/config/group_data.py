"""Reads ``sparkfleet = {...}`` from group_data in pyinfra's order: later files win."""

from __future__ import annotations

import ast
import contextlib
import io
import runpy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet.config.models import Defaults
from sparkfleet.config.validate import validate
from sparkfleet.config.yaml_file import Path_, shown
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

VARIABLE = "sparkfleet"


@dataclass(frozen=True)
class GroupFile:
    """Content of a file of group_data."""

    defaults: Defaults
    where: Callable[[Path_], str]

    @property
    def values(self) -> dict[str, Any]:
        """Return the declared values, without defaults."""
        return self.defaults.model_dump(exclude_unset=True)


def files(inventory: Path, fleet: str) -> list[Path]:
    """Return the existing files that pyinfra loads for this fleet, in its order."""
    folders = [Path.cwd() / "group_data", inventory.parent.resolve() / "group_data"]
    folders = list(dict.fromkeys(folders))
    # pyinfra orders by group first; the fleet's own group comes last.
    paths = [folder / f"{group}.py" for group in ("all", fleet) for folder in folders]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def unread_directory(inventory: Path) -> Path | None:
    """Return a group_data directory that pyinfra does not read from the current directory."""
    beside = inventory.parent.resolve().parent / "group_data"
    read = (Path.cwd() / "group_data").is_dir() or (inventory.parent.resolve() / "group_data").is_dir()
    return None if read or not beside.is_dir() else beside


def read(path: Path) -> GroupFile | None:
    """Return the content of the file; None without the variable. Raise ``SparkfleetError`` if it fails."""
    file = shown(path)
    try:
        # Standard output may be JSON, so output of the file is discarded.
        with contextlib.redirect_stdout(io.StringIO()):
            variables = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a user's program may raise anything)
        raise SparkfleetError(
            Diagnostic(
                f"{file}:{_line_of(error, path)}",
                f"the file fails: {type(error).__name__}: {error}",
                "a Python file that runs without an error",
                f"python3 {file}",
                code="group-data-failed",
            )
        ) from None
    if VARIABLE not in variables:
        return None
    lines = _lines(path)

    def where(place: Path_) -> str:
        while place not in lines and place:
            place = place[:-1]
        return f"{file}:{lines.get(place, 1)}"

    return GroupFile(validate(Defaults, variables[VARIABLE], where), where)


def merged(group_files: list[GroupFile]) -> Defaults:
    """Return the defaults of a fleet: built-in, then each file; mappings merge by key."""
    data: dict[str, Any] = {}
    for group_file in group_files:
        for name, value in group_file.values.items():
            data[name] = {**data.get(name, {}), **value} if isinstance(value, dict) else value
    data.pop("prepare", None)  # config.resources merges it one level deeper
    return Defaults.model_validate(data)


def _line_of(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 1
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return next((line for line in reversed(lines) if line), 1)


def _lines(path: Path) -> dict[Path_, int]:
    """Return the line of each key of the variable, as far as it is a literal."""
    lines: dict[Path_, int] = {}

    def note(node: ast.expr, place: Path_) -> None:
        lines.setdefault(place, node.lineno)
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    lines[*place, key.value] = key.lineno
                    note(value, (*place, key.value))

    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == VARIABLE for target in targets):
                note(node.value, ())
    return lines
