"""Operation: programs, units and directories that services stand on."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import FunctionCommand
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.operations import docker_install, resource_request
from sparkfleet.fleet.run import executor, spark_plan
from sparkfleet.plan import desired, host_changes
from sparkfleet.plan.model import Entry, Step

START = ("set -eu", "umask 022")
"""First lines of the script."""


@operation()
def prepared() -> Generator[FunctionCommand, None, None]:
    """Put Docker (where declared), our programs, valve, recovery unit and the directories in place."""
    yield from executor.commands(state, host, Step.DOCKER, docker_install.install)
    yield from executor.commands(state, host, Step.HOST, _prepare)


def _prepare(act: executor.Acting, entries: tuple[Entry, ...]) -> None:
    keys = {change.key for entry in entries for change in entry.steps(Step.HOST)}
    act.tell("host", f"{len(keys)} to put in place")
    lines = [*START]
    for file in host_changes.managed_files():
        if file.path in keys:
            lines += _file_lines(file)
    spec = spark_plan.declared(act.host)
    user = spark_plan.login_user(act.host)
    for directory in desired.directories(spec, user):
        if directory.path in keys:
            path = shlex.quote(user.expand(directory.path))
            lines += [f"install -d -m {directory.mode} -o {directory.user} -g {directory.group} {path}"]
    recover = host_changes.RECOVER_UNIT
    drop_ins = [key for key in keys if f"{recover}.d/" in key]
    lines += [f"rm -f {shlex.quote(path)}" for path in sorted(drop_ins)]
    if drop_ins or recover in keys or f"{host_changes.UNIT_DIR}/{recover}" in keys:
        lines += ["systemctl daemon-reload", f"systemctl enable --quiet {recover}"]
    if len(lines) > len(START):
        _run_script(act, lines)
    resource_request.carry_out(
        act, user, tuple(change for entry in entries for change in entry.steps(Step.HOST))
    )


def _run_script(act: executor.Acting, lines: list[str]) -> None:
    answer = remote.run(act.host, ("/bin/sh", "-s"), stdin="\n".join(lines) + "\n", timeout=120)
    if not answer.ok:
        said = answer.err.strip().splitlines()
        raise executor.FailedError(
            Diagnostic(
                act.host.name,
                f"preparing the host failed: {said[-1] if said else 'no message'}",
                "a writable system",
                f"on {act.host.name}: df -h /usr/local /var/lib; mount | grep 'ro,'; then run again",
            )
        )


def put_in_place(host: PyinfraHost, managed: Sequence[host_changes.ManagedFile]) -> None:
    """Put files of ours in place, each whole or not at all. Raise FailedError if that does not work."""
    lines = ["set -eu", "umask 022", *(line for file in managed for line in _file_lines(file))]
    answer = remote.run(host, ("/bin/sh", "-s"), stdin="\n".join(lines) + "\n")
    if not answer.ok:
        found = f"our programs could not be put in place: {answer.err.strip()[-300:]}"
        raise executor.FailedError(Diagnostic(host.name, found, "a writable system", "df -h /usr/local"))


def _file_lines(file: host_changes.ManagedFile) -> list[str]:
    """Return shell lines that put a file in place whole or not at all."""
    path, folder = shlex.quote(file.path), shlex.quote(file.path.rsplit("/", 1)[0])
    content = base64.b64encode(file.content).decode()
    return [
        f"install -d -m 0755 {folder}",
        f"t=$(mktemp {path}.XXXXXX)",
        "base64 -d > \"$t\" <<'CONTENT'",
        *(content[at : at + 1000] for at in range(0, len(content), 1000)),
        "CONTENT",
        f'chmod {file.mode} "$t"; chown root:root "$t"; sync "$t"; mv -T "$t" {path}',
    ]
