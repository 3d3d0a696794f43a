"""The JSON responses of the hub's API."""

from __future__ import annotations

import hashlib
from typing import Any

from .content import Content, HubError, HubFile

EPOCH = "2026-01-01T00:00:00.000Z"
"""Upload time of all files, so that the hub's responses are the same on every machine."""
POINTER_BYTES = 135


def whoami(user: dict[str, Any] | None) -> dict[str, Any]:
    """Return the response about the user of a request."""
    if user is None:
        raise HubError(401, "Invalid username or password.")
    token = {"displayName": "lab", "role": "read"}
    access = {"type": "access_token", "accessToken": token}
    return {"type": "user", "name": user["name"], "orgs": [], "auth": access}


def model(content: Content, repo: str, commit: str, *, blobs: bool) -> dict[str, Any]:
    """Return a model at a commit; ``blobs``: with sizes and hashes of its files."""
    return {
        "_id": hashlib.sha256(repo.encode()).hexdigest()[:24],
        "id": repo,
        "modelId": repo,
        "author": repo.split("/", maxsplit=1)[0],
        "sha": commit,
        "lastModified": EPOCH,
        "createdAt": EPOCH,
        "private": False,
        "gated": content.meta(repo).get("gated", False),
        "disabled": False,
        "tags": ["transformers", "safetensors"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "downloads": 0,
        "likes": 0,
        "siblings": [_sibling(file, blobs=blobs) for file in content.files(repo, commit)],
    }


def tree(content: Content, repo: str, commit: str) -> list[dict[str, Any]]:
    """Return the files of a commit."""
    return [_entry(file) for file in content.files(repo, commit)]


def refs(content: Content, repo: str) -> dict[str, Any]:
    """Return the branches of a repository."""
    named = content.meta(repo)["refs"].items()
    branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": at} for name, at in named]
    return {"branches": branches, "tags": [], "converts": []}


def commits(commit: str) -> list[dict[str, Any]]:
    """Return the history of a commit: itself."""
    return [{"id": commit, "title": "Upload", "message": "", "authors": [], "date": EPOCH}]


def _sibling(file: HubFile, *, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": file.path}
    if blobs:
        entry |= {"size": file.size, "blobId": file.git_oid}
        if file.lfs:
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": POINTER_BYTES}
    return entry


def _entry(file: HubFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.git_oid, "size": file.size, "path": file.path}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": POINTER_BYTES}
    return entry
