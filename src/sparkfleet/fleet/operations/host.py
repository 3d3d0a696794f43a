"""pyinfra operation: Docker where declared, programs, units, directories and declared resources of a host."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Generator, Sequence
from functools import singledispatch

from pyinfra.api.command import FunctionCommand
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.context import host, state

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.operations import docker_install, resource_request
from sparkfleet.fleet.run import executor
from sparkfleet.plan.model import Operation, Step
from sparkfleet.plan.operations import EnableUnit, EnsureDirectory, RemoveDropIn, WriteFile

START = ("set -eu", "umask 022")
"""First lines of the script."""


@executor.own_operation
def prepare() -> Generator[FunctionCommand, None, None]:
    """Install Docker where declared; write programs, valve and recovery unit; create the directories."""
    yield from executor.commands(state, host, Step.DOCKER, docker_install.install)
    yield from executor.commands(state, host, Step.HOST, _prepare)


def _prepare(act: executor.RunContext, operations: tuple[Operation, ...]) -> None:
    act.progress("host", f"executing {len(operations)} operations")
    if lines := script(operations):
        run_script(act.host, lines)
    resource_request.apply(act, operations)


def script(operations: Sequence[Operation]) -> list[str]:
    """Return the shell lines that execute these operations; those of resources have none."""
    lines = [line for one in operations for line in _lines(one)]
    units = dict.fromkeys(unit for one in operations if (unit := _unit(one)))
    if units:
        lines.append("systemctl daemon-reload")
    return lines + [f"systemctl enable --quiet {unit}" for unit in units]


@singledispatch
def _lines(operation: Operation) -> list[str]:
    """Return the shell lines of one operation."""
    del operation
    return []


@_lines.register
def _(operation: WriteFile) -> list[str]:
    """Write the file atomically."""
    path, folder = shlex.quote(operation.path), shlex.quote(operation.path.rsplit("/", 1)[0])
    content = base64.b64encode(operation.content).decode()
    return [
        f"install -d -m 0755 {folder}",
        f"t=$(mktemp {path}.XXXXXX)",
        "base64 -d > \"$t\" <<'CONTENT'",
        *(content[at : at + 1000] for at in range(0, len(content), 1000)),
        "CONTENT",
        f'chmod {operation.mode} "$t"; chown root:root "$t"; sync "$t"; mv -T "$t" {path}',
    ]


@_lines.register
def _(operation: EnsureDirectory) -> list[str]:
    path = shlex.quote(operation.path)
    return [f"install -d -m {operation.mode} -o {operation.user} -g {operation.group} {path}"]


@_lines.register
def _(operation: RemoveDropIn) -> list[str]:
    return [f"rm -f {shlex.quote(operation.path)}"]


def _unit(operation: Operation) -> str:
    """Return the unit that systemd reads again and enables after an operation; "" for none."""
    return operation.unit if isinstance(operation, WriteFile | RemoveDropIn | EnableUnit) else ""


def run_script(host: PyinfraHost, lines: Sequence[str]) -> None:
    """Run shell lines as root. Raise FailedError when one fails."""
    output = remote.run(host, ("/bin/sh", "-s"), stdin="\n".join([*START, *lines]) + "\n")
    if not output.ok:
        errors = output.err.strip().splitlines()
        raise executor.FailedError(
            Diagnostic(
                host.name,
                f"preparing the host failed: {errors[-1] if errors else 'no message'}",
                "a writable file system",
                f"on {host.name}: df -h /usr/local /var/lib; mount | grep 'ro,'; then run again",
                code="host-change-failed",
            )
        )
