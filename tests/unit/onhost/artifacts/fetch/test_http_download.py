"""Files of a model repository without ``hf``: whole, in the hub's cache, resumed, refused with the cause."""

from __future__ import annotations

import hashlib
import io
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path

import pytest

from sparkfleet.contract.stage import HubDownloadRequest, ModelDownload, ModelFile
from sparkfleet.onhost.artifacts.fetch import http_download
from sparkfleet.onhost.artifacts.fetch.fetch import download_error
from sparkfleet.onhost.artifacts.fetch.hub_cache import repository, wrong_files
from sparkfleet_lab.standins.hub import Hub
from sparkfleet_lab.standins.hub_models import GEMMA, MODELS, TINY_GGUF, TOKEN_ACCEPTED, make_models

BY_REPO = {model.repo: model for model in MODELS}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    make_models(tmp_path / "hub", (BY_REPO[TINY_GGUF], BY_REPO[GEMMA]))
    server = Hub(("127.0.0.1", 0), tmp_path / "hub")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def request(hub: Hub, home: Path, repo: str, *paths: str, token: Path | None = None) -> HubDownloadRequest:
    model = BY_REPO[repo]
    content = model.files(model.commits[-1])
    files = tuple(
        ModelFile(path, len(content[path]), hashlib.sha256(content[path]).hexdigest()) for path in paths
    )
    download = ModelDownload(
        repo, model.commit(model.commits[-1]), str(home), files, endpoint=hub.endpoint, hub_client=""
    )
    return HubDownloadRequest(download, str(token or ""))


def test_files_arrive_whole_where_the_hub_client_would_put_them(hub: Hub, tmp_path: Path) -> None:
    requested = request(hub, tmp_path, TINY_GGUF, "tiny-Q4_K_M.gguf", "F32/tiny-F32-00001-of-00002.gguf")
    http_download.download(requested)
    root = repository(str(tmp_path), TINY_GGUF)
    assert wrong_files(root, requested.model.revision, requested.model.files) == []
    link = root / "snapshots" / requested.model.revision / "F32/tiny-F32-00001-of-00002.gguf"
    assert link.read_bytes()[:4] == b"GGUF"
    assert not link.readlink().is_absolute()


def test_an_interrupted_file_continues_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    requested = request(hub, tmp_path, TINY_GGUF, "tiny-Q8_0.gguf")
    (file,) = requested.model.files
    content = BY_REPO[TINY_GGUF].files("first")["tiny-Q8_0.gguf"]
    blobs = repository(str(tmp_path), TINY_GGUF) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{file.blob}.incomplete").write_bytes(content[:1_000_000])
    http_download.download(requested)
    assert (blobs / file.blob).read_bytes() == content


def test_a_gated_model_needs_the_token_and_says_so(hub: Hub, tmp_path: Path) -> None:
    requested = request(hub, tmp_path, GEMMA, "config.json")
    with pytest.raises(http_download.DownloadError) as refused:
        http_download.download(requested)
    assert "gated" in str(download_error(GEMMA, str(refused.value), 1))
    token = tmp_path / "token"
    token.write_text(TOKEN_ACCEPTED)
    http_download.download(replace(requested, token_file=str(token)))
    assert (
        repository(str(tmp_path), GEMMA) / "snapshots" / requested.model.revision / "config.json"
    ).is_file()


def test_a_file_that_the_hub_does_not_have_ends_with_its_answer(hub: Hub, tmp_path: Path) -> None:
    requested = request(hub, tmp_path, TINY_GGUF, "tiny-F16.gguf")
    (file,) = requested.model.files
    requested = replace(
        requested, model=replace(requested.model, files=(replace(file, path="tiny-Q2_K.gguf"),))
    )
    with pytest.raises(http_download.DownloadError, match=r"EntryNotFound HTTP 404"):
        http_download.download(requested)


def test_a_file_without_an_end_is_not_read_beyond_its_locked_size(
    monkeypatch: pytest.MonkeyPatch, hub: Hub, tmp_path: Path
) -> None:
    class Endless(io.BytesIO):
        status, headers = 200, Message()

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= http_download.CHUNK
            return b"x" * size

    def opened(*_: object, **__: object) -> Endless:
        return Endless()

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", opened)
    requested = request(hub, tmp_path, TINY_GGUF, "tiny-Q8_0.gguf")
    (file,) = requested.model.files
    with pytest.raises(http_download.DownloadError, match=f"{file.size + 1} of {file.size} bytes"):
        http_download.download(requested)


@pytest.mark.parametrize("already", [0, 1_000_000, None], ids=["fresh", "interrupted", "whole"])
@pytest.mark.parametrize("difference", [-1, 1000])
def test_a_size_that_the_hub_does_not_have_is_an_error_of_the_lock_file(
    hub: Hub, tmp_path: Path, difference: int, already: int | None
) -> None:
    requested = request(hub, tmp_path, TINY_GGUF, "tiny-Q8_0.gguf")
    (file,) = requested.model.files
    content = BY_REPO[TINY_GGUF].files("first")["tiny-Q8_0.gguf"]
    partial = repository(str(tmp_path), TINY_GGUF) / "blobs" / f"{file.blob}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content[:already])
    wrong = replace(file, size=file.size + difference)
    with pytest.raises(http_download.DownloadError) as error:
        http_download.download(replace(requested, model=replace(requested.model, files=(wrong,))))
    assert f"differs from fleet.lock: {file.size} bytes, not {wrong.size}" in str(error.value)
    assert download_error(TINY_GGUF, str(error.value), 1).diagnostic.code == "lock-content-differs"
    assert not partial.exists()
