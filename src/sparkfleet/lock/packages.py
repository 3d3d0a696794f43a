"""Resolves Python packages to wheels with hashes, by pip, for the Python, machine and engine of an image.

pip runs on this machine, which needs neither the image nor Docker. The packages in the image are not known
here, so all required wheels are pinned; the installation uses those that the image lacks.
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

from sparkfleet.config.lock_data import LockedPackages
from sparkfleet.desired_state import PackageIndex
from sparkfleet.desired_state.derived_packages import DerivedPackages, Wheel
from sparkfleet.lock import documents
from sparkfleet.lock.documents import PipPackage, PipReport
from sparkfleet.lock.errors import PackagesError

INSTALLER = "pip"
NEWEST_GLIBC, OLDEST_GLIBC = 34, 17
"""Minor versions of glibc in manylinux tags; every image has at least the newest (Ubuntu 22.04 has 2.35)."""
_OF_INDEXES = ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "CONFIG_FILE")


def resolve(
    required: Sequence[tuple[str, str]], engine_requires: Mapping[str, str], index: PackageIndex
) -> LockedPackages:
    """Return the packages pinned, with their dependencies and the pip that installs them.

    ``engine_requires``: packages with version ranges that the image's engine requires; they constrain the
    resolution. Raise ``PackagesError``.
    """
    install = [f"{name}{version_range}" for name, version_range in required]
    named = {name.lower().replace("_", "-") for name, _ in required}
    with tempfile.TemporaryDirectory(prefix="sparkfleet-lock-") as scratch:
        constraints = Path(scratch) / "constraints.txt"
        lines = (
            f"{name}{ranges}\n" for name, ranges in engine_requires.items() if ranges and name not in named
        )
        constraints.write_text("".join(lines))
        argv = [*_pip_argv(index), "--constraint", str(constraints), "--target", f"{scratch}/target"]
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
    """Return pip's environment: a declared index is the only one that pip uses."""
    if not index.url:
        return dict(os.environ)
    places = {f"PIP_{name}" for name in _OF_INDEXES}
    return {**{key: value for key, value in os.environ.items() if key not in places},
            "PIP_CONFIG_FILE": os.devnull}  # fmt: skip


def _report(argv: Sequence[str], environment: Mapping[str, str]) -> PipReport:
    process = subprocess.run(argv, capture_output=True, text=True, env=dict(environment), check=False)
    if process.returncode == 0:
        try:
            return documents.parse(PipReport, process.stdout, "pip's report")
        except documents.DocumentError as error:
            raise PackagesError(str(error), "update pip in this environment") from None
    lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["pip printed nothing"]
    if "No module named pip" in errors[-1]:
        raise PackagesError("pip is not installed in this environment", f"{sys.executable} -m ensurepip")
    remedy = "change the version range, or set another index: python_packages.index in group_data"
    raise PackagesError(f"pip found no matching wheels: {' '.join(errors)[:500]}", remedy)


def _wheel(package: PipPackage) -> Wheel:
    url, archive = package.download_info.url, package.download_info.archive_info
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise PackagesError(
            f"pip resolved {parts.path.rpartition('/')[2]} to a local file, which no Spark can download",
            "set python_packages.index in group_data to the URL of an index",
        )
    digest = archive and (archive.hashes.get("sha256") or archive.hash.removeprefix("sha256="))
    if not digest:
        raise PackagesError(f"the index has no SHA-256 of {url}", "use an index with SHA-256 hashes")
    return Wheel(unquote(parts.path.rpartition("/")[2]), url, digest, _size(url))


def _size(url: str) -> int:
    """Return the size of a wheel in bytes; 0 if it is unknown, which is harmless: the hash is verified."""
    try:
        response = httpx.head(url, follow_redirects=True, timeout=10)
        return int(response.raise_for_status().headers.get("content-length") or 0)
    except (httpx.HTTPError, ValueError):
        return 0
