"""Commands as root over pyinfra's connection, with a sudo password where one is declared.

pyinfra's ``_use_sudo_password`` is not used: it uploads a script, which a dry run must not do, and shows the
password in the Spark's process list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyinfra.api.host import Host as PyinfraHost
from pyinfra.connectors.util import CommandOutput

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.fleet.connection import secret_cache
from sparkfleet.fleet.connection.shell import run_shell
from sparkfleet.probe import root_shell
from sparkfleet.probe.response import sudo_diagnostic

FIELD = "sudo_password"
_REFUSED = "sparkfleet_sudo_refused"


def password(host: PyinfraHost) -> str:
    """Return the sudo password of a Spark; "" when none is declared.

    Raise SparkfleetError when a declared file or command gives no password.
    """
    return secret_cache.read_once(_source(host), field=FIELD)


@dataclass(frozen=True)
class RootCommand:
    """Shell text that runs a program as root, and its stdin."""

    text: str
    stdin: str = field(repr=False)


def as_root(host: PyinfraHost, command: str, stdin: str = "") -> RootCommand:
    """Return shell text in which ``r`` runs a program as root, with its stdin.

    Raise SparkfleetError when sudo was refused before: the account could be locked.
    """
    refused: Diagnostic | None = getattr(host, _REFUSED, None)
    if refused:
        raise SparkfleetError(refused)
    proof = password(host)
    text = f"{root_shell.root_function(password=bool(proof))}; {command}"
    return RootCommand(text, f"{proof}\n{stdin}" if proof else stdin)


def require_accepted(host: PyinfraHost, stderr: str) -> None:
    """Raise SparkfleetError if sudo refused, by the stderr of a failed command."""
    why = root_shell.refusal_reason(stderr)
    if why is None:
        return
    proof = password(host)
    diagnostic = sudo_diagnostic(host.name, why, _source(host) if proof else "")
    if proof:
        setattr(host, _REFUSED, diagnostic)
    raise SparkfleetError(diagnostic)


def run_as_root(
    host: PyinfraHost, command: str, *, timeout_s: int, stdin: str | None = None
) -> tuple[bool, CommandOutput]:
    """Run shell text in which ``r`` runs a program as root; return whether it succeeded, and its output.

    Raise SparkfleetError when sudo is refused, TimeoutError when it takes too long.
    """
    root = as_root(host, command, stdin or "")
    ok, output = run_shell(host, root.text, stdin=root.stdin or stdin, timeout_s=timeout_s)
    if not ok:
        require_accepted(host, "\n".join(output.stderr_lines))
    return ok, output


def _source(host: PyinfraHost) -> str:
    return str((host.data.get("sparkfleet") or {}).get(FIELD) or "")
