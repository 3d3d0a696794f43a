"""Reads a secret from its source: ``env:NAME``, ``file:PATH``, ``command:COMMAND`` or ``ask``."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

TIMEOUT_S = 60
ASK = "ask"


def read(source: str, *, field: str = "hf_token") -> str:
    """Return the secret; "" if none is declared or the variable is not set.

    ``field`` names it in errors, which never contain the secret. Raise ``SparkfleetError`` if the declared
    file or command returns nothing.
    """
    kind, _, rest = source.partition(":")
    if kind == "env":
        return os.environ.get(rest, "").strip()
    if kind == "file":
        return _file(rest, field)
    if kind == "command":
        return _command(rest, field)
    return _prompt(field) if kind == ASK else ""


def _prompt(field: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        remedy = "run the command in a terminal, or set env:NAME, file:PATH or command:COMMAND"
        raise SparkfleetError(
            Diagnostic(
                field,
                "stdin is not a terminal, so the secret cannot be entered",
                "a terminal",
                remedy,
                code="secret-not-entered",
            )
        )
    text = getpass.getpass(f"{field}: ")
    if not text:
        raise SparkfleetError(
            Diagnostic(
                field,
                "no secret was entered",
                "the secret",
                "run the command again",
                code="secret-not-entered",
            )
        )
    return text


def _file(path: str, field: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        diagnostic = Diagnostic(
            field,
            f"the file {path} cannot be read: {reason}",
            "a file with the secret",
            "create the file",
            code="secret-file-unreadable",
        )
        raise SparkfleetError(diagnostic) from None
    if not text:
        raise SparkfleetError(
            Diagnostic(
                field,
                f"the file {path} is empty",
                "the secret",
                "write the secret to the file",
                code="secret-file-unreadable",
            )
        )
    return text


def _command(command: str, field: str) -> str:
    try:
        process = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = f"{type(error).__name__}: the command did not run"
    else:
        text = process.stdout.decode("utf-8", "replace").strip()
        if process.returncode == 0 and text:
            return text
        # The output is not shown: it may contain the secret.
        reason = f"exit code {process.returncode}" if process.returncode else "no output"
    diagnostic = Diagnostic(
        field,
        f"the command `{command}` returned no secret: {reason}",
        "the secret on stdout",
        "run the command to see why",
        code="secret-command-failed",
    )
    raise SparkfleetError(diagnostic)
