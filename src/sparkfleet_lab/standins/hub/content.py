"""The hub's repositories, commits and files, with the identifiers of the real hub."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", "tokenizer.json")
"""Files that the real hub stores as LFS: their ETag is the sha256 of the content, not a git object id."""


class HubError(Exception):
    """A response that is not 2xx, with the headers by which huggingface_hub distinguishes errors."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        """Store status, ``X-Error-Message`` and ``X-Error-Code``."""
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class HubFile:
    """One file of a commit, with the hub's identifiers."""

    path: str
    disk: Path
    size: int
    sha256: str
    git_oid: str

    @property
    def lfs(self) -> bool:
        """Whether the real hub would store it as LFS."""
        return self.path.endswith(LFS_SUFFIXES)

    @property
    def etag(self) -> str:
        """Return the file's name in a cache's ``blobs/``."""
        return self.sha256 if self.lfs else self.git_oid


class Content:
    """The directory of models. Hashes are computed once per file state."""

    def __init__(self, root: Path) -> None:
        """Serve what is under ``root``; it may change while running."""
        self.root = root
        self._hashes: dict[tuple[str, int, int], tuple[str, str]] = {}

    def meta(self, repo: str) -> dict[str, Any]:
        """Return a repository's meta.json, or raise the hub's error for an unknown one."""
        path = self.root / repo / "meta.json"
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or ".." in repo or not path.is_file():
            raise HubError(404, "Repository not found", "RepoNotFound")
        meta: dict[str, Any] = json.loads(path.read_text())
        return meta

    def commit(self, repo: str, revision: str) -> str:
        """Return the full commit of a branch or commit; the hub does not accept abbreviations."""
        commit = self.meta(repo)["refs"].get(revision, revision)
        if not re.fullmatch(r"[0-9a-f]{40}", commit) or not (self.root / repo / commit).is_dir():
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return str(commit)

    def files(self, repo: str, commit: str) -> list[HubFile]:
        """Return the files of a commit by path."""
        base = self.root / repo / commit
        return [self._file(base, path) for path in sorted(base.rglob("*")) if path.is_file()]

    def file(self, repo: str, commit: str, name: str) -> HubFile:
        """Return one file of a commit."""
        base = (self.root / repo / commit).resolve()
        path = (base / name).resolve()
        if base not in path.parents or not path.is_file():
            raise HubError(404, "Entry not found", "EntryNotFound")
        return self._file(base, path)

    def _file(self, base: Path, path: Path) -> HubFile:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._hashes:
            data = path.read_bytes()
            git = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
            self._hashes[key] = (hashlib.sha256(data).hexdigest(), git)
        sha256, git = self._hashes[key]
        return HubFile(path.relative_to(base).as_posix(), path, stat.st_size, sha256, git)
