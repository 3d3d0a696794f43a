"""The sender of one copy as a unit of its own: begun for one receiver, ended with the copy, whoever watches.

Its request, with the copy's key, lies in ``/run/sparkfleet`` (memory, root's alone) until the sender has read
it; where it listens is written beside. Then it becomes the login user, who owns the files.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from sparkfleet.contract import codec
from sparkfleet.contract.transfer import SenderListens, SendRequest
from sparkfleet.onhost.artifacts.copy.send import Sender, Shown
from sparkfleet.onhost.machine import files, jobs
from sparkfleet.onhost.machine.system import PROGRAM

LISTENS_WITHIN_S = 15.0
LONGEST_S = 24 * 3600
"""Seconds after which systemd ends a sender, whatever it does."""


class NoSenderError(ValueError):
    """The sender could not begin."""


def begin(request: SendRequest) -> SenderListens:
    """Start the sender of ``request.id`` unless it runs; return where it listens."""
    job = request.id
    answer = _places(job)
    if not jobs.is_going_on(job):
        files.remove(answer)
        jobs.sweep_secrets()
        jobs.keep_secret(job, codec.dumps(request), 0, jobs.SEND_REQUEST)
        jobs.start(
            job,
            [PROGRAM, "copy-send", job],
            f"RuntimeMaxSec={LONGEST_S}",
            f"ExecStopPost=/bin/rm -f {answer}",
        )
    end = time.monotonic() + LISTENS_WITHIN_S
    while time.monotonic() < end:
        listens = files.read_document(SenderListens, answer)
        if listens:
            return listens
        if not jobs.is_going_on(job):
            break
        time.sleep(0.05)
    raise NoSenderError("the sender did not begin: journalctl -u " + jobs.unit(job))


def run(job: str) -> int:
    """Be the sender: listen, become the login user, serve to the end."""
    secret = jobs.secret(job, jobs.SEND_REQUEST)
    request = codec.loads(SendRequest, secret.read_text(encoding="utf-8"), str(secret))
    files.remove(secret)
    shown = tuple(Shown(file.path, file.size) for file in request.files)
    sender = Sender(shown, frozenset(request.peers), request.transfer_key)
    listeners = sender.listen(request.addresses)
    if not listeners:
        raise NoSenderError(f"none of {', '.join(request.addresses)} is an address of this Spark")
    files.write_json(_places(job), SenderListens(tuple(listeners)).to_json())
    os.setgroups([])
    os.setgid(request.user.gid)
    os.setuid(request.user.uid)
    sender.serve()
    sender.give_back_cache()
    return 0


def end(job: str) -> None:
    """Stop a sender that nobody needs any more; none there is fine."""
    subprocess.run(["systemctl", "stop", jobs.unit(job)], capture_output=True, check=False)


def _places(job: str) -> Path:
    return jobs.RUN_DIR / f"{job}.listens"
