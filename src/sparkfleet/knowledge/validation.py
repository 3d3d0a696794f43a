"""Reads every file of an update as the commands do, in a process of its own.

A process, because data files are read once a process, and because an update must not be able to stop or crash
the command that checks it: ``python -m sparkfleet.knowledge.validation DIR`` prints what cannot be used.
"""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparkfleet import data_files, engines
from sparkfleet.catalog.load import Catalog
from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.knowledge import archive, store
from sparkfleet.onhost.gate import diagnosis, failure_patterns, log_lines

TIMEOUT_S = 120
_LONG_LINES = tuple(
    f"{part * (8000 // len(part))}\n" for part in ("a", " ", "x: ", "error ", "((", "/a/b", "1.")
)
_SHARED = "onhost/gate/failure_patterns.json"


def require_valid(update: archive.Update) -> None:
    """Raise ``SparkfleetError`` with every file that this sparkfleet cannot read."""
    with tempfile.TemporaryDirectory(prefix="sparkfleet-knowledge-") as name:
        store.write(update, Path(name) / "update")
        command = [sys.executable, "-m", __name__, str(Path(name) / "update")]
        try:
            process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
            problems = codec.parse(list[tuple[str, str]], process.stdout or "[]", __name__)
            if process.returncode:
                problems = [
                    ("", process.stderr.strip()[-400:] or f"reading it ended with {process.returncode}")
                ]
        except subprocess.TimeoutExpired:
            problems = [("", f"reading it took more than {TIMEOUT_S} s")]
    if problems:
        raise SparkfleetError(
            *(
                Diagnostic(
                    f"knowledge {update.version}{file and f': {file}'}",
                    message,
                    "data that this sparkfleet can read",
                    "use an update that was made for this sparkfleet, or have it made again",
                    code="knowledge-content-invalid",
                )
                for file, message in problems
            )
        )


def problems(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and error of each file of the update in ``folder`` that cannot be used."""
    manifest = archive.parse_manifest((folder / archive.MANIFEST).read_bytes(), str(folder))
    update = store.StoredUpdate(folder, manifest)
    data_files.use(lambda: update)
    for name in engines.names():
        yield from _problem(f"engines/{name}/data", engines.get(name).load_data)
    for name in engines.host_names():
        own = f"engines/{name}/failure_patterns.json"
        file = own if own in manifest.files else _SHARED
        yield from _problem(file, lambda name=name: _check_patterns(name))  # type: ignore[misc]
    for name in Catalog.of():
        yield from _problem(f"catalog/recipes/{name}.yaml", lambda name=name: Catalog.of().recipe(name))  # type: ignore[misc]


def _problem(file: str, read: Callable[[], object]) -> Iterator[tuple[str, str]]:
    try:
        read()
    except SparkfleetError as error:
        yield file, "; ".join(replace(one, hint="").line for one in error.diagnostics)
    except Exception as error:  # noqa: BLE001  (whatever a reader raises, the file cannot be used)
        yield file, f"{type(error).__name__}: {error}"


def _check_patterns(engine: str) -> None:
    """Raise unless every pattern compiles, matches its samples, and reads long lines in time."""
    entries = failure_patterns.read(engine)
    prefix = engines.on_host(engine).log.prefix
    for kind in failure_patterns.KINDS:
        for entry in entries[kind]:
            if "re" in entry:
                _check_pattern(kind, entry, prefix)
    reader = diagnosis.reader(engine)
    for text in _LONG_LINES:
        reader.diagnose(text, 1)
        reader.progress_count(text)
        reader.warnings(text)


def _check_pattern(kind: str, entry: dict[str, Any], prefix: re.Pattern[str]) -> None:
    regex = re.compile(entry["re"])
    texts = [sample["text"] for sample in entry["samples"]] if kind == "failures" else [entry["sample"]]
    for text in texts:
        (line,) = log_lines.lines(text, prefix)
        if not regex.search(line.text):
            raise ValueError(f"the pattern {entry['re']!r} does not match its sample {text!r}")
    templates = [entry[key] for key in ("cause", "remedy", "text") if key in entry]
    for template in (*templates, *entry.get("remedy_by_flag", {}).values()):
        named = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        if not named <= {*regex.groupindex, "more"}:
            raise ValueError(f"{template!r} names something else than groups of its pattern")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(problems(Path(sys.argv[1])))))
