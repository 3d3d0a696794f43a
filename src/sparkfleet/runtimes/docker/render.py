"""A container's declared settings as options of ``docker create`` and as a service of a compose file."""

from __future__ import annotations

from typing import Any

from sparkfleet.runtimes.docker import settings
from sparkfleet.runtimes.docker.settings import ContainerInput


def create_options(source: ContainerInput) -> tuple[str, ...]:
    """Return the options of ``docker create``, without name, generation label, image and command."""
    return tuple(
        arg
        for setting in settings.SETTINGS
        for value in setting.declare(source)
        for arg in setting.render(value)
    )


def compose_service(source: ContainerInput) -> dict[str, Any]:
    """Return the settings as a compose service has them. Without labels: compose owns what it starts."""
    found = {
        setting.compose: setting.to_compose(setting.declare(source))
        for setting in settings.SETTINGS
        if setting.compose
    }
    return {key: value for key, value in found.items() if value}
