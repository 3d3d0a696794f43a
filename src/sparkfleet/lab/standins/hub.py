"""A hub for made-up models: the part of the Hugging Face Hub's HTTP API that downloads and look-ups use.

    python3 hub.py --root DIR --port 80

``DIR/<org>/<name>/<commit>/...`` are the files of one commit; ``DIR/<org>/<name>/meta.json`` says what a
directory cannot: ``{"refs": {"main": commit}, "gated": false}``. ``DIR/tokens.json`` maps each known token to
``{"name": user, "accepted": [repositories whose licence that user accepted]}``.

Faults are switched while it runs: ``POST /__lab__/fault`` with one fault (or ``{}`` for none), see ``Fault``;
``GET /__lab__/counters`` tells what was asked for, ``POST /__lab__/reset`` sets the counters to zero.
Standard library alone: it runs in a container of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", "tokenizer.json")
"""Files that the real hub keeps as LFS: their ETag is the sha256 of the content, not a git object id."""

MODEL_API = r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|refs|commits)(?:/(.+))?)?"

EPOCH = "2026-01-01T00:00:00.000Z"
"""When everything was uploaded: the hub's answers are the same on every machine."""

CHUNK = 64 * 1024


class HubError(Exception):
    """An answer that is not 2xx, with the headers that huggingface_hub tells errors apart by."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        """Keep status, ``X-Error-Message`` and ``X-Error-Code``."""
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Fault:
    """What goes wrong, for requests whose path matches."""

    path: str = ".*"
    """Regular expression, searched in the request's path."""
    status: int = 0
    """Answer with this status instead; 0: no."""
    slow_bytes_per_s: float = 0
    break_after_bytes: int = -1
    """Close the connection after so many bytes of a body; -1: no."""
    corrupt: bool = False
    """Flip one bit in the middle of a body; length and hash headers stay as they were."""
    times: int = -1
    """How many requests it happens to; -1: all."""


@dataclass
class Counters:
    """What was asked for since the start or the last reset."""

    requests: int = 0
    bytes: int = 0
    """Of file bodies."""
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    """``repo@commit/path`` -> requests (GET alone) and bytes."""

    def count_file(self, key: str, requests: int, size: int) -> None:
        """Add to one file's figures."""
        entry = self.files.setdefault(key, {"requests": 0, "bytes": 0})
        entry["requests"] += requests
        entry["bytes"] += size
        self.bytes += size


@dataclass(frozen=True)
class HubFile:
    """One file of a commit, with the identities the hub gives it."""

    path: str
    disk: Path
    size: int
    sha256: str
    git_oid: str

    @property
    def lfs(self) -> bool:
        """Whether the real hub would keep it as LFS."""
        return self.path.endswith(LFS_SUFFIXES)

    @property
    def etag(self) -> str:
        """Return what the file is called in a cache's ``blobs/``."""
        return self.sha256 if self.lfs else self.git_oid


class Content:
    """The directory of models. Hashes are computed once per file state."""

    def __init__(self, root: Path) -> None:
        """Serve what is under ``root``; it may change while running."""
        self.root = root
        self._hashes: dict[tuple[str, int, int], tuple[str, str]] = {}

    def meta(self, repo: str) -> dict[str, Any]:
        """Return a repository's meta.json, or raise what the hub answers for an unknown one."""
        path = self.root / repo / "meta.json"
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or ".." in repo or not path.is_file():
            raise HubError(404, "Repository not found", "RepoNotFound")
        meta: dict[str, Any] = json.loads(path.read_text())
        return meta

    def commit(self, repo: str, revision: str) -> str:
        """Return the full commit of a branch or commit; the hub knows no abbreviated ones."""
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


class Hub(ThreadingHTTPServer):
    """The server with its state."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path) -> None:
        """Listen on ``address`` (port 0: any) and serve ``root``."""
        super().__init__(address, Handler)
        self.content = Content(root)
        self.counters = Counters()
        self.faults: list[Fault] = []
        self._left: list[int] = []
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Return the value for HF_ENDPOINT on this machine."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def set_faults(self, faults: list[Fault]) -> None:
        """Replace all faults."""
        with self.lock:
            self.faults = faults
            self._left = [fault.times for fault in faults]

    def fault_for(self, command: str, path: str) -> Fault | None:
        """Return the fault that befalls a request, and count it; what befalls bodies spares HEAD."""
        with self.lock:
            for index, fault in enumerate(self.faults):
                meant = fault.status or command == "GET"
                if meant and self._left[index] != 0 and re.search(fault.path, path):
                    self._left[index] -= 1
                    return fault
        return None

    def tokens(self) -> dict[str, dict[str, Any]]:
        """Return the known tokens."""
        path = self.content.root / "tokens.json"
        known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
        return known


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub
    fault: Fault | None = None

    def do_GET(self) -> None:
        """Answer a look-up or a download."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """Answer as GET would, without a body."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer the lab's own switches, and the one look-up that huggingface_hub posts."""
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write one short line a request: the log of the lab's hub is read by people."""
        print(f"{self.client_address[0]} {format % args}", flush=True)  # noqa: T201

    def _answer(self, respond: Any) -> None:
        path = unquote(urlsplit(self.path).path)
        lab = path.startswith("/__lab__/")
        try:
            if not lab:
                self.fault = self.server.fault_for(self.command, path)
                with self.server.lock:
                    self.server.counters.requests += 1
                if self.fault and self.fault.status:
                    raise HubError(self.fault.status, "A fault that the lab asked for")  # noqa: TRY301
            respond(path)
        except HubError as error:
            self._json({"error": error.message}, error.status, error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _get(self, path: str) -> None:
        if path == "/__lab__/counters":
            with self.server.lock:
                counters = {**vars(self.server.counters)}
            return self._json(counters)
        if path == "/api/whoami-v2":
            return self._json(self._whoami())
        if found := re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|refs|commits)(?:/(.+))?)?", path
        ):
            return self._json(self._model_api(found[1], found[2] or "revision", found[3] or "main"))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(found[1], found[2], found[3])
        raise HubError(404, "Sorry, we can't find the page you are looking for.")

    def _post(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = json.loads(body) if body.strip().startswith((b"{", b"[")) else {}
        if path == "/__lab__/fault":
            faults = [Fault(**entry) for entry in (said if isinstance(said, list) else [said]) if entry]
            self.server.set_faults(faults)
            return self._json({"faults": len(faults)})
        if path == "/__lab__/reset":
            with self.server.lock:
                self.server.counters = Counters()
            return self._json({})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/paths-info/(.+)", path):
            wanted = set(said.get("paths", ()) if said else parse_qs(body.decode()).get("paths", ()))
            return self._json(
                [e for e in self._tree(found[1], self._commit(found[1], found[2])) if e["path"] in wanted]
            )
        raise HubError(404, "Sorry, we can't find the page you are looking for.")

    def _user(self) -> dict[str, Any] | None:
        """Return who asks; None: nobody in particular. A token that is not known is refused everywhere."""
        header = self.headers.get("Authorization", "")
        if not header:
            return None
        user = self.server.tokens().get(header.removeprefix("Bearer ").strip())
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def _commit(self, repo: str, revision: str) -> str:
        user = self._user()
        try:
            return self.server.content.commit(repo, revision)
        except HubError as error:
            if error.code == "RepoNotFound" and user is None:  # the hub does not tell strangers what exists
                raise HubError(401, "Invalid username or password.", "RepoNotFound") from None
            raise

    def _whoami(self) -> dict[str, Any]:
        user = self._user()
        if user is None:
            raise HubError(401, "Invalid username or password.")
        token = {"displayName": "lab", "role": "read"}
        return {
            "type": "user",
            "name": user["name"],
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": token},
        }

    def _model_api(self, repo: str, what: str, revision: str) -> Any:
        content = self.server.content
        commit = self._commit(repo, "main" if what == "refs" else revision)
        meta = content.meta(repo)
        if what == "tree":
            return self._tree(repo, commit)
        if what == "commits":
            return [
                {
                    "id": commit,
                    "title": "Upload",
                    "message": "",
                    "authors": [],
                    "date": "2026-01-01T00:00:00.000Z",
                }
            ]
        if what == "refs":
            branches = [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in meta["refs"].items()
            ]
            return {"branches": branches, "tags": [], "converts": []}
        siblings = []
        for file in content.files(repo, commit):
            entry: dict[str, Any] = {"rfilename": file.path}
            if "blobs=true" in self.path.lower():
                entry |= {"size": file.size, "blobId": file.git_oid}
                if file.lfs:
                    entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 135}
            siblings.append(entry)
        return {
            "_id": hashlib.sha256(repo.encode()).hexdigest()[:24],
            "id": repo,
            "modelId": repo,
            "author": repo.split("/", maxsplit=1)[0],
            "sha": commit,
            "lastModified": EPOCH,
            "createdAt": EPOCH,
            "private": False,
            "gated": meta.get("gated", False),
            "disabled": False,
            "tags": ["transformers", "safetensors"],
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
        }

    def _tree(self, repo: str, commit: str) -> list[dict[str, Any]]:
        entries = []
        for file in self.server.content.files(repo, commit):
            entry: dict[str, Any] = {
                "type": "file",
                "oid": file.git_oid,
                "size": file.size,
                "path": file.path,
            }
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 135}
            entries.append(entry)
        return entries

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        commit = self._commit(repo, revision)
        self._check_licence(repo)
        file = self.server.content.file(repo, commit, name)
        start, end = _byte_range(self.headers.get("Range", ""), file.size)
        partial = "Range" in self.headers
        self.send_response(206 if partial else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{file.etag}"')
        if file.lfs:
            self.send_header("X-Linked-Etag", f'"{file.etag}"')
            self.send_header("X-Linked-Size", str(file.size))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{file.size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        key = f"{repo}@{commit}/{file.path}"
        with self.server.lock:
            self.server.counters.count_file(key, 1, 0)
        for chunk in self._faulty(_chunks(file.disk, start, end)):
            self.wfile.write(chunk)
            with self.server.lock:
                self.server.counters.count_file(key, 0, len(chunk))

    def _check_licence(self, repo: str) -> None:
        if not self.server.content.meta(repo).get("gated"):
            return
        user = self._user()
        if user is None:
            raise HubError(
                401,
                f"Access to model {repo} is restricted. You must have access to it and be authenticated "
                "to access it. Please log in.",
                "GatedRepo",
            )
        if repo not in user.get("accepted", ()):
            raise HubError(
                403,
                f"Access to model {repo} is restricted and you are not in the authorized list. "
                f"Visit https://huggingface.co/{repo} to ask for access.",
                "GatedRepo",
            )

    def _faulty(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass chunks on, slowed down, corrupted or cut as the fault says."""
        fault, sent = self.fault or Fault(), 0
        for index, chunk in enumerate(chunks):
            part = chunk
            if fault.corrupt and index == 0:
                middle = len(part) // 2
                part = part[:middle] + bytes([part[middle] ^ 1]) + part[middle + 1 :]
            if 0 <= fault.break_after_bytes < sent + len(part):
                yield part[: fault.break_after_bytes - sent]
                self.close_connection = True
                return
            if fault.slow_bytes_per_s:
                time.sleep(len(part) / fault.slow_bytes_per_s)
            sent += len(part)
            yield part

    def _json(self, data: Any, status: int = 200, error: HubError | None = None) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        if error:
            self.send_header("X-Error-Message", error.message)
            if error.code:
                self.send_header("X-Error-Code", error.code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _byte_range(header: str, size: int) -> tuple[int, int]:
    """Return start and end (exclusive) of a Range header; the whole file without one."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if not found:
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2] or 0)), size
    start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    if start >= size:
        raise HubError(416, "Range not satisfiable")
    return start, end


def _chunks(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(start)
        while start < end and (chunk := stream.read(min(CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - lab machines reach it over their network
    parser.add_argument("--port", type=int, default=80)
    said = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        Hub((said.host, said.port), said.root).serve_forever()


if __name__ == "__main__":
    main()
