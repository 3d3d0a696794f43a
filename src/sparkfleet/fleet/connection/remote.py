"""Calls of the on-host programs over pyinfra's connection: argv in, text out, quoted once here."""

from __future__ import annotations

import base64
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from paramiko import SSHException
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host as PyinfraHost

from sparkfleet import interrupts, zipapp
from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError, Document
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.rollout import LOST, CommandRefused, Event, JobResult, JobStarted
from sparkfleet.fleet.connection.shell import printed_instead
from sparkfleet.fleet.connection.sudo import run_as_root
from sparkfleet.plan.host_changes import PROGRAM_PATH
from sparkfleet.probe import frame

D = TypeVar("D", bound=Document)
R = TypeVar("R", bound=JobResult)
PROGRAM = ("/usr/bin/python3", "-I", "-B", PROGRAM_PATH)
RECONNECT_FOR_S = 180
"""Seconds of attempts to reconnect, while the change continues on the Spark."""
RESPONSE_S = 120
"""Time limit of a command in seconds; longer jobs run detached and are followed."""
TRIES = 3
"""Attempts of a command whose connection broke."""
SETTLE_S = 0.1
"""Seconds until a connection whose channel was closed is marked as closed, too."""
_UNKNOWN_COMMAND = re.compile(rf"invalid choice: |can't open file '{re.escape(PROGRAM_PATH)}'")
"""What Python, or the parser of older programs, prints where a command is not known."""
_JOB = re.compile(r"stage(?=-)|fabric(?=-[0-9a-f]{12}$)")
"""Ids of jobs; others are rollouts, whose ids begin with the name of the service."""


_DRAINED = "s=$?; [ $s = 0 ] || cat >/dev/null; exit $s"
"""Drains stdin: a command that fails before it has read its input must not look like a broken connection."""


@dataclass(frozen=True)
class CommandOutput:
    """Result of a remote command: what its frame contains. Without a frame it is not ``ok``."""

    ok: bool
    out: str
    err: str


class ConnectionLostError(Exception):
    """The connection to a Spark broke; the job there continues."""


def run(
    host: PyinfraHost, argv: Sequence[str], stdin: str | None = None, timeout: int = RESPONSE_S
) -> CommandOutput:
    """Run argv as root on a Spark. argv must be idempotent.

    If the connection breaks, reconnect and run argv again, since it may have run in part. Raise
    ConnectionLostError when no connection can be established, or when it breaks every time.
    """
    for _ in range(TRIES - 1):
        try:
            return run_once(host, argv, stdin, timeout)
        except ConnectionLostError:
            reconnect(host)
    return run_once(host, argv, stdin, timeout)


def run_once(
    host: PyinfraHost, argv: Sequence[str], stdin: str | None = None, timeout: int = RESPONSE_S
) -> CommandOutput:
    """Run argv as root on a Spark.

    Raise ConnectionLostError when the connection breaks, SparkfleetError when sudo is refused.
    """
    nonce = frame.new_nonce()
    command = f"r {shlex.join(frame.wrap(nonce, argv))}; {_DRAINED}"
    try:
        ok, output = run_as_root(host, command, stdin=stdin, timeout_s=timeout)
    except (TimeoutError, OSError, EOFError, SSHException) as error:
        raise ConnectionLostError(str(error) or type(error).__name__) from error
    framed = frame.find(output.stdout_lines, nonce)
    errors = "\n".join(output.stderr_lines)
    if framed is not None:
        return CommandOutput(framed.code == 0, framed.text, errors)
    if not ok and connection_was_lost(host):
        raise ConnectionLostError("it was cut")
    return CommandOutput(False, "", errors or f"no output of the program; {printed_instead(output)}")


def connection_was_lost(host: PyinfraHost) -> bool:
    """Tell whether a command that failed has failed with its connection: pyinfra itself does not tell."""
    client = getattr(host.connector, "client", None)
    if client is None:
        return False  # not SSH
    time.sleep(SETTLE_S)
    transport = client.get_transport()
    return transport is None or not transport.is_active()


def program(
    host: PyinfraHost, *argv: str, data: Document | None = None, timeout: int = RESPONSE_S
) -> CommandOutput:
    """Run a command of the on-host programs with ``data`` as JSON on stdin."""
    with interrupts.changing(host.name):
        return run(
            host, (*PROGRAM, *argv), stdin=None if data is None else codec.dumps(data), timeout=timeout
        )


def update_programs(host: PyinfraHost) -> None:
    """Replace the on-host programs by those of this sparkfleet. Raise SparkfleetError if that fails."""
    path = shlex.quote(PROGRAM_PATH)
    steps = (f"t=$(mktemp {path}.XXXXXX)", 'base64 -d > "$t"', 'chmod 0755 "$t"', f'mv -T "$t" {path}')
    content = base64.encodebytes(zipapp.build()).decode()
    output = run(host, ("/bin/sh", "-c", " && ".join(steps)), stdin=content)
    if not output.ok:
        message = f"programs not replaced: {(output.err or output.out).strip()[-300:] or 'no message'}"
        location, hint = f"{host.name}: {PROGRAM_PATH}", "correct what the message names, then run again"
        raise SparkfleetError(Diagnostic(location, message, hint=hint, code="host-change-failed"))


def start_job(
    host: PyinfraHost, command: str, request: Document, failed: str, code: str = "operation-failed"
) -> None:
    """Start a job on the Spark. Raise SparkfleetError when it does not start; arguments as of ``refusal``."""
    output = program(host, command, data=request)
    if not output.ok:
        raise SparkfleetError(refusal(output, host.name, failed, code=code))
    document(JobStarted, host, output.out)


def refusal(
    output: CommandOutput, where: str, failed: str, hint: str = "run again", code: str = "operation-failed"
) -> Diagnostic:
    """Return why a program on a Spark did not do what was requested: the diagnostic that it printed.

    ``failed`` says what it did not do; ``hint`` and ``code`` apply where it printed another text.
    """
    refused = _printed(output)
    if refused is None:
        text = _last_line(output.err) or _last_line(output.out) or "no message"
        return Diagnostic(where, f"{failed}: {text[-300:]}", hint=hint, code=code)
    location = f"{where}: {refused.location}" if refused.location else where
    message = f"{failed}: {refused.message}"
    return replace(refused, location=location, message=message, hint=refused.hint or hint)


def programs_outdated(host: PyinfraHost, output: CommandOutput) -> Diagnostic | None:
    """Return that a host has no programs that know the command; None if they do."""
    if not _UNKNOWN_COMMAND.search(output.err):
        return None
    message = "the programs on it are missing, or older than this sparkfleet"
    hint = "pyinfra INVENTORY deploys/prepare.py, which leaves engines alone; then run again"
    return Diagnostic(host.name, message, hint=hint, code="programs-outdated")


def _printed(output: CommandOutput) -> Diagnostic | None:
    """Return the diagnostic with which a program refused; None if it printed none."""
    try:
        return codec.loads(CommandRefused, _last_line(output.out)).diagnostic
    except ContractError:
        return None


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]


def document(kind: type[D], host: PyinfraHost, text: str) -> D:
    """Return the document that a program printed last. Raise SparkfleetError for another shape."""
    return _read(host, kind, partial(codec.loads, kind, _last_line(text)))


def parse(kind: type[D], host: PyinfraHost, data: object) -> D:
    """Return the document of a JSON value that a program printed. Raise SparkfleetError for another shape."""
    return _read(host, kind, partial(kind.from_json, data))


def _read(host: PyinfraHost, kind: type[D], reader: Callable[[str], D]) -> D:
    try:
        return reader(f"{host.name}: {kind.NAME}")
    except ContractError as error:
        raise SparkfleetError(error.diagnostic) from None


def reconnect(host: PyinfraHost, for_s: float = RECONNECT_FOR_S) -> None:
    """Reconnect. Raise ConnectionLostError when that does not work within ``for_s`` seconds."""
    end = time.monotonic() + for_s
    while True:
        try:
            host.connector.connect()
        except (ConnectError, OSError, EOFError, SSHException) as error:
            if time.monotonic() > end:
                raise ConnectionLostError(f"no connection for {for_s:g} s: {error}") from error
            time.sleep(2)
        else:
            return


def follow(
    host: PyinfraHost,
    job: str,
    kind: type[R],
    report: Callable[[str], None],
    show: Callable[[Event], None],
    *,
    wait_s: int = 10,
    between: Callable[[], None] = lambda: None,
) -> R:
    """Follow a job on the Spark to its end, and return its result; ``show`` gets every event before it.

    ``between`` is called before each question, every ``wait_s`` seconds at least.

    A lost connection is reopened; the job does not depend on it. The outcome is LOST where the programs on
    the Spark give no result.
    """
    with interrupts.changing(host.name):
        since = 0
        job_kind = _JOB.match(job)
        command = f"{job_kind[0]}-follow" if job_kind else "follow"
        while True:
            between()
            argv = (*PROGRAM, command, job, "--since", str(since), "--wait", str(wait_s))
            try:
                output = run_once(host, argv, timeout=wait_s + 30)
            except ConnectionLostError as error:
                report(f"connection lost ({error}); the operation continues on the Spark; reconnecting")
                reconnect(host)
                continue
            if not output.ok:
                return _lost(kind, output)
            for line in output.out.splitlines():
                event = document(Event, host, line)
                if event.result is not None:
                    return parse(kind, host, event.result)
                show(event)
                if not event.stalled:
                    since = event.n + 1
                    continue
                # It was stopped by hand, or a reboot is not over yet.
                resumed = run(host, (*PROGRAM, "resume", job))
                if not resumed.ok:
                    return _lost(kind, resumed)


def _lost(kind: type[R], output: CommandOutput) -> R:
    text = output.err.strip() or output.out.strip() or "no answer"
    return kind(LOST, _printed(output) or Diagnostic("", text, code="job-lost"))
