"""Evidence of a failed candidate: log, inspect data, memory trace, kernel messages, gate transcript."""

from __future__ import annotations

import json
from pathlib import Path

from sparkfleet.onhost.gate.candidate_start import LOG_LINES
from sparkfleet.onhost.gate.failure import Failure
from sparkfleet.onhost.machine import files, redact
from sparkfleet.onhost.machine.system import System
from sparkfleet.runtimes.base import Runtime, RuntimeRefusedError, RuntimeUnavailableError

KERNEL_LINES = 200


def save(system: System, runtime: Runtime, directory: Path, container_id: str, failure: Failure) -> None:
    """Write what is available, without secrets. Errors are ignored: the rollback must continue."""
    try:
        container = runtime.inspect(container_id)
        log = runtime.log(container_id, LOG_LINES) if container else ""
    except (RuntimeRefusedError, RuntimeUnavailableError):
        container, log = None, ""
    secrets = redact.secrets_of(container)
    contents = {
        "engine.log": log,
        "inspect.json": json.dumps(redact.inspect_for_evidence(container), indent=1) if container else "",
        "memory.csv": failure.trace,
        "kernel.log": "\n".join(system.run(("dmesg", "--ctime")).out.splitlines()[-KERNEL_LINES:]),
        "gate.jsonl": "".join(json.dumps(entry) + "\n" for entry in failure.transcript),
    }
    for name, text in contents.items():
        if text.strip():
            try:
                files.write_atomic(directory / name, redact.redact(text, secrets), 0o640)
            except OSError:
                continue  # full disk; the result still has the cause
