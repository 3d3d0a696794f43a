"""A container's declared settings as options of ``docker create``, shell commands and a compose file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from sparkfleet.config.yaml_text import dump
from sparkfleet.contract.generation import LABEL_GENERATION, Generation
from sparkfleet.runtimes.docker import settings
from sparkfleet.runtimes.operator import DeclaredWorkload


def create_options(workload: DeclaredWorkload) -> tuple[str, ...]:
    """Return the options of ``docker create``, without name, generation label, image and command."""
    return tuple(
        arg
        for setting in settings.SETTINGS
        for value in setting.values(workload)
        for arg in setting.render(value)
    )


def commands(generation: Generation) -> str:
    """Return shell lines that create and start the container as sparkfleet would."""
    options, command = _split(generation)
    options = ["--label", f"{LABEL_GENERATION}={generation.id}", *options]
    lines = [f"docker create --name {shlex.quote(generation.service)}"]
    # Every option has a value.
    lines += [
        f"  {name} {shlex.quote(value)}" for name, value in zip(options[::2], options[1::2], strict=True)
    ]
    lines += [f"  {shlex.quote(generation.image)}", *(f"  {line}" for line in _command_lines(command))]
    return " \\\n".join(lines) + f"\ndocker start {shlex.quote(generation.service)}\n"


def compose(services: Sequence[tuple[DeclaredWorkload, Generation]]) -> str:
    """Return a compose file, without sparkfleet's labels: compose owns what it starts."""
    return dump({"services": {made.service: _compose(workload, made) for workload, made in services}})


def compose_service(workload: DeclaredWorkload) -> dict[str, Any]:
    """Return the settings as a compose service has them."""
    found = {
        setting.compose: setting.to_compose(setting.values(workload))
        for setting in settings.SETTINGS
        if setting.compose
    }
    return {key: value for key, value in found.items() if value}


def _compose(workload: DeclaredWorkload, made: Generation) -> dict[str, Any]:
    own = compose_service(workload)
    own["environment"] = {name: _escaped(value) for name, value in own.get("environment", {}).items()}
    _, command = _split(made)
    return {
        "container_name": made.service,
        "image": made.image,
        "command": [_escaped(arg) for arg in command],
        **own,
    }


def _split(made: Generation) -> tuple[list[str], list[str]]:
    """Return the options and the command of a definition."""
    position = made.definition.index(made.image)
    return list(made.definition[:position]), list(made.definition[position + 1 :])


def _command_lines(args: list[str]) -> list[str]:
    """Return the command with one flag per line."""
    lines: list[list[str]] = [[]]
    for arg in args:
        if arg.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(arg))
    return [" ".join(line) for line in lines if line]


def _escaped(text: str) -> str:
    """Escape a string against compose's variable substitution."""
    return text.replace("$", "$$")
