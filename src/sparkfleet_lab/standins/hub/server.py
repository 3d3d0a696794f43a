"""The hub's server and its routes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from . import access, responses
from .content import Content, HubError
from .faults import Counters, CutError, Fault, Faults, faulty

CHUNK = 64 * 1024
NOT_FOUND = "Sorry, we can't find the page you are looking for."


class Hub(ThreadingHTTPServer):
    """The server with its state."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path) -> None:
        """Listen on ``address`` (port 0: any) and serve ``root``."""
        super().__init__(address, Handler)
        self.content = Content(root)
        self.counters = Counters()
        self.faults = Faults()
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Return the value for HF_ENDPOINT on this machine."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tokens(self) -> dict[str, access.User]:
        """Return the known tokens."""
        path = self.content.root / "tokens.json"
        known: dict[str, access.User] = json.loads(path.read_text()) if path.is_file() else {}
        return known


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub
    fault: Fault | None = None

    def do_GET(self) -> None:
        """Respond to a look-up or a download."""
        self._respond(self._get)

    def do_HEAD(self) -> None:
        """Respond like GET, without a body."""
        self._respond(self._get)

    def do_POST(self) -> None:
        """Respond to the lab's own requests, and to the one look-up that huggingface_hub posts."""
        self._respond(self._post)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write one short line a request: the log of the lab's hub is read by people."""
        print(f"{self.client_address[0]} {format % args}", flush=True)  # noqa: T201

    def _respond(self, respond: Any) -> None:
        path = unquote(urlsplit(self.path).path)
        lab = path.startswith("/__lab__/")
        try:
            if not lab:
                self.fault = self.server.faults.fault_of(self.command, path)
                with self.server.lock:
                    self.server.counters.requests += 1
                if self.fault and self.fault.status:
                    raise HubError(self.fault.status, "A fault that the lab has set")  # noqa: TRY301
            respond(path)
        except HubError as error:
            self._json({"error": error.message}, error.status, error)
        except (BrokenPipeError, ConnectionResetError, CutError):
            self.close_connection = True

    def _get(self, path: str) -> None:
        if path == "/__lab__/counters":
            with self.server.lock:
                counters = {**vars(self.server.counters)}
            return self._json(counters)
        if path == "/api/whoami-v2":
            return self._json(responses.whoami(self._user()))
        if found := re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|refs|commits)(?:/(.+))?)?", path
        ):
            return self._json(self._model_api(found[1], found[2] or "revision", found[3] or "main"))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(found[1], found[2], found[3])
        raise HubError(404, NOT_FOUND)

    def _post(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = json.loads(body) if body.strip().startswith((b"{", b"[")) else {}
        if path == "/__lab__/fault":
            faults = [Fault(**entry) for entry in (data if isinstance(data, list) else [data]) if entry]
            self.server.faults.set(faults)
            return self._json({"faults": len(faults)})
        if path == "/__lab__/reset":
            with self.server.lock:
                self.server.counters = Counters()
            return self._json({})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/paths-info/(.+)", path):
            paths = set(data.get("paths", ()) if data else parse_qs(body.decode()).get("paths", ()))
            entries = responses.tree(self.server.content, found[1], self._commit(found[1], found[2]))
            return self._json([entry for entry in entries if entry["path"] in paths])
        raise HubError(404, NOT_FOUND)

    def _user(self) -> access.User | None:
        return access.user_of(self.headers.get("Authorization", ""), self.server.tokens())

    def _commit(self, repo: str, revision: str) -> str:
        return access.commit(self.server.content, self._user(), repo, revision)

    def _model_api(self, repo: str, what: str, revision: str) -> Any:
        content = self.server.content
        commit = self._commit(repo, "main" if what == "refs" else revision)
        match what:
            case "tree":
                return responses.tree(content, repo, commit)
            case "commits":
                return responses.commits(commit)
            case "refs":
                return responses.refs(content, repo)
        return responses.model(content, repo, commit, blobs="blobs=true" in self.path.lower())

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        commit = self._commit(repo, revision)
        access.check_licence(self.server.content, self._user(), repo)
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
        for chunk in faulty(_chunks(file.disk, start, end), self.fault or Fault()):
            self.wfile.write(chunk)
            with self.server.lock:
                self.server.counters.count_file(key, 0, len(chunk))

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
