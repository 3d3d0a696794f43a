"""Jobs that outlive the operator's connection: their units, and their secrets.

A secret lies in ``/run/sparkfleet/<id>.<kind>``: in memory, readable by its one reader, gone with the job.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from sparkfleet.contract import command
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.memory_max import JOB_MIB, memory_max

RUN_DIR = Path("/run/sparkfleet")
HUB_TOKEN, TRANSFER_KEY, SEND_REQUEST = SECRETS = ("token", "key", "request")
"""Kinds of secrets: the hub's token, the key of a copy, and the request to its sender, which has that key."""
SYSTEMD_S = 180.0
"""Seconds for systemd to answer."""
BEGINS_WITHIN_S = 60.0
"""Seconds between a secret's arrival and its job's start, at most."""


def unit(job: str) -> str:
    """Return the unit that a job runs in."""
    return f"sparkfleet-stage-{job}.service"


def is_going_on(job: str) -> bool:
    """Return whether a job runs; one that systemd does not answer for may run."""
    argv = ["systemctl", "is-active", "--quiet", unit(job)]
    return command.run(argv, SYSTEMD_S).code in {0, command.TIMED_OUT}


def secret(job: str, kind: str = HUB_TOKEN) -> Path:
    """Return the path of a job's secret."""
    return RUN_DIR / f"{job}.{kind}"


def forget_secrets(job: str) -> None:
    """Remove all of a job's secrets."""
    for kind in SECRETS:
        files.remove(secret(job, kind))


def keep_secret(job: str, text: str, uid: int, kind: str = HUB_TOKEN) -> None:
    """Write a job's secret for its one reader."""
    RUN_DIR.mkdir(mode=0o755, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(secret(job, kind), flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchown(file.fileno(), uid, -1)
        file.write(text)


def sweep_secrets() -> None:
    """Remove the secret of a request that was cut off before its job began."""
    for path in (path for kind in SECRETS for path in RUN_DIR.glob(f"*.{kind}")):
        try:
            old = time.time() - path.stat().st_mtime > BEGINS_WITHIN_S
        except OSError:
            continue
        if old and not is_going_on(path.stem):
            files.remove(path)


def start(job: str, argv: Sequence[str], *properties: str) -> None:
    """Run a command as the job's unit. When that fails, remove the secrets and raise SparkfleetError."""
    run = ["systemd-run", "--quiet", "--collect", f"--unit={unit(job)}", "--property=Nice=5"]
    # However the job ends, SIGKILL included:
    run += ["--property=ExecStopPost=/bin/rm -f " + " ".join(str(secret(job, kind)) for kind in SECRETS)]
    run += [f"--property={entry}" for entry in (memory_max(JOB_MIB), *properties)]
    run += ["/usr/bin/python3", "-I", "-B", *argv]
    done = command.run(run, SYSTEMD_S)
    if done.code:
        forget_secrets(job)
        problem = f"no answer within {SYSTEMD_S:.0f} s" if done.code == command.TIMED_OUT else done.text
        hint = f"journalctl -u {unit(job)}, then run again"
        raise SparkfleetError(Diagnostic(unit(job), f"systemd-run: {problem}", hint=hint, code="unit-failed"))
