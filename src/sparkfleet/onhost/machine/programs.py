"""Which programs run: a guard says it to systemd, so that a look knows one that is older than the file."""

from __future__ import annotations

import hashlib
import re
import sys

_SAID = re.compile(r"; programs ([0-9a-f]{12})$")


def identity(path: str = "") -> str:
    """Return 12 digits of the SHA-256 of the file that this program was started from, "" without one."""
    try:
        with open(path or sys.argv[0], "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:12]
    except OSError:
        return ""


def status(text: str, programs: str) -> str:
    """Return what a guard of these programs says of itself."""
    return f"{text}; programs {programs}" if programs else text


def said(status_text: str) -> str:
    """Return the programs of the guard that said this, "" for one of the days before guards said it."""
    found = _SAID.search(status_text.strip())
    return found[1] if found else ""
