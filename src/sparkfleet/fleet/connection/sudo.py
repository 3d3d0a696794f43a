"""Commands as root over pyinfra's connection, with a sudo password where one is declared.

pyinfra's ``_use_sudo_password`` is not used: it uploads a script, which a dry run must not do, and shows the
password in the Spark's process list.
"""

from __future__ import annotations

from pyinfra.api.host import Host as PyinfraHost
from pyinfra.connectors.util import CommandOutput

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.fleet.connection import secret_cache
from sparkfleet.fleet.connection.shell import run_shell
from sparkfleet.probe import root_shell
from sparkfleet.probe.answer import sudo_diagnostic

FIELD = "sudo_password"
_REFUSED = "sparkfleet_sudo_refused"


def password(host: PyinfraHost) -> str:
    """Return the sudo password of a Spark; "" when none is declared.

    Raise SparkfleetError when a declared file or command gives no password.
    """
    return secret_cache.read_once(_source(host), field=FIELD)


def run_as_root(
    host: PyinfraHost, command: str, *, timeout_s: int, stdin: str | None = None
) -> tuple[bool, CommandOutput]:
    """Run shell text in which ``r`` runs a program as root; return whether it succeeded, and its output.

    Raise SparkfleetError when sudo is refused, TimeoutError when it takes too long.
    """
    refused: Diagnostic | None = getattr(host, _REFUSED, None)
    if refused:
        raise SparkfleetError(refused)  # no second attempt: the account could be locked
    proof = password(host)
    text = f"{root_shell.root_function(password=bool(proof))}; {command}"
    sent = f"{proof}\n{stdin or ''}" if proof else stdin
    ok, output = run_shell(host, text, stdin=sent, timeout_s=timeout_s)
    why = None if ok else root_shell.refusal_reason("\n".join(output.stderr_lines))
    if why is None:
        return ok, output
    diagnostic = sudo_diagnostic(host.name, why, _source(host) if proof else "")
    if proof:
        setattr(host, _REFUSED, diagnostic)
    raise SparkfleetError(diagnostic)


def _source(host: PyinfraHost) -> str:
    return str((host.data.get("sparkfleet") or {}).get(FIELD) or "")
