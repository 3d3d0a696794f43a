"""What is stored on the Spark's disks and could be removed, and who uses it; only for a prune.

Users of a model are found by its name in the texts of containers and generations. The texts themselves (for
example the environment of an unmanaged container) do not leave the Spark. A state file that cannot be read
fails this whole part: nobody knows what it would need.
"""

from __future__ import annotations

import json
import os
import re

from sparkfleet.onhost.collectors import basics, state

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


RECORD_VERSION, STAGED_VERSION = 4, 1
"""Newest versions of records of generations and of fetched files. What is read here is the same in all."""
REPOSITORY = re.compile(r"(?<![\w./-])[\w.-]+/[\w.-]+(?![\w./-])")
"""A part of an argument that can be a model's repository on the hub."""


def collect_stored(models: str, caches: str, runtimes: Sequence[Any]) -> dict[str, Any]:
    """Return images, model revisions, compile caches, generations and evidence, with bytes and users.

    ``runtimes``: their collectors for a prune.
    """
    staged = _staged()
    repositories = _repositories(os.path.join(models, "hub"), staged)
    images = [image for one in runtimes for image in one.images()]
    found = {"images": images, "repositories": repositories, "caches": _caches(caches)}
    return {
        **found,
        **{"staged_" + kind: items for kind, items in staged.items()},
        "containers": [
            {**own, **_mentioned(text, found)} for one in runtimes for own, text in one.instances()
        ],
        "services": _services(found),
        "evidence": _evidence(),
    }


def _staged() -> dict[str, Any]:
    path = os.path.join(basics.STATE_DIR, "staged.json")
    data = _json(path, STAGED_VERSION) or {}
    found = {kind: data.get(kind, {}) for kind in ("images", "revisions")}
    if not all(isinstance(one, dict) for one in found.values()):
        raise ValueError("%s: found images or revisions that are no object" % path)
    return found


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
    """Return the blobs that a snapshot links to, and the bytes of its own files."""
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
    """Return bytes and, for a link into the hub's shared store, its target."""
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


def _services(found: dict[str, Any]) -> dict[str, Any]:
    """Return for each service the current generation, those that it replaced, and the other kept ones."""
    services: dict[str, Any] = {}
    base = os.path.join(basics.STATE_DIR, "services")
    for name in _names(base):
        path = os.path.join(base, name, "current.json")
        current = _generations(path, found)
        history = os.path.join(base, name, "generations")
        files = [file for file in sorted(_names(history), key=_number) if file.endswith(".json")]
        services[name] = {
            "record_sha256": basics.sha256_of(path) if current else "",
            "current": current[0] if current else None,
            "replaced": current[1:],
            "generations": [
                {**_generations(path, found)[0], "path": path, "bytes": os.path.getsize(path)}
                for path in (os.path.join(history, file) for file in files)
            ],
        }
    return services


def _generations(path: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the generation of a file, then those that it replaced; [] without the file."""
    data = _json(path, RECORD_VERSION)
    try:
        return [_generation(one, found) for one in (data, *data.get("replaced", ()))] if data else []
    except (AttributeError, TypeError) as error:
        raise ValueError("%s: is no record of a generation: %s" % (path, error)) from None


def _generation(data: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(data.get("id", "")),
        "image": str(data.get("image", "")),
        "model": str(data.get("model", "")),
        "revision": str(data.get("revision", "")),
        "names": sorted(set(REPOSITORY.findall(json.dumps(data.get("argv") or ())))),
        "promoted_at": data.get("promoted_at") or 0,
        **_mentioned(json.dumps({key: data[key] for key in data if key != "replaced"}), found),
    }


def _mentioned(text: str, found: dict[str, Any]) -> dict[str, list[str]]:
    """Return the snapshots and compile caches that a text names; all of a model without a commit."""
    uses = []
    for repository in found["repositories"]:
        if repository["repo"] in text or os.path.basename(repository["path"]) in text:
            revisions = repository["revisions"]
            named = [one["path"] for one in revisions if one["revision"] in text]
            uses += named or [one["path"] for one in revisions]
    return {"uses": uses, "caches": [one["path"] for one in found["caches"] if one["path"] in text]}


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


def _json(path: str, newest: int) -> dict[str, Any] | None:
    """Return the object in a state file, None without the file. Raise ValueError."""
    text = basics.read_text(path, 1 << 26)
    if text is None:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("%s: is not JSON: %s" % (path, error)) from None
    if not isinstance(data, dict) or not data:
        raise ValueError("%s: found %.60r, expected an object with fields" % (path, data))
    version = data.get("version", data.get("schema", 1))
    if not isinstance(version, int) or not 1 <= version <= newest:
        text = "%s: found version %.60r, expected 1 to %d: update sparkfleet on the operator's machine"
        raise ValueError(text % (path, version, newest))
    return data
