"""Programs that are run while looking: each read-only, each with a limit of time."""

from __future__ import annotations

import subprocess

LIMIT_S = 15


def run(*words: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; 127 for a program that is not there, 124 for one that hangs."""
    try:
        answer = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return 127, "", "%s is not there" % words[0]
    except subprocess.TimeoutExpired:
        return 124, "", "%s did not answer within %d s" % (words[0], LIMIT_S)
    return answer.returncode, answer.stdout, answer.stderr


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
