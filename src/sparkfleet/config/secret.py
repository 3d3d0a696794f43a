"""A secret of the operator's machine by its source: ``env:NAME``, ``file:PATH``, ``command:WORDS``, ask."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from pathlib import Path

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError

TIMEOUT_S = 60
ASK = "ask"


def read(source: str, *, field: str = "hf_token") -> str:
    """Return the secret; "" when none is declared, or the variable is not set.

    ``field`` names it in errors; the secret itself is in none of them. Raise ``SparkfleetError`` when a file
    or a command that was declared gives nothing.
    """
    kind, _, rest = source.partition(":")
    if kind == "env":
        return os.environ.get(rest, "").strip()
    if kind == "file":
        return _file(rest, field)
    if kind == "command":
        return _command(rest, field)
    return _asked(field) if kind == ASK else ""


def _asked(field: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        remedy = "run it on a terminal, or declare env:NAME, file:PATH or command:WORDS"
        raise SparkfleetError(
            Diagnostic(
                field, "there is no terminal to ask at", "a terminal", remedy, code="secret-not-entered"
            )
        )
    text = getpass.getpass(f"{field}: ")
    if not text:
        raise SparkfleetError(
            Diagnostic(field, "nothing was typed", "the secret", "run it again", code="secret-not-entered")
        )
    return text


def _file(path: str, field: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        diagnostic = Diagnostic(
            field,
            f"the file {path} cannot be read: {reason}",
            "a file with the secret",
            "make it",
            code="secret-file-unreadable",
        )
        raise SparkfleetError(diagnostic) from None
    if not text:
        raise SparkfleetError(
            Diagnostic(
                field,
                f"the file {path} is empty",
                "the secret",
                "write it there",
                code="secret-file-unreadable",
            )
        )
    return text


def _command(command: str, field: str) -> str:
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = f"{type(error).__name__}: it did not run"
    else:
        text = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0 and text:
            return text
        # Its output is not shown: what it printed may be the secret.
        reason = f"exit code {done.returncode}" if done.returncode else "it printed nothing"
    diagnostic = Diagnostic(
        field,
        f"the command `{command}` gives no secret: {reason}",
        "the secret on stdout",
        "run it",
        code="secret-command-failed",
    )
    raise SparkfleetError(diagnostic)
