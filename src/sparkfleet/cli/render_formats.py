"""A service as docker commands, compose file or systemd unit, with the same settings."""

from __future__ import annotations

import json
import shlex
from typing import Any

from sparkfleet.config.desired_state import Host, Service
from sparkfleet.config.origin import user_place
from sparkfleet.config.yaml_text import dump
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation
from sparkfleet.errors import SparkfleetError
from sparkfleet.plan import render_service
from sparkfleet.plan.cluster import render
from sparkfleet.probe.observation import User
from sparkfleet.runtimes.docker.render import compose_service


def generation(host: Host, service: Service, user: User) -> tuple[Service, Generation]:
    """Return the service as it would run on the Spark; the image's entrypoint must be known.

    For a cluster's service it is the Spark's rank, without the variables that name its links.
    """
    image = service.image
    if not service.is_pinned:
        where = dict(service.origin).get("service", host.file)
        found = f"the service '{service.name}' is not pinned, so it cannot be rendered"
        expected = f"entries for {image.display} and {service.weights.repo} in fleet.lock"
        raise SparkfleetError(
            Diagnostic(where, found, expected, "sparkfleet lock INVENTORY", code="lock-entry-missing")
        )
    if not image.entrypoint and not image.size:
        where = user_place(dict(service.origin), "image", host.file)
        found = f"the entrypoint of {image.display} is unknown, so the command cannot be rendered"
        remedy = "set the image by its tag, then run `sparkfleet lock`"
        raise SparkfleetError(
            Diagnostic(where, found, "an image from the lock file", remedy, code="image-entrypoint-unknown")
        )
    return render.generation(host, service, user, image.entrypoint, None)


def docker(made: Generation) -> str:
    """Return shell lines that create and start the container as sparkfleet would."""
    lines = [f"docker create --name {shlex.quote(made.service)}"]
    args = list(made.create)
    image = args.index(made.image)
    position = 0
    while position < image:
        # Every option has a value.
        lines.append(f"  {args[position]} {shlex.quote(args[position + 1])}")
        position += 2
    lines.append(f"  {shlex.quote(made.image)}")
    lines += [f"  {line}" for line in _command_lines(args[image + 1 :])]
    return " \\\n".join(lines) + f"\ndocker start {shlex.quote(made.service)}\n"


def compose(host: Host, services: list[tuple[Service, Generation]], user: User) -> str:
    """Return a compose file of a Spark's services, without sparkfleet's labels."""
    return dump(
        {"services": {service.name: _compose(host, service, made, user) for service, made in services}}
    )


def systemd(made: Generation) -> str:
    """Return the unit with the path of its file."""
    return f"# /etc/systemd/system/{made.unit_name}\n{made.unit}"


def _command_lines(args: list[str]) -> list[str]:
    """Return the command with one flag per line."""
    lines: list[list[str]] = [[]]
    for arg in args:
        if arg.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(arg))
    return [" ".join(line) for line in lines if line]


def _compose(host: Host, service: Service, made: Generation, user: User) -> dict[str, Any]:
    create = list(made.create)
    settings = compose_service(render_service.container_input(host, service, user))
    settings["environment"] = {
        name: _escaped(value) for name, value in settings.get("environment", {}).items()
    }
    return {
        "container_name": service.name,
        "image": made.image,
        "command": [_escaped(arg) for arg in create[create.index(made.image) + 1 :]],
        **settings,
    }


def _escaped(text: str) -> str:
    """Escape a string against compose's variable substitution."""
    return text.replace("$", "$$")


def as_json(made: list[Generation]) -> str:
    """Return the generations as stored on the Spark."""
    return json.dumps([one.to_json() for one in made], indent=1)
