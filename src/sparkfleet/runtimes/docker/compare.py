"""A container's settings by meaning: what is declared and what Docker reports, as the same short texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sparkfleet.runtimes.docker import settings
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance
from sparkfleet.runtimes.operator import DeclaredWorkload, SettingChange

_SET_BY_DOCKER = frozenset(
    [
        "ContainerIDFile",
        "ConsoleSize",
        "Isolation",
        "MaskedPaths",
        "ReadonlyPaths",
        "CgroupnsMode",
        "Runtime",
        "CgroupParent",
        "MemorySwap",
    ]
)
"""HostConfig keys that Docker fills in by itself (MemorySwap follows Memory)."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "MemorySwappiness": (None, -1),
    "OomKillDisable": (None, False),
    "PidsLimit": (None, 0, -1),
}


class Field(NamedTuple):
    """Where a value stands in the plan: the row's field, and its key."""

    field: str
    key: str

    @property
    def order(self) -> str:
        """Return the text by which rows are sorted."""
        return self.key if self.field == "container" else f"{self.field} {self.key}"


def changes(
    workload: DeclaredWorkload,
    image: ObservedImage | None,
    container: ObservedInstance | None,
    container_image: ObservedImage | None,
) -> list[SettingChange]:
    """Return the settings that need another container; of a new one its mounts.

    The service label differs if the container was another service's: the plan shows the name.
    """
    expected = declared(workload, image)
    if container is None:
        have = {}
        expected = {row: value for row, value in expected.items() if row.field == "mount"}
    else:
        have = observed(container, container_image)
    rows = sorted(have.keys() | expected.keys(), key=lambda row: row.order)
    return [
        SettingChange(row.field, row.key, have.get(row), expected.get(row))
        for row in rows
        if have.get(row) != expected.get(row) and (container is None or row.key != "service label")
    ]


def declared(source: DeclaredWorkload, image: ObservedImage | None) -> dict[Field, str]:
    """Return the settings that a service declares; Docker's defaults are left out.

    ``image`` adds what the image sets by itself; None = not known.
    """
    found = {}
    for setting in settings.SETTINGS:
        if not setting.inspect:
            continue
        values = setting.values(source)
        if not values and image is not None and setting.from_image(image):
            values = (setting.from_image(image),)
        for value in values:
            key, text = setting.normalize(value)
            if text != setting.default:
                found[_field(setting, key)] = text
    return found


def observed(container: ObservedInstance, image: ObservedImage | None) -> dict[Field, str]:
    """Return the settings that a container has, comparable with ``declared``.

    HostConfig keys without a row appear by their own names when somebody set them (``docker update``, a
    container created by hand).
    """
    found = {}
    for setting in settings.SETTINGS:
        for path in setting.inspect:
            part, _, name = path.partition(".")
            for key, text in setting.parse(container.details[part].get(name), image).items():
                if text != setting.default:
                    found[_field(setting, key)] = text
    return found | _without_row(container.details["HostConfig"])


def _field(setting: settings.Setting, key: str) -> Field:
    return Field(setting.title, key) if setting.keyed else Field("container", setting.title)


def _without_row(host_config: Mapping[str, Any]) -> dict[Field, str]:
    paths = (path for setting in settings.SETTINGS for path in setting.inspect)
    known = _SET_BY_DOCKER | {path.removeprefix("HostConfig.") for path in paths}
    return {
        Field("container", key): str(value)
        for key, value in host_config.items()
        if key not in known
        and value not in _NEUTRAL.get(key, ())
        and value not in (None, 0, "", False, [], {})
    }
