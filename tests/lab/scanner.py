"""Searches for a secret: on a Spark (files, journal, docker, units, processes) and on the operator's side.

The secret goes to every helper on stdin: a search must not place it where it searches.
"""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.machine import Machine

_PROCESSES = r"""
import json, os, select, sys, time
needles = [line.encode() for line in json.loads(sys.stdin.readline())]
found, scans = set(), 0
def holds(path):
    try:
        with open(path, "rb") as file:
            return any(needle in file.read(1 << 20) for needle in needles)
    except OSError:
        return False
while True:
    scans += 1
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for part in ("cmdline", "environ"):
            if holds("/proc/%s/%s" % (pid, part)):
                try:
                    name = open("/proc/%s/comm" % pid).read().strip()
                except OSError:
                    name = "gone"
                found.add("%s of the process %s" % (part, name))
    if select.select([sys.stdin], [], [], 0.05)[0]:
        break
json.dump({"found": sorted(found), "scans": scans}, sys.stdout)
"""
"""Scans all processes repeatedly until its stdin ends."""

_FILES = r"""
patterns=$(cat)
printf '%s\n' "$patterns" | grep -rlaF -D skip -f - \
  --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev --exclude-dir=overlay2 / 2>/dev/null
for layer in $(docker ps -aq | xargs -r docker inspect -f '{{.GraphDriver.Data.UpperDir}}'); do
  printf '%s\n' "$patterns" | grep -rlaF -D skip -f - "$layer" 2>/dev/null
done
exit 0
"""
"""Every file of a Spark, the writable layers of its containers included, image layers not."""

_OUTPUTS = {
    "journal": "journalctl --all --no-pager -o export",
    "docker's containers": "docker ps -aq | xargs -r docker inspect",
    "docker's images": "docker images -aq | sort -u | xargs -r docker inspect",
    "docker's volumes": "docker volume ls -q | xargs -r docker volume inspect",
    "docker's events": "docker events --since 1h --until $(date +%s)",
    "systemd's units": "systemctl show '*' --all; systemctl show-environment",
    "kernel's log": "dmesg",
}
"""Commands whose output other users can read."""


@dataclass(frozen=True)
class Scanner:
    """A search for one secret, plain and in the encodings in which it might be sent."""

    secret: str

    @property
    def needles(self) -> tuple[str, ...]:
        """Return the secret, its hex, and the part of its base64 that does not depend on surrounding text."""
        raw = self.secret.encode()
        return (self.secret, raw.hex(), *(_middle_of_base64(raw, shift) for shift in range(3)))

    def spark(self, machine: Machine) -> list[str]:
        """Return every place on a Spark that has the secret."""
        files = machine.sh(_FILES, stdin="\n".join(self.needles)).splitlines()
        found = [f"file {path}" for path in sorted(set(files))]
        for name, command in _OUTPUTS.items():
            if self.text(machine.sh(command, check=False)):
                found.append(name)
        result = machine.sh(f"python3 -c {shlex.quote(_PROCESSES)}", stdin=self.request_line)
        return [*found, *json.loads(result)["found"]]

    def directory(self, root: Path) -> list[str]:
        """Return every file under a directory that has the secret."""
        paths = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        return [str(path) for path in sorted(paths) if self.bytes(path.read_bytes())]

    def text(self, text: str) -> bool:
        """Return whether a text has the secret."""
        return any(needle in text for needle in self.needles)

    def bytes(self, data: bytes) -> bool:
        """Return whether data has the secret."""
        return any(needle.encode() in data for needle in self.needles)

    @property
    def request_line(self) -> str:
        """Return the line that the helpers read from stdin."""
        return json.dumps(self.needles) + "\n"

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Scan the processes of this computer, which include all lab machines', until the block ends."""
        process = subprocess.Popen(
            [sys.executable, "-c", _PROCESSES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(self.request_line)
        process.stdin.flush()
        watch = Watch()
        try:
            yield watch
        finally:
            out, _ = process.communicate("end\n")
            result = json.loads(out)
            watch.found += result["found"]
            watch.scans = result["scans"]


def _middle_of_base64(raw: bytes, shift: int) -> str:
    """Return the base64 of the secret if it begins ``shift`` bytes into a group of three."""
    text = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")
    mixed_with_what_follows = 1 if (shift + len(raw)) % 3 else 0
    return text[(0, 2, 3)[shift] : len(text) - mixed_with_what_follows]


@dataclass
class Watch:
    """The result of a scan of processes; filled when the scan ends."""

    found: list[str] = field(default_factory=list)
    scans: int = 0
