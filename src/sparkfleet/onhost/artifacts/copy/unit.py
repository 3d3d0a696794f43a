"""The sender of one copy as a systemd unit: started for one receiver, stopped after the copy.

Its request, with the copy's key, is in ``/run/sparkfleet`` (memory, readable by root alone) until the sender
has read it. The sender writes its listeners to a file there, then becomes the login user, who owns the files.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from sparkfleet.contract import codec, command
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.transfer import SenderListens, SendRequest
from sparkfleet.onhost.artifacts.copy.send import Sender
from sparkfleet.onhost.machine import files, jobs
from sparkfleet.onhost.machine.system import PROGRAM

LISTENS_WITHIN_S = 15.0
LONGEST_S = 24 * 3600
"""Seconds after which systemd stops a sender in any case."""


class NoSenderError(SparkfleetError):
    """The sender could not start."""

    def __init__(self, job: str, found: str) -> None:
        """Name the sender's unit."""
        hint = f"journalctl -u {jobs.unit(job)}, then run again"
        super().__init__(Diagnostic(jobs.unit(job), found, hint=hint, code="staging-failed"))


def begin(request: SendRequest) -> SenderListens:
    """Start the sender of ``request.id`` unless it runs; return its listeners."""
    job = request.id
    path = _listeners_path(job)
    if not jobs.is_going_on(job):
        files.remove(path)
        jobs.sweep_secrets()
        jobs.keep_secret(job, codec.dumps(request), 0, jobs.SEND_REQUEST)
        jobs.start(
            job,
            [PROGRAM, "copy-send", job],
            f"RuntimeMaxSec={LONGEST_S}",
            f"ExecStopPost=/bin/rm -f {path}",
        )
    end = time.monotonic() + LISTENS_WITHIN_S
    while time.monotonic() < end:
        listens = files.read_document(SenderListens, path)
        if listens:
            return listens
        if not jobs.is_going_on(job):
            break
        time.sleep(0.05)
    raise NoSenderError(job, "the sender did not start")


def run(job: str) -> int:
    """Run as the sender: listen, become the login user, serve until the copy has ended."""
    secret = jobs.secret(job, jobs.SEND_REQUEST)
    request = codec.loads(SendRequest, secret.read_text(encoding="utf-8"), str(secret))
    files.remove(secret)
    sender = Sender(request.files, frozenset(request.peers), request.transfer_key)
    listeners = sender.listen(request.addresses)
    if not listeners:
        raise NoSenderError(job, f"none of {', '.join(request.addresses)} is an address of this Spark")
    files.write_document(_listeners_path(job), SenderListens(tuple(listeners)))
    os.setgroups([])
    os.setgid(request.user.gid)
    os.setuid(request.user.uid)
    sender.serve()
    sender.drop_cache()
    return 0


def end(job: str) -> None:
    """Stop a sender, if it runs."""
    command.run(["systemctl", "stop", jobs.unit(job)], jobs.SYSTEMD_S)  # systemd stops it also after that


def _listeners_path(job: str) -> Path:
    return jobs.RUN_DIR / f"{job}.listens"
