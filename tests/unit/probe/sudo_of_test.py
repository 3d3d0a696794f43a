"""A stand-in of sudo and of id for shell text under test: as sudo 1.9 with -S, it reads one line a try."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SUDO = """\
#!{python}
import os, sys
asks, password, log, proof = {asks!r}, {password!r}, {log!r}, {proof!r}
args = sys.argv[1:]
options = []
while args and args[0].startswith("-"):
    options.append(args.pop(0))
    if options[-1] == "-p":
        options.append(args.pop(0))
def note(line):
    with open(log, "a") as file:
        file.write(line + "\\n")
def line():
    text = b""
    while (byte := os.read(0, 1)) not in (b"", b"\\n"):
        text += byte
    return text.decode()
note("ran " + " ".join([*options, *args])[:80])
if asks and "-S" not in options:
    sys.exit("sudo: a password is required")
if asks:
    for attempt in range(3):
        given = line()
        if given == "":
            sys.exit("sudo: no password was provided\\nsudo: %d incorrect password attempt" % attempt)
        note("tried " + given)
        if given == password:
            if "-k" not in options:
                open(proof, "w").close()
            break
        sys.stderr.write("Sorry, try again.\\n")
    else:
        sys.exit("sudo: 3 incorrect password attempts")
os.execvp(args[0], args)
"""


@dataclass(frozen=True)
class Spark:
    """A directory of stand-ins before PATH; ``sudo`` asks for a password, or for none."""

    folder: Path
    asks: bool
    password: str = "right horse"
    uid: int = 1000

    def sh(self, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a shell command as sshd would, and return its output."""
        paths = {"log": str(self.log), "proof": str(self.proof)}
        code = _SUDO.format(python=sys.executable, asks=self.asks, password=self.password, **paths)
        for name, text in (("sudo", code), ("id", f"#!/bin/sh\necho {self.uid}\n")):
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o755)
        return subprocess.run(
            ["/bin/sh", "-c", script], input=stdin, capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"},
        )  # fmt: skip

    @property
    def log(self) -> Path:
        """Return the file with what sudo was asked, and each password that it was given."""
        return self.folder / "sudo.log"

    @property
    def proof(self) -> Path:
        """Return the file that is there once sudo keeps a proof, and would ask no more for a while."""
        return self.folder / "sudo.proof"

    @property
    def tried(self) -> list[str]:
        """Return the passwords that sudo was given, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.removeprefix("tried ") for line in lines if line.startswith("tried ")]
