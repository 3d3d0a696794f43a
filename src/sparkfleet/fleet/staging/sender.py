"""The sender of one copy: a unit on the host that has the files, started and stopped remotely."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Sequence

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.stage import SenderPlace
from sparkfleet.contract.transfer import SenderListens, SendRequest, SentFile
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import spark_plan
from sparkfleet.fleet.staging import stage_job
from sparkfleet.plan.copy_route import Route


class SenderError(SparkfleetError):
    """The other host could not send; another source may have the same artifact."""


class Sender:
    """A sender for one receiver and one key."""

    def __init__(self, host: PyinfraHost, route: Route) -> None:
        """Create the key; nothing is started yet."""
        self.host, self.route = host, route
        self.transfer_key = secrets.token_hex(32)
        self.id = f"send-{uuid.uuid4().hex[:12]}"
        self.place = SenderPlace(host.name, ())
        """Its name and its listeners, for the receiver."""

    def begin(self, shown: Sequence[SentFile]) -> None:
        """Start it with these files. Raise SenderError if it does not listen."""
        request = SendRequest(
            self.id,
            tuple(address for _, address in self.route.listen),
            tuple(self.route.peers),
            stage_job.login_user(spark_plan.login_user(self.host)),
            tuple(shown),
            self.transfer_key,
        )
        output = remote.program(self.host, "copy-serve", data=request, timeout=60)
        if not output.ok:
            raise SenderError(remote.refusal(output, self.host.name, "cannot send", code="staging-failed"))
        found = remote.document(SenderListens, self.host, output.out).listeners
        listeners = tuple((self.route.distance(address), address, port) for address, port in found)
        self.place = SenderPlace(self.host.name, listeners)

    def end(self) -> None:
        """Stop it; if the host is unreachable, it exits after a timeout."""
        with contextlib.suppress(remote.ConnectionLostError, SparkfleetError):
            remote.program(self.host, "copy-stop", self.id, timeout=60)
