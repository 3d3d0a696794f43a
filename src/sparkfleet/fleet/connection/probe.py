"""Probe a host over pyinfra's connection: one remote command, every failure becomes a Diagnostic."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from paramiko import SSHException
from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.fleet.connection import sudo
from sparkfleet.fleet.connection.shell import printed_instead, run_shell
from sparkfleet.probe import frame
from sparkfleet.probe.command import has_no_python, probe_command
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.preflight import ObservedPreflight, Unread, read_preflight
from sparkfleet.probe.response import read_response, runtimes_to_read

PROBE_TIMEOUT_S = 60
"""Seconds until a Spark that does not respond is reported as unknown."""


def observe(host: PyinfraHost, request: ProbeRequest) -> Observed | Diagnostic:
    """Return the observed state of a host, or why it is unknown. Read only.

    A second probe follows if what runs is in a runtime that no declared service has.
    """
    seen = _observe(host, request)
    needed = runtimes_to_read(host.name, request, seen)
    if isinstance(needed, Diagnostic):
        return needed
    return seen if needed == request.runtimes else _observe(host, replace(request, runtimes=needed))


def _observe(host: PyinfraHost, request: ProbeRequest) -> Observed | Diagnostic:
    response = _ask(host, request)
    return response if isinstance(response, Diagnostic) else read_response(host.name, response)


@dataclass(frozen=True)
class PreflightProbe:
    """Result of a preflight probe, and the offset of the Spark's clock."""

    seen: ObservedPreflight | Diagnostic
    skew_s: float = 0.0
    """Seconds that the Spark's clock is ahead of this machine's, ± ``unsure_s``."""
    unsure_s: float = 0.0


def preflight(host: PyinfraHost, request: ProbeRequest) -> PreflightProbe:
    """Probe a Spark for the preflight. Read only."""
    begin = time.time()
    response = _ask(host, request)
    if isinstance(response, Diagnostic):
        return PreflightProbe(response)
    end = time.time()
    seen = read_preflight(host.name, response)
    if isinstance(seen, Diagnostic) or isinstance(seen.clock, Unread):
        return PreflightProbe(seen)
    # The clock is read at the end of the probe: the rest of the time is network latency.
    unsure = max(0.0, end - begin - seen.clock.took_s) / 2
    return PreflightProbe(seen, seen.clock.now - (end - unsure), unsure)


def _ask(host: PyinfraHost, request: ProbeRequest) -> str | Diagnostic:
    """Return the probe program's output, or why there is none."""
    nonce = frame.new_nonce()
    try:
        if sudo.password(host):
            command = probe_command(request, nonce, password=True)
            _, output = sudo.run_as_root(host, command, timeout_s=PROBE_TIMEOUT_S)
        else:
            _, output = run_shell(host, probe_command(request, nonce), timeout_s=PROBE_TIMEOUT_S)
    except SparkfleetError as error:
        return error.diagnostic
    except (TimeoutError, OSError, EOFError, SSHException) as error:
        return Diagnostic(
            host.name,
            f"the connection was lost during the probe: {error or type(error).__name__}",
            "a response within a minute",
            f"ssh {host.name} true; then run again",
            code="connection-lost",
        )
    response = frame.find(output.stdout_lines, nonce)
    if response is not None and response.text:
        return response.text
    if has_no_python(output.stdout_lines):
        return Diagnostic(
            host.name,
            "python3 is not installed",
            "python3 on the Spark",
            "sudo apt-get install python3",
            code="python-missing",
        )
    return Diagnostic(
        host.name,
        f"no probe result; {printed_instead(output)}",
        "a login shell that runs commands",
        f"ssh {host.name} python3 --version",
        code="login-shell-silent",
    )
