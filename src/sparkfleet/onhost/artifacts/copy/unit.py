"""The sender of one copy as a unit of its own: begun for one receiver, ended with the copy, whoever watches.

Its request, with the token, lies in ``/run/sparkfleet`` (memory, root's alone) until the sender has read it;
where it listens is written beside. Then it becomes the login user, who owns the files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.copy.send import Sender, Shown
from sparkfleet.onhost.machine import files, jobs
from sparkfleet.onhost.machine.system import PROGRAM

LISTENS_WITHIN_S = 15.0
LONGEST_S = 24 * 3600
"""Seconds after which systemd ends a sender, whatever it does."""


class NoSenderError(ValueError):
    """The sender could not begin."""


def begin(request: dict[str, Any]) -> list[list[Any]]:
    """Start the sender of ``request["id"]`` unless it runs; return where it listens: address and port each.

    ``request``: ``addresses`` to listen on, ``peers`` that may call, ``token``, ``user``, and ``files`` with
    ``path`` and ``size``.
    """
    job = str(request["id"])
    if not re.fullmatch(r"send-[a-z0-9-]{1,60}", job):
        raise NoSenderError(f"bad id {job!r}")
    answer = _places(job)
    if not jobs.is_going_on(job):
        files.remove(answer)
        jobs.sweep_secrets()
        jobs.keep_secret(job, json.dumps(request), 0)
        jobs.start(
            job,
            [PROGRAM, "copy-send", job],
            f"RuntimeMaxSec={LONGEST_S}",
            f"ExecStopPost=/bin/rm -f {answer}",
        )
    end = time.monotonic() + LISTENS_WITHIN_S
    while time.monotonic() < end:
        said = files.read_json(answer)
        if said:
            return list(said["listeners"])
        if not jobs.is_going_on(job):
            break
        time.sleep(0.05)
    raise NoSenderError("the sender did not begin: journalctl -u " + jobs.unit(job))


def run(job: str) -> int:
    """Be the sender: listen, become the login user, serve to the end."""
    secret = jobs.secret(job)
    request = json.loads(secret.read_text(encoding="utf-8"))
    files.remove(secret)
    shown = tuple(Shown(file["path"], int(file["size"])) for file in request["files"])
    sender = Sender(shown, frozenset(request["peers"]), request["token"])
    listeners = sender.listen(request["addresses"])
    if not listeners:
        raise NoSenderError(f"none of {', '.join(request['addresses'])} is an address of this Spark")
    files.write_json(_places(job), {"listeners": listeners})
    user = request["user"]
    os.setgroups([])
    os.setgid(user["gid"])
    os.setuid(user["uid"])
    sender.serve()
    sender.give_back_cache()
    return 0


def end(job: str) -> None:
    """Stop a sender that nobody needs any more; none there is fine."""
    subprocess.run(["systemctl", "stop", jobs.unit(job)], capture_output=True, check=False)


def _places(job: str) -> Path:
    return jobs.RUN_DIR / f"{job}.listens"
