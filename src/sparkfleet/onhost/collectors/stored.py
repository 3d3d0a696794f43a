"""What lies on the Spark's disks that could be removed, and who uses it. Looked at for a prune alone.

Who uses a model is found by its name in the words of containers and generations; the words themselves (a
foreign container's environment, say) do not leave the Spark.
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from sparkfleet.onhost.collectors import basics, docker, state

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


REPOSITORY = re.compile(r"(?<![\w./-])[\w.-]+/[\w.-]+(?![\w./-])")
"""A word that can be a model's repository on the hub."""


def look_at_stored(models: str, caches: str) -> dict[str, Any]:
    """Return images, model revisions, compile caches, generations and evidence, with bytes and users."""
    repositories = _repositories(os.path.join(models, "hub"), _staged())
    found = {"images": _images(), "repositories": repositories, "caches": _caches(caches)}
    return {
        **found,
        "staged": _staged(),
        "containers": [_container(row["Id"], found) for row in docker.docker_get("/containers/json?all=1")],
        "services": _services(found),
        "evidence": _evidence(),
    }


def _staged() -> dict[str, Any]:
    data = _json(os.path.join(basics.STATE_DIR, "staged.json"))
    return {kind: data.get(kind) or {} for kind in ("images", "revisions")}


def _images() -> list[dict[str, Any]]:
    return [
        {
            "id": row["Id"],
            "refs": [
                name
                for name in (row.get("RepoTags") or []) + (row.get("RepoDigests") or [])
                if "<none>" not in name
            ],
            "bytes": row.get("Size", 0),
        }
        for row in docker.docker_get("/images/json") or ()
    ]


def _repositories(hub: str, staged: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for folder in sorted(os.listdir(hub)) if os.path.isdir(hub) else ():
        root = os.path.join(hub, folder)
        if not folder.startswith("models--") or os.path.islink(root) or not os.path.isdir(root):
            continue
        snapshots, blobs = os.path.join(root, "snapshots"), os.path.join(root, "blobs")
        known = {os.path.basename(path) for path in staged["revisions"] if path.startswith(root + "/")}
        revisions = sorted(known.union(_names(snapshots)))
        found.append(
            {
                "repo": folder[len("models--") :].replace("--", "/", 1),
                "path": root,
                "revisions": [_revision(os.path.join(snapshots, name)) for name in revisions],
                "blobs": {name: _blob(os.path.join(blobs, name)) for name in _names(blobs)},
            }
        )
    return found


def _revision(path: str) -> dict[str, Any]:
    """Return the blobs that a snapshot's files are, and the bytes of files that it has itself."""
    blobs, own, changed = [], 0, 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            info = os.lstat(file)
            changed = max(changed, info.st_mtime)
            if os.path.islink(file):
                blobs.append(os.path.basename(os.readlink(file)))
            else:
                own += info.st_size
    return {"revision": os.path.basename(path), "path": path, "blobs": blobs, "own": own, "changed": changed}


def _blob(path: str) -> dict[str, Any]:
    """Return bytes and, for a link into the hub's store that all repositories share, where it leads."""
    try:
        return {
            "bytes": os.stat(path).st_blocks * 512,
            "shared": os.path.realpath(path) if os.path.islink(path) else "",
        }
    except OSError:
        return {"bytes": 0, "shared": ""}


def _caches(folder: str) -> list[dict[str, Any]]:
    found = []
    for name in _names(folder):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isdir(path):
            continue
        size, changed = 0, os.stat(path).st_mtime
        for base, _, names in os.walk(path):
            for one in names:
                info = os.lstat(os.path.join(base, one))
                size, changed = size + info.st_blocks * 512, max(changed, info.st_mtime)
        found.append({"name": name, "path": path, "bytes": size, "changed": changed})
    return found


def _container(identity: str, found: dict[str, Any]) -> dict[str, Any]:
    data = docker.docker_get("/containers/%s/json" % identity)
    if data is None:
        return {"id": identity, "name": "", "image_id": "", "uses": [], "caches": []}
    mounts = [mount.get("Source", "") for mount in data.get("Mounts") or ()]
    words = json.dumps([data["Config"], mounts])
    return {
        "id": data["Id"],
        "name": data["Name"].lstrip("/"),
        "image_id": data["Image"],
        **_mentioned(words, found),
    }


def _services(found: dict[str, Any]) -> dict[str, Any]:
    """Return for each service what serves (``current``), what it replaced, and what is kept beside."""
    services: dict[str, Any] = {}
    base = os.path.join(basics.STATE_DIR, "services")
    for name in _names(base):
        text = basics.read_text(os.path.join(base, name, "current.json")) or ""
        current = _parsed(text)
        history = os.path.join(base, name, "generations")
        services[name] = {
            "books": hashlib.sha256(text.encode()).hexdigest() if text else "",
            "current": _generation(current, "", found) if current else None,
            "replaced": [_generation(one, "", found) for one in current.get("replaced") or ()],
            "generations": [
                _generation(_json(os.path.join(history, file)), os.path.join(history, file), found)
                for file in sorted(_names(history), key=_number)
                if file.endswith(".json")
            ],
        }
    return services


def _generation(data: dict[str, Any], path: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(data.get("id", "")),
        "path": path,
        "bytes": os.path.getsize(path) if path else 0,
        "image": str(data.get("image", "")),
        "model": str(data.get("model", "")),
        "revision": str(data.get("revision", "")),
        "names": sorted(set(REPOSITORY.findall(json.dumps(data.get("argv") or ())))),
        "promoted_at": data.get("promoted_at") or 0,
        **_mentioned(json.dumps({key: data[key] for key in data if key != "replaced"}), found),
    }


def _mentioned(words: str, found: dict[str, Any]) -> dict[str, list[str]]:
    """Return the snapshots and compile caches that a text names; a model without a commit: all of its."""
    uses = []
    for repository in found["repositories"]:
        if repository["repo"] in words or os.path.basename(repository["path"]) in words:
            revisions = repository["revisions"]
            named = [one["path"] for one in revisions if one["revision"] in words]
            uses += named or [one["path"] for one in revisions]
    return {"uses": uses, "caches": [one["path"] for one in found["caches"] if one["path"] in words]}


def _evidence() -> list[dict[str, Any]]:
    found = []
    for folder in state.rollouts():
        path = os.path.join(folder, "evidence")
        if os.path.isdir(path):
            files = [os.path.join(path, file) for file in os.listdir(path)]
            found.append(
                {
                    "rollout": os.path.basename(folder),
                    "path": path,
                    "bytes": sum(os.path.getsize(file) for file in files),
                    "changed": os.path.getmtime(path),
                }
            )
    return found


def _number(name: str) -> int:
    head = name.partition("-")[0]
    return int(head) if head.isdigit() else -1


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _json(path: str) -> dict[str, Any]:
    return _parsed(basics.read_text(path) or "")


def _parsed(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
