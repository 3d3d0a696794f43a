"""A service as its runtime's commands or files, or as a systemd unit, with the same settings."""

from __future__ import annotations

import json

import click

from sparkfleet import runtimes
from sparkfleet.config.origin import user_place
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import Generation
from sparkfleet.desired_state import Host, Service
from sparkfleet.plan import render_service
from sparkfleet.plan.cluster import render
from sparkfleet.probe.observation import User

FORMATS = ("systemd", "json")
"""Formats that do not depend on a runtime."""


def generation(host: Host, service: Service, user: User) -> tuple[Service, Generation]:
    """Return the service as it would run on the Spark; the image's entrypoint must be known.

    For a cluster's service it is the Spark's rank, without the variables that name its links.
    """
    image = service.image
    if not service.is_pinned:
        where = dict(service.origin).get("service", host.file)
        message = f"the service '{service.name}' is not pinned, so it cannot be rendered"
        names = ([image.display] if image else []) + [service.weights.repo]
        expected = f"entries for {' and '.join(names)} in fleet.lock"
        raise SparkfleetError(
            Diagnostic(where, message, expected, "sparkfleet lock INVENTORY", code="lock-entry-missing")
        )
    if image and not image.entrypoint and not image.size:
        where = user_place(dict(service.origin), "image", host.file)
        message = f"the entrypoint of {image.display} is unknown, so the command cannot be rendered"
        remedy = "set the image by its tag, then run `sparkfleet lock`"
        raise SparkfleetError(
            Diagnostic(where, message, "an image from the lock file", remedy, code="image-entrypoint-unknown")
        )
    return render.generation(host, service, user, image.entrypoint if image else (), None)


def in_format(form: str, host: Host, services: list[tuple[Service, Generation]], user: User) -> str:
    """Return a Spark's services in a format of their runtimes; "": each runtime's default."""
    texts = []
    for name in dict.fromkeys(one.runtime for _, one in services) or (runtimes.DEFAULT,):
        runtime = runtimes.get(name)
        own = [
            (render_service.workload(host, service, user), one)
            for service, one in services
            if one.runtime == name
        ]
        if own and form and form not in runtime.formats:
            formats = ", ".join((*runtime.formats, *FORMATS))
            message = f"'{own[0][1].service}' runs in {name}, which has no format '{form}'"
            raise click.UsageError(f"{message}; expected one of: {formats}")
        texts.append(runtime.render(form or runtime.formats[0], own))
    return "\n".join(texts)


def systemd(made: Generation) -> str:
    """Return the unit with the path of its file."""
    return f"# /etc/systemd/system/{made.unit_name}\n{made.unit}"


def as_json(made: list[Generation]) -> str:
    """Return the generations as stored on the Spark."""
    return json.dumps([one.to_json() for one in made], indent=1)
