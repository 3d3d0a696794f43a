"""Commands as root over pyinfra's connection, with the password of a Spark's sudo where one is declared.

pyinfra's own way (``_use_sudo_password``) is not used: it uploads a script, which a dry run must not, and
puts the password into the Spark's list of processes.
"""

from __future__ import annotations

from pyinfra.api.host import Host as PyinfraHost
from pyinfra.connectors.util import CommandOutput

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.fleet.connection import secret_cache
from sparkfleet.fleet.connection.shell import ask
from sparkfleet.probe import root_shell
from sparkfleet.probe.observed import sudo_diagnostic

FIELD = "sudo_password"
_REFUSED = "sparkfleet_sudo_refused"


def password(host: PyinfraHost) -> str:
    """Return the password for sudo on a Spark; "" when none is given.

    Raise SparkfleetError when what was declared gives nothing.
    """
    return secret_cache.read_once(_source(host), field=FIELD)


def ask_as_root(
    host: PyinfraHost, command: str, *, timeout_s: int, stdin: str | None = None
) -> tuple[bool, CommandOutput]:
    """Run shell text in which ``r`` runs a program as root; return whether it succeeded, and what it said.

    Raise SparkfleetError when sudo is refused, TimeoutError when it takes too long.
    """
    refused: Diagnostic | None = getattr(host, _REFUSED, None)
    if refused:
        raise SparkfleetError(refused)  # not a second time: a Spark may lock out who is wrong too often
    proof = password(host)
    text = f"{root_shell.define_r(password=bool(proof))}; {command}"
    sent = f"{proof}\n{stdin or ''}" if proof else stdin
    ok, output = ask(host, text, stdin=sent, timeout_s=timeout_s)
    why = None if ok else root_shell.reason("\n".join(output.stderr_lines))
    if why is None:
        return ok, output
    diagnostic = sudo_diagnostic(host.name, why, _source(host) if proof else "")
    if proof:
        setattr(host, _REFUSED, diagnostic)
    raise SparkfleetError(diagnostic)


def _source(host: PyinfraHost) -> str:
    return str((host.data.get("sparkfleet") or {}).get(FIELD) or "")
