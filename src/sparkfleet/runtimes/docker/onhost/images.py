"""The Docker Engine's API for making images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sparkfleet.runtimes.docker.onhost.engine import DockerEngine

COMMIT_S = 1800.0


class ImageEngine(DockerEngine):
    """Makes images out of containers."""

    def image(self, reference: str) -> dict[str, Any] | None:
        """Return ``docker inspect`` of an image by name or id; None when it is not here."""
        name = self.name_of(reference)
        return self._image(name) if name else None

    def create_from(self, name: str, settings: Mapping[str, Any]) -> None:
        """Create a container as the API takes it: no setting of a user's docker command gets into it."""
        self._ask("POST", f"/containers/create?name={quote(name)}", dict(settings), timeout=300)

    def wait(self, name: str, timeout_s: float) -> int:
        """Return a container's exit code when it has ended."""
        _, body = self._ask("POST", f"/containers/{quote(name, safe='')}/wait", timeout=timeout_s)
        return int(json.loads(body)["StatusCode"])

    def commit(self, name: str, settings: Mapping[str, Any]) -> str:
        """Make an image of a container's files, with these settings and its labels; return the id."""
        path = f"/commit?container={quote(name, safe='')}&pause=0"
        _, body = self._ask("POST", path, dict(settings), timeout=COMMIT_S)
        return str(json.loads(body)["Id"])

    def name_image(self, image: str, repository: str, tag: str) -> None:
        """Give an image a name; another one that had it loses it."""
        query = f"repo={quote(repository, safe='')}&tag={quote(tag, safe='')}"
        self._ask("POST", f"/images/{quote(image, safe=':')}/tag?{query}")

    def names_of_containers(self, label: str) -> list[str]:
        """Return the names of all containers with a label."""
        rows = self._json("GET", f"/containers/json?all=1&filters={_filters(label=[label])}") or ()
        return [name.lstrip("/") for row in rows for name in row.get("Names") or ()]

    def unnamed_images(self, label: str) -> list[str]:
        """Return the ids of images with a label and without a name."""
        filters = _filters(label=[label], dangling=["true"])
        rows = self._json("GET", f"/images/json?filters={filters}") or ()
        return [str(row["Id"]) for row in rows]


def _filters(**wanted: list[str]) -> str:
    return quote(json.dumps(wanted), safe="")
