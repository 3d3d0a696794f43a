"""Downloads files of a model repository into the hub's cache, for images without ``hf``.

Runs as the login user in a separate process: ``sparkfleet.pyz hub-download`` with the request on stdin. An
interrupted file continues where it stopped.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO

from sparkfleet.contract.hub_access import HUB
from sparkfleet.contract.stage import HubDownloadRequest, ModelFile
from sparkfleet.onhost.artifacts import pace
from sparkfleet.onhost.artifacts.fetch.hub_cache import repository
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.stdio import read

CHUNK = 1 << 20
TIMEOUT_S = 60
PARTIAL, UNSATISFIABLE = 206, 416


LOCK_DIFFERS = "differs from fleet.lock"
"""In the error of a file that the hub has in another size than the lock file says."""


class DownloadError(Exception):
    """A file that could not be downloaded; the text has the hub's status and error code."""


def download(request: HubDownloadRequest) -> None:
    """Download each file of the request. Raise DownloadError at the first that fails."""
    token, model = "", request.model
    if request.token_file:
        token = Path(request.token_file).read_text(encoding="utf-8").strip()
    root = repository(model.models_dir, model.repo)
    base = (model.endpoint or HUB).rstrip("/")
    for file in model.files:
        url = f"{base}/{model.repo}/resolve/{model.revision}/{urllib.parse.quote(file.path)}"
        blob = root / "blobs" / file.blob
        if not blob.is_file() or blob.stat().st_size != file.size:
            _file(url, token, blob, file)
        _link(root / "snapshots" / model.revision / file.path, blob)


def main() -> int:
    """Download the request on stdin; print an error to stderr. Return an exit code."""
    try:
        download(read(HubDownloadRequest))
    except DownloadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


class _TokenForOneHost(urllib.request.HTTPRedirectHandler):
    """A redirect leads to the storage behind the hub, which must not see the token."""

    def redirect_request(  # noqa: PLR0917 - the signature of the base class
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            following.remove_header("Authorization")
        return following


def _file(url: str, token: str, blob: Path, file: ModelFile) -> None:
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{blob.name}.incomplete")
    size, start = file.size, partial.stat().st_size if partial.is_file() else 0
    if start >= size:
        start = 0
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if start:
        request.add_header("Range", f"bytes={start}-")
    opener = urllib.request.build_opener(_TokenForOneHost)

    def transfer(arrived: Callable[[int], None]) -> None:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            continued = response.status == PARTIAL
            _check_size(url, _total(response.headers), size, partial)
            with partial.open("ab" if continued else "wb") as target:
                files.write_from(response, target, size - target.tell(), CHUNK, arrived)

    try:
        pace.run(pace.Pace(urllib.parse.urlsplit(url).netloc, file.path), transfer)
    except pace.TooSlowError as error:
        raise DownloadError(str(error)) from None
    except urllib.error.HTTPError as error:
        with error:
            if error.code == UNSATISFIABLE:  # the file there ends before what is here already
                _check_size(url, start, size, partial)
            raise DownloadError(_refusal(url, error)) from None
    except (OSError, HTTPException) as error:
        raise DownloadError(f"{type(error).__name__}: {error} ({url})") from None
    got = partial.stat().st_size
    if got != size:
        if got > size:
            partial.unlink()
        raise DownloadError(f"IncompleteRead: {got} of {size} bytes of {url}")
    partial.replace(blob)


def _total(headers: Message) -> int | None:
    """Return the size of the whole file according to a response; None: it does not say."""
    text = str(headers.get("Content-Range") or headers.get("Content-Length") or "").rpartition("/")[2]
    return int(text) if text.isdecimal() else None


def _check_size(url: str, total: int | None, size: int, partial: Path) -> None:
    """Raise DownloadError, and remove what arrived, where the hub has a file in another size."""
    if total not in {None, size}:
        partial.unlink(missing_ok=True)
        raise DownloadError(f"{url} {LOCK_DIFFERS}: {total} bytes, not {size}")


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    headers = {name.lower(): value for name, value in error.headers.items()}
    return f"{headers.get('x-error-code', '')} HTTP {error.code} {error.reason} for {url}".strip()


def _link(link: Path, blob: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
