"""Runs inside a base image: ``install_packages.py NAME==VERSION ...`` installs wheels that lie in /mnt.

What the image has stays as it is, but for what is named: a wheel that wants another release of something is
refused. Its pip is one of the wheels, so that the same bytes install the same way into every image.
"""

from __future__ import annotations

import glob
import importlib.metadata
import re
import subprocess
import sys

WHEELS = "/mnt"
KEPT = "/tmp/kept.txt"  # noqa: S108  (in a container of its own)
_VERSION = re.compile(r"[0-9][0-9A-Za-z.!+_-]*")


def main() -> int:
    """Install, and say what is broken after it and was not before; return an exit code."""
    wanted = sys.argv[1:]
    found = glob.glob(WHEELS + "/pip-*.whl")
    if len(found) != 1:
        sys.stderr.write("ERROR: no pip among the wheels\n")
        return 1
    pip = [sys.executable, found[0] + "/pip", "--isolated", "--disable-pip-version-check"]
    before = complaints(pip)
    with open(KEPT, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in kept(wanted))
    install = ["install", "--no-index", "--find-links", WHEELS, "--no-cache-dir", "--break-system-packages"]
    install += ["--root-user-action", "ignore", "--constraint", KEPT, *wanted]
    done = subprocess.run([*pip, *install], check=False)
    if done.returncode:
        return done.returncode
    broken = sorted(complaints(pip) - before)
    for line in broken:
        sys.stderr.write("ERROR: broken by it: " + line + "\n")
    return 1 if broken else 0


def complaints(pip: list[str]) -> set[str]:
    """Return what pip finds wrong between installed packages."""
    done = subprocess.run([*pip, "check"], capture_output=True, text=True, check=False)
    return {line for line in done.stdout.splitlines() if not line.startswith("No broken")}


def kept(wanted: list[str]) -> list[str]:
    """Return every installed package with its version, but those that are to be installed."""
    named = {normal(word.partition("==")[0]) for word in wanted}
    lines: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        name, version = one.metadata["Name"], one.metadata["Version"]
        if name and version and _VERSION.fullmatch(version) and normal(name) not in named:
            lines.setdefault(normal(name), name + "==" + version)
    return sorted(lines.values())


def normal(name: str) -> str:
    """Return the one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
