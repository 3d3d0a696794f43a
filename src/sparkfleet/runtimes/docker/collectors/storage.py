"""Images and containers for a prune."""

from __future__ import annotations

import json

from sparkfleet.runtimes.docker.collectors.probe import get

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def images() -> list[dict[str, Any]]:
    """Return all images with their names and bytes."""
    return [
        {
            "id": row["Id"],
            # The containerd image store lists digests among the tags, too.
            "refs": [
                name
                for name in dict.fromkeys((row.get("RepoTags") or []) + (row.get("RepoDigests") or []))
                if "<none>" not in name
            ],
            "bytes": row.get("Size", 0),
        }
        for row in get("/images/json") or ()
    ]


def instances() -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every container, and the text that names what it uses; "" if it is gone by now."""
    for row in get("/containers/json?all=1"):
        data = get("/containers/%s/json" % row["Id"])
        if data is None:
            yield {"id": row["Id"], "name": "", "image_id": ""}, ""
        else:
            own = {"id": data["Id"], "name": data["Name"].lstrip("/"), "image_id": data["Image"]}
            mounts = [mount.get("Source", "") for mount in data.get("Mounts") or ()]
            yield own, json.dumps([data["Config"], mounts])
