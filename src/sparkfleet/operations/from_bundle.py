"""Models from the bundle on this machine to a Spark that reaches no hub: one copy, over the SSH connection.

The same sender and receiver as between two Sparks, so that it is hashed on arrival and goes on after a cut.
The sender is a process of its own: reading files must not hold up the other Sparks of the run.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparkfleet.offline import models
from sparkfleet.operations import acting, copying, looking, staging_job, tunnel
from sparkfleet.spec.resolved import Weights

LAN = 1
"""Distance of the listener, as the receiver counts: not the fabric."""


def send(act: acting.Acting, wanted: Sequence[Weights]) -> None:
    """Send models. Raise FailedError when the bundle lacks one, or when it does not arrive."""
    spec, user = looking.declared(act.host), looking.login_user(act.host)
    bundle = Path(spec.stage.bundle).expanduser()
    problems = [problem for weights in wanted if (problem := models.lack(act.host.name, bundle, weights))]
    if problems:
        raise acting.FailedError(*problems)
    token = secrets.token_hex(32)
    with _sender(bundle, wanted, token) as port, tunnel.back_to(act.host, port) as there:
        place = {"sender": "the bundle", "listeners": [[LAN, tunnel.HOME, there]]}
        orders = copying.model_orders(wanted, user.expand(spec.paths.models), place)
        result = staging_job.run(act, user, {"token": token, "copies": orders})
    if result.get("outcome") != "staged":
        raise staging_job.failure(act.host.name, result)


@contextmanager
def _sender(bundle: Path, wanted: Sequence[Weights], token: str) -> Iterator[int]:
    """Have a sender of the models' files on this machine's loopback; yield its port."""
    shown = [
        {"path": str(models.snapshot(bundle, weights) / file.path), "size": file.size}
        for weights in wanted
        for file in weights.files
    ]
    request: dict[str, Any] = {"token": token, "files": shown}
    child = subprocess.Popen(
        [sys.executable, "-m", "sparkfleet.operations.bundle_sender"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018  (both are pipes)
    try:
        with child.stdin as stream:
            stream.write(json.dumps(request))
        yield int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()
