"""The other side of one copy: a unit on the Spark that has the files, begun and ended from here."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import spark_plan
from sparkfleet.fleet.staging import stage_job
from sparkfleet.plan.copy_route import Route


class SenderError(SparkfleetError):
    """The other Spark could not send: the same may come from elsewhere."""


class Sender:
    """A sender of some files, for one receiver and one token."""

    def __init__(self, host: PyinfraHost, route: Route) -> None:
        """Choose a token; nothing is started yet."""
        self.host, self.route = host, route
        self.token = secrets.token_hex(32)
        self.id = f"send-{uuid.uuid4().hex[:12]}"
        self.place: dict[str, Any] = {}
        """What a receiver must know of it: its name, and where it listens."""

    def begin(self, shown: Sequence[dict[str, Any]]) -> None:
        """Start it with these files (path and size). Raise SenderError if it does not listen."""
        request = {
            "id": self.id,
            "addresses": [address for _, address in self.route.listen],
            "peers": self.route.peers,
            "token": self.token,
            "user": stage_job.user_data(spark_plan.login_user(self.host)),
            "files": list(shown),
        }
        answer = remote.program(self.host, "copy-serve", data=request, timeout=60)
        if not answer.ok:
            said = (answer.err or answer.out).strip()[-300:]
            raise SenderError(Diagnostic(self.host.name, f"cannot send: {said}", hint="run again"))
        found = remote.last_document(answer.out)["listeners"]
        listeners = [[self.route.distance(address), address, port] for address, port in found]
        self.place = {"sender": self.host.name, "listeners": listeners}

    def end(self) -> None:
        """Stop it, if it has not ended by itself; unreachable, it does so a little later."""
        with contextlib.suppress(remote.ConnectionLostError, SparkfleetError):
            remote.program(self.host, "copy-stop", self.id, timeout=60)
