"""What an update may be; everything else is refused before anything is stored."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.knowledge import archive
from sparkfleet.knowledge.archive import MANIFEST, load
from tests.unit.knowledge import updates
from tests.unit.knowledge.updates import IMAGES, RECIPE, VERSION, Pinned

FILES = {IMAGES: updates.images(), RECIPE: updates.NEW_RECIPE}
WHOLE = {MANIFEST: updates.manifest(FILES), **FILES}


def refused(update: Pinned) -> tuple[str, str]:
    """Load an update that is not accepted; return code and message."""
    with pytest.raises(SparkfleetError) as error:
        load(update.source, update.sha256)
    (found,) = error.value.diagnostics
    assert found.location.startswith(update.source)
    assert found.expected
    assert found.hint
    return found.code, found.message


FORMS: dict[str, Callable[[Path], Pinned]] = {
    "directory": lambda tmp_path: updates.folder(tmp_path, FILES),
    "tar.gz": lambda tmp_path: updates.pinned(tmp_path, archive.pack(VERSION, FILES)),
    "tar of ./": lambda tmp_path: updates.pinned(
        tmp_path, updates.tarred({f"./{name}": content for name, content in WHOLE.items()})
    ),
    "zip": lambda tmp_path: updates.pinned(tmp_path, updates.zipped(WHOLE)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_update_is_read_in_each_form(form: Callable[[Path], Pinned], tmp_path: Path) -> None:
    update = form(tmp_path)
    found = load(update.source, update.sha256.upper())
    assert (found.version, dict(found.files)) == (VERSION, FILES)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_update_is_read_from_a_file_url(form: Callable[[Path], Pinned], tmp_path: Path) -> None:
    folder = tmp_path / "an update"
    folder.mkdir()
    update = form(folder)
    url = Path(update.source).as_uri()
    assert "%20" in url
    found = load(url, update.sha256)
    assert (found.version, dict(found.files)) == (VERSION, FILES)
    assert refused(Pinned(url, "0" * 64))[0] == "knowledge-hash-mismatch"
    assert refused(Pinned(f"{url}-missing", update.sha256))[1].endswith("No such file or directory")


def test_a_url_of_another_scheme_is_refused_by_name() -> None:
    assert refused(Pinned("s3://bucket/update.tar.gz", "0" * 64)) == (
        "knowledge-unreadable",
        "s3 is not a scheme of an update's URL",
    )


def test_the_bundled_files_are_an_update() -> None:
    files = archive.bundled_files()
    assert {IMAGES, updates.PATTERNS, "engines/vllm/data/releases.json.gz"} <= files.keys()
    assert {"engines/llamacpp/data/releases.json", "onhost/gate/failure_patterns.json"} <= files.keys()
    assert not [name for name in files if name.endswith(".py")]
    assert archive.pack(VERSION, files) == archive.pack(VERSION, dict(reversed(files.items())))


@pytest.mark.provokes("knowledge-hash-mismatch")
def test_an_archive_of_another_hash_is_refused(tmp_path: Path) -> None:
    update = updates.good(tmp_path)
    code, message = refused(Pinned(update.source, "0" * 64))
    assert (code, message) == ("knowledge-hash-mismatch", f"SHA-256 {update.sha256}")


def test_a_directory_whose_manifest_has_another_hash_is_refused(tmp_path: Path) -> None:
    update = updates.folder(tmp_path, FILES)
    assert refused(Pinned(update.source, "0" * 64))[0] == "knowledge-hash-mismatch"


def test_a_directory_with_a_changed_file_is_refused(tmp_path: Path) -> None:
    update = updates.folder(tmp_path, FILES)
    (Path(update.source) / RECIPE).write_text("recipe: other\n")
    assert refused(update) == ("knowledge-unreadable", f"{RECIPE} is damaged")


@pytest.mark.provokes("knowledge-unreadable")
def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    whole = archive.pack(VERSION, FILES)
    code, message = refused(updates.pinned(tmp_path, whole[: len(whole) // 2]))
    assert code == "knowledge-unreadable"
    assert "damaged, truncated" in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive",
        b"\x1f\x8b" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        updates.zipped(WHOLE)[:-30],
        updates.zipped(WHOLE)[:200] + bytes(50) + updates.zipped(WHOLE)[250:],
        updates.tarred({"x": b""})[:-12],
        updates.tarred(FILES),
        updates.tarred({MANIFEST: b"{}"}),
        updates.tarred({MANIFEST: b"[]"}),
        updates.tarred({MANIFEST: b"\xff"}),
        updates.tarred({MANIFEST: updates.manifest({}, version="latest")}),
        updates.tarred({MANIFEST: updates.manifest({}, version="2027.1.2/../../x")}),
        updates.tarred({MANIFEST: updates.manifest({}, version="2027.1.2\n")}),
        updates.tarred({MANIFEST: updates.manifest({}, version="1!2027.1.2+x")}),
        updates.tarred({MANIFEST: updates.manifest(FILES)}),
        updates.tarred({**WHOLE, IMAGES: b"{}"}),
        updates.tarred({MANIFEST: updates.manifest({}), RECIPE: b""}),
    ],
    ids=[
        "empty", "text", "gzip of nothing", "zip of nothing", "zip cut", "zip damaged", "tar cut",
        "no manifest", "empty manifest", "manifest is a list", "manifest is no text", "no version",
        "version with a path", "version with a line", "version with more",
        "files missing", "file of another hash", "file without a hash",
    ],
)  # fmt: skip
def test_what_is_incomplete_or_damaged_is_refused(content: bytes, tmp_path: Path) -> None:
    assert refused(updates.pinned(tmp_path, content))[0] == "knowledge-unreadable"


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    update = updates.pinned(tmp_path, updates.tarred({MANIFEST: updates.manifest({}), RECIPE: b"x"}))
    assert refused(update) == ("knowledge-unreadable", f"{RECIPE} is not in {MANIFEST}")


@pytest.mark.provokes("knowledge-path-invalid")
def test_a_path_outside_is_refused(tmp_path: Path) -> None:
    outside = {"../../../home/x/.bashrc": b"rm -rf ~"}
    update = updates.pinned(tmp_path, updates.tarred({MANIFEST: updates.manifest(outside), **outside}))
    code, message = refused(update)
    assert (code, message) == ("knowledge-path-invalid", "a file '../../../home/x/.bashrc'")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "catalog/recipes/../../cli/x.yaml", "catalog/recipes/a..yaml/b.yaml",
        "engines/vllm/check.py", "engines/vllm/data/ask_parser.py", "engines/vllm/data/new.json",
        "engines/other/failure_patterns.json",
        "contract/generation_1.json", "catalog/recipes/x.yaml\n", "catalog/recipes/.x.yaml", "x" * 5000,
    ],
)  # fmt: skip
def test_code_and_unknown_files_are_refused_in_every_form(name: str, tmp_path: Path) -> None:
    files = {name: b"{}"}
    whole = {MANIFEST: updates.manifest(files), **files}
    for content in (updates.tarred(whole), updates.zipped(whole)):
        assert refused(updates.pinned(tmp_path, content))[0] == "knowledge-path-invalid"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    content = updates.tarred({**WHOLE, "link": updates.link(RECIPE, "/etc/passwd", kind)})
    assert refused(updates.pinned(tmp_path, content))[0] == "knowledge-path-invalid"


def test_a_directory_may_not_point_outside(tmp_path: Path) -> None:
    update = updates.folder(tmp_path, {"../secret": b"x"})
    (tmp_path / "secret").unlink()
    assert refused(update)[0] == "knowledge-path-invalid"


@pytest.mark.provokes("knowledge-format-unknown")
def test_an_update_for_another_sparkfleet_is_refused(tmp_path: Path) -> None:
    content = updates.tarred({MANIFEST: updates.manifest({}, format_=99)})
    assert refused(updates.pinned(tmp_path, content)) == ("knowledge-format-unknown", "format 99")


def test_what_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILE", 1000)
    for content in (updates.tarred({RECIPE: bytes(2000)}), updates.zipped({RECIPE: bytes(2000)})):
        code, message = refused(updates.pinned(tmp_path, content))
        assert (code, "larger than any update" in message) == ("knowledge-unreadable", True)
    monkeypatch.setattr(archive, "MAX_ARCHIVE", 10)
    assert refused(updates.good(tmp_path))[0] == "knowledge-unreadable"


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    code, message = refused(Pinned(str(tmp_path / "none.tar.gz"), "0" * 64))
    assert (code, message) == (
        "knowledge-unreadable",
        "none.tar.gz cannot be read: No such file or directory",
    )


class Server(BaseHTTPRequestHandler):
    """Serves one archive, and fails in three ways."""

    content = archive.pack(VERSION, FILES)

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[:100] if self.path == "/cut" else self.content)

    def log_message(self, *_: object) -> None:
        pass


def test_an_update_is_fetched_from_a_url() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert load(f"{url}/update.tar.gz", updates.digest(Server.content)).version == VERSION
        assert refused(Pinned(f"{url}/update.tar.gz", "0" * 64))[0] == "knowledge-hash-mismatch"
        assert refused(Pinned(f"{url}/missing", "0" * 64)) == (
            "knowledge-unreadable",
            "the server responded with HTTP 404",
        )
        assert "cannot be downloaded" in refused(Pinned(f"{url}/cut", "0" * 64))[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert "cannot be downloaded" in refused(Pinned(f"{url}/gone", "0" * 64))[1]
