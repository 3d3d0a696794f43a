"""Model files from one Spark to another: a sender there for the time of the copy, a staging job here."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.errors import Problem, SparkfleetError
from sparkfleet.operations import acting, fleet_run, remote, staging_job
from sparkfleet.operations.host import login_user
from sparkfleet.plan import copy_route
from sparkfleet.plan.model import Source
from sparkfleet.probe.observed import User
from sparkfleet.spec.resolved import Weights


class SenderError(SparkfleetError):
    """The other Spark could not send: the same may come from elsewhere."""


def copy(act: acting.Acting, holder: PyinfraHost, wanted: Sequence[Weights], source: Source) -> None:
    """Copy models from another Spark. Raise SenderError for its trouble, FailedError for this one's."""
    user = login_user(act.host)
    route = copy_route.between(_places(holder), _places(act.host))
    if source.near and not any(distance == copy_route.NEAR for distance, _ in route.listen):
        act.say(f"no link of the fabric leads to {holder.name} now: over the LAN")
    sender = _Sender(holder, route, wanted)
    try:
        request = {"token": sender.token, "copies": sender.begin(act.host, user)}
        result = staging_job.run(act, user, request)
    finally:
        sender.end()
    if result.get("outcome") == "staged":
        return
    failure = staging_job.failure(act.host.name, result)
    raise SenderError(*failure.problems) if result.get("elsewhere") else failure


class _Sender:
    """The other side of one copy."""

    def __init__(self, host: PyinfraHost, route: copy_route.Route, wanted: Sequence[Weights]) -> None:
        self.host, self.route, self.wanted = host, route, wanted
        self.token = secrets.token_hex(32)
        self.id = f"send-{uuid.uuid4().hex[:12]}"

    def begin(self, receiver: PyinfraHost, user: User) -> list[dict[str, Any]]:
        """Start it; return the orders for the receiver, one a repository."""
        spec, theirs = fleet_run.declared(self.host), login_user(self.host)
        root = theirs.expand(spec.paths.models)
        shown = [
            {"path": f"{snapshot(root, weights)}/{file.path}", "size": file.size}
            for weights in self.wanted
            for file in weights.files
        ]
        request = {
            "id": self.id,
            "addresses": [address for _, address in self.route.listen],
            "peers": self.route.peers,
            "token": self.token,
            "user": staging_job.user_data(theirs),
            "files": shown,
        }
        answer = remote.program(self.host, "copy-serve", data=request, timeout=60)
        if not answer.ok:
            said = (answer.err or answer.out).strip()[-300:]
            raise SenderError(Problem(self.host.name, f"cannot send: {said}", remedy="run again"))
        found = remote.last_document(answer.out)["listeners"]
        listeners = [[self.route.distance(address), address, port] for address, port in found]
        models = user.expand(fleet_run.declared(receiver).paths.models)
        orders, number = [], 0
        for weights in self.wanted:
            files = [
                {"path": file.path, "size": file.size, "blob": file.blob, "number": number + at}
                for at, file in enumerate(weights.files)
            ]
            number += len(files)
            orders.append(
                {
                    "repo": weights.repo,
                    "revision": weights.revision,
                    "models_dir": models,
                    "sender": self.host.name,
                    "listeners": listeners,
                    "files": files,
                }
            )
        return orders

    def end(self) -> None:
        """Stop it, if it has not ended by itself; unreachable, it does so a little later."""
        with contextlib.suppress(remote.ConnectionLostError, SparkfleetError):
            remote.program(self.host, "copy-stop", self.id, timeout=60)


def snapshot(root: str, weights: Weights) -> str:
    """Return the directory of a model at its commit, in the hub's layout."""
    return f"{root}/hub/models--{weights.repo.replace('/', '--')}/snapshots/{weights.revision}"


def _places(host: PyinfraHost) -> list[dict[str, str]]:
    answer = remote.program(host, "copy-places", timeout=60)
    if not answer.ok:
        said = (answer.err or answer.out).strip()[-300:]
        raise SenderError(Problem(host.name, f"its addresses could not be read: {said}", remedy="run again"))
    return list(remote.last_document(answer.out)["places"])
