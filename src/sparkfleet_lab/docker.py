"""The operator's Docker Engine, through its command line: argv in, text out, errors with a remedy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

_NOT_RUNNING = ("Cannot connect to the Docker daemon", "permission denied while trying to connect")


@dataclass(frozen=True)
class Docker:
    """Runs ``docker`` with these arguments; replaced by a recorder in unit tests."""

    program: str = "docker"

    def run(self, *args: str, stdin: bytes | None = None, timeout: float | None = 900) -> str:
        """Return stdout of ``docker ARGS``; any failure is an error with docker's own message."""
        result = self.attempt(*args, stdin=stdin, timeout=timeout)
        if result.returncode != 0:
            raise self.error(args, result.stderr.decode(errors="replace"))
        return result.stdout.decode(errors="replace").strip()

    def ok(self, *args: str) -> bool:
        """Return whether ``docker ARGS`` succeeds."""
        return self.attempt(*args).returncode == 0

    def attempt(
        self, *args: str, stdin: bytes | None = None, timeout: float | None = 900
    ) -> subprocess.CompletedProcess[bytes]:
        """Return the finished process, whatever its exit code."""
        if shutil.which(self.program) is None:
            raise SparkfleetError(
                Diagnostic(
                    "lab",
                    f"{self.program} is not installed",
                    "Docker Engine",
                    "tools/ensure-docker.sh",
                    code="lab-requirement-missing",
                )
            )
        feed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            [self.program, *args], capture_output=True, check=False, timeout=timeout, env=self._env(), **feed
        )

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return ``docker KIND inspect NAME``, or None if it does not exist."""
        result = self.attempt(kind, "inspect", name)
        if result.returncode != 0:
            return None
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found[0] if found else None

    def lines(self, *args: str) -> list[str]:
        """Return the non-empty lines that ``docker ARGS`` prints."""
        return [line for line in self.run(*args).splitlines() if line]

    def require(self) -> None:
        """Raise an error with the next command unless the daemon answers."""
        result = self.attempt("version", "--format", "{{.Server.Version}}", timeout=30)
        if result.returncode != 0:
            raise self.error(("version",), result.stderr.decode(errors="replace"))

    def error(self, args: tuple[str, ...], text: str) -> SparkfleetError:
        """Return the error for a docker command that failed with ``text`` on stderr."""
        output = "\n".join(text.strip().splitlines()[-15:]) or "(no output of docker)"
        remedy = "tools/ensure-docker.sh" if any(text_part in text for text_part in _NOT_RUNNING) else ""
        return SparkfleetError(
            Diagnostic(f"{self.program} {' '.join(args)[:160]}", output, hint=remedy, code="lab-failed")
        )

    def _env(self) -> dict[str, str]:
        # A client without buildx needs this variable for the classic builder.
        builder = {} if os.environ.get("DOCKER_BUILDKIT") else {"DOCKER_BUILDKIT": "0"}
        return {**os.environ, **builder} if not _has_buildx(self.program) else dict(os.environ)


def _has_buildx(program: str) -> bool:
    if program not in _BUILDX:
        result = subprocess.run([program, "buildx", "version"], capture_output=True, check=False)
        _BUILDX[program] = result.returncode == 0
    return _BUILDX[program]


_BUILDX: dict[str, bool] = {}
