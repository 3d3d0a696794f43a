"""A frame around the output of each remote program: two marks with a nonce, and the exit code in the second.

Login shells, banners and PAM print what they like, JSON too. Only the text between the marks of this very
command is the program's output, and without both marks there is none.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

# A mark begins a line also after text without an end of line. It is put together on the host: a shell that
# prints the command itself prints no mark.
SCRIPT = r"""printf '\n<<%s>>\n' "$0"; "$@"; s=$?; printf '\n<</%s %d>>\n' "$0" $s; exit $s"""


@dataclass(frozen=True)
class FramedOutput:
    """Output and exit code of a program."""

    text: str
    code: int


def new_nonce() -> str:
    """Return the nonce of one command."""
    return f"sparkfleet-{secrets.token_hex(8)}"


def wrap(nonce: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Return argv that runs ``argv`` with its stdout in a frame."""
    return ("/bin/sh", "-c", SCRIPT, nonce, *argv)


def find(lines: Sequence[str], nonce: str) -> FramedOutput | None:
    """Return what the program of this nonce printed; None without its frame."""
    begin, prefix = f"<<{nonce}>>", f"<</{nonce} "
    starts = [number for number, line in enumerate(lines) if line == begin]
    if not starts:
        return None
    body = lines[starts[-1] + 1 :]
    end = next((number for number, line in enumerate(body) if line.startswith(prefix)), None)
    if end is None:
        return None
    code = body[end].removeprefix(prefix).removesuffix(">>")
    return FramedOutput("\n".join(body[:end]), int(code)) if code.isdecimal() else None


@dataclass
class Reader:
    """Reads the output of one command line by line."""

    nonce: str
    code: int | None = None
    """The program's exit code; None until its frame has ended."""
    _inside: bool = False

    def feed(self, line: str) -> str | None:
        """Return the line if the program printed it; None for what is outside of its frame."""
        if self.code is not None:
            return None
        if line == f"<<{self.nonce}>>":
            self._inside = True
            return None
        code = line.removeprefix(f"<</{self.nonce} ").removesuffix(">>")
        if self._inside and code != line and code.isdecimal():
            self.code = int(code)
            return None
        return line if self._inside else None
