"""Identity of the running program: a supervisor reports it to systemd, so that the probe sees old ones."""

from __future__ import annotations

import hashlib
import re
import sys

_PROGRAMS = re.compile(r"; programs ([0-9a-f]{12})$")


def identity(path: str = "") -> str:
    """Return 12 digits of the SHA-256 of the file that this program was started from, "" without one."""
    try:
        with open(path or sys.argv[0], "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:12]
    except OSError:
        return ""


def status(text: str, programs: str) -> str:
    """Return the status text of a supervisor of these programs."""
    return f"{text}; programs {programs}" if programs else text


def read_status(status_text: str) -> str:
    """Return the programs of the supervisor with this status text, "" for one that does not report them."""
    found = _PROGRAMS.search(status_text.strip())
    return found[1] if found else ""
