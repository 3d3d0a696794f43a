"""Python packages as exact wheels with hashes, chosen by pip for the images' Python, machine and vLLM.

On this machine, not in the image: it need not have the image, nor Docker. What the image has is not known
here, so the wheels of everything that is needed are pinned; where they are installed, only what is missing
is taken.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from sparkfleet.config.locked import LockedPackages
from sparkfleet.config.resolved import DerivedPackages, PackageIndex, Wheel
from sparkfleet.lock import documents
from sparkfleet.lock.documents import PipPackage, PipReport

INSTALLER = "pip"
NEWEST_GLIBC, OLDEST_GLIBC = 34, 17
"""Of manylinux tags: the newest that every image's distribution has (Ubuntu 22.04 has 2.35)."""
_OF_INDEXES = ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "CONFIG_FILE")


class PackagesError(Exception):
    """What is wrong and what to do; the caller knows where the packages were written."""

    def __init__(self, found: str, remedy: str) -> None:
        """Keep both sentences."""
        super().__init__(found)
        self.found, self.remedy = found, remedy


def resolve(
    wanted: Sequence[tuple[str, str]], brought: Mapping[str, str], index: PackageIndex
) -> LockedPackages:
    """Return the packages pinned, with all that they need and the pip that installs them.

    ``brought``: packages and ranges that the image's vLLM requires, so that none is chosen against it. Raise
    ``PackagesError``.
    """
    install = [f"{name}{asked}" for name, asked in wanted]
    named = {name.lower().replace("_", "-") for name, _ in wanted}
    with tempfile.TemporaryDirectory(prefix="sparkfleet-lock-") as scratch:
        limits = Path(scratch) / "limits.txt"
        kept = (f"{name}{ranges}\n" for name, ranges in brought.items() if ranges and name not in named)
        limits.write_text("".join(kept))
        argv = [*_pip_argv(index), "--constraint", str(limits), "--target", f"{scratch}/target"]
        report = _report([*argv, *install, INSTALLER], _environment(index))
    wheels = [_wheel(one) for one in report.install]
    derived_packages = DerivedPackages(tuple(install), tuple(sorted(wheels, key=lambda wheel: wheel.name)))
    return LockedPackages(derived_packages, index.python, index.machine)


def _pip_argv(index: PackageIndex) -> list[str]:
    argv = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    argv += ["--no-input", "--disable-pip-version-check", "--report", "-", "--only-binary=:all:"]
    argv += ["--implementation", "cp", "--python-version", index.python]
    minors = range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)
    platforms = [f"manylinux_2_{minor}_{index.machine}" for minor in minors]
    for platform in (*platforms, f"manylinux2014_{index.machine}", f"linux_{index.machine}"):
        argv += ["--platform", platform]
    if index.url:
        argv += ["--index-url", index.url]
        parts = urlsplit(index.url)
        argv += ["--trusted-host", parts.hostname] if parts.scheme == "http" and parts.hostname else []
    return argv


def _environment(index: PackageIndex) -> dict[str, str]:
    """Return pip's environment: where an index is declared, no other place to look is left."""
    if not index.url:
        return dict(os.environ)
    places = {f"PIP_{name}" for name in _OF_INDEXES}
    return {**{key: value for key, value in os.environ.items() if key not in places},
            "PIP_CONFIG_FILE": os.devnull}  # fmt: skip


def _report(argv: Sequence[str], environment: Mapping[str, str]) -> PipReport:
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(environment), check=False)
    if done.returncode == 0:
        try:
            return documents.parse(PipReport, done.stdout, "pip's report")
        except documents.DocumentError as error:
            raise PackagesError(str(error), "update pip in this environment") from None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["pip printed nothing"]
    if "No module named pip" in errors[-1]:
        raise PackagesError("there is no pip in this environment", f"{sys.executable} -m ensurepip")
    remedy = "name another range; the index is pip's own, or python_packages.index in group_data"
    raise PackagesError(f"pip finds no wheels that fit: {' '.join(errors)[:500]}", remedy)


def _wheel(package: PipPackage) -> Wheel:
    url, archive = package.download_info.url, package.download_info.archive_info
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise PackagesError(
            f"pip takes {parts.path.rpartition('/')[2]} from a file of this machine: no Spark can fetch it",
            "set python_packages.index in group_data to the URL of an index",
        )
    digest = archive and (archive.hashes.get("sha256") or archive.hash.removeprefix("sha256="))
    if not digest:
        raise PackagesError(f"the index gives no SHA-256 of {url}", "use an index that does")
    return Wheel(unquote(parts.path.rpartition("/")[2]), url, digest, _size(url))


def _size(url: str) -> int:
    """Return the bytes of a wheel; 0 where the index does not say: the hash decides, not the size."""
    try:
        answer = httpx.head(url, follow_redirects=True, timeout=10)
        return int(answer.raise_for_status().headers.get("content-length") or 0)
    except (httpx.HTTPError, ValueError):
        return 0
