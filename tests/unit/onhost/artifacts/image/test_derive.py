"""A derived image: wheels by their hashes, one container without network, and nothing half."""

from __future__ import annotations

import errno
import functools
import hashlib
import http.server
import os
import threading
import time
import urllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.onhost.artifacts.fetch import staged
from sparkfleet.onhost.artifacts.fetch.pull import StageError
from sparkfleet.onhost.artifacts.image import derive
from sparkfleet.onhost.artifacts.image.image_refs import LABEL_DERIVED
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import RuntimeRefusedError

BASE = "nvcr.io/nvidia/vllm@sha256:" + "a" * 64
TAG = "0123456789abcdef"
DERIVED = f"localhost/sparkfleet/derived:{TAG}"
WHEELS = {"extra_tool-1.2-py3-none-any.whl": b"tool" * 999, "pip-26.0-py3-none-any.whl": b"pip" * 999}
CONFIG = {"Entrypoint": None, "Env": ["PATH=/bin"], "User": "", "WorkingDir": "/workspace", "Cmd": ["x"]}


class Engine:
    """A dockerd with one image; ``ends`` is the exit code of the container that installs."""

    def __init__(self) -> None:
        self.images: dict[str, dict[str, Any]] = {BASE: {"Id": "sha256:base", "Config": dict(CONFIG)}}
        self.containers: dict[str, dict[str, Any]] = {}
        self.done: list[str] = []
        self.ends = 0
        self.said = ""
        self.spoils = False
        """Whether docker gives the new image another entrypoint."""
        self.unnamed: list[str] = []

    def image(self, reference: str) -> dict[str, Any] | None:
        return self.images.get(reference)

    def has_image(self, reference: str) -> bool:
        return reference in self.images

    def image_size(self, _: str) -> int:
        return 7

    def create_from(self, name: str, settings: dict[str, Any]) -> None:
        self.containers[name] = settings

    def start(self, name: str) -> None:
        self.done.append(f"start {name}")

    def wait(self, _: str, timeout_s: float) -> int:
        assert timeout_s > 60
        return self.ends

    def log(self, _: str, tail: int) -> str:
        return self.said

    def commit(self, name: str, settings: dict[str, Any]) -> str:
        labels = self.containers[name]["Labels"]
        entrypoint = ["python3"] if self.spoils else settings["Entrypoint"]
        self.images["sha256:made"] = {
            "Id": "sha256:made",
            "Config": {**settings, "Entrypoint": entrypoint, "Labels": labels},
        }
        return "sha256:made"

    def name_image(self, image: str, repository: str, tag: str) -> None:
        self.images[f"{repository}:{tag}"] = self.images[image]

    def remove_image(self, reference: str) -> None:
        self.done.append(f"remove image {reference}")
        self.images.pop(reference, None)

    def remove(self, name: str) -> None:
        self.done.append(f"remove {name}")
        self.containers.pop(name, None)

    def names_of_containers(self, label: str) -> list[str]:
        return [name for name, settings in self.containers.items() if label in settings["Labels"]]

    def unnamed_images(self, label: str) -> list[str]:
        assert label == LABEL_DERIVED
        return self.unnamed


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(derive, "ImageEngine", lambda: made)
    monkeypatch.setattr(staged, "DockerEngine", lambda: made)
    monkeypatch.setattr(derive, "pull", lambda reference, home, journal: 0)
    return made


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "job").mkdir()
    return Journal(tmp_path / "job", time.time)


class Index(http.server.ThreadingHTTPServer):
    """A static package index that counts what it was asked for."""

    asked: list[str]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "index"
    folder.mkdir()
    for name, content in WHEELS.items():
        (folder / name).write_bytes(content)
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path.lstrip("/"))

    with Index(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        server.asked = asked
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def order(index: Index) -> dict[str, Any]:
    wheels = [
        {"name": name, "url": index.url(name), "sha256": hashlib.sha256(content).hexdigest(), "size": 1}
        for name, content in WHEELS.items()
    ]
    return {
        "image": DERIVED,
        "base": BASE,
        "install": ["extra-tool==1.2"],
        "wheels": wheels,
        "labels": {"io.sparkfleet.base": BASE},
    }


def build(order: dict[str, Any], journal: Journal, state: Path) -> None:
    derive.build(order, Path("/root"), journal, state)


@pytest.fixture
def attempt(engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path) -> Callable[[], None]:
    """Build what ``order`` says by then."""
    return lambda: build(order, journal, tmp_path)


def test_the_image_has_its_bases_settings_and_says_what_it_is(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    build(order, journal, tmp_path)
    config = engine.images[DERIVED]["Config"]
    assert {key: config[key] or None for key in ("Env", "WorkingDir", "User", "Cmd", "Entrypoint")} == {
        **CONFIG,
        "User": None,
    }
    assert config["Labels"] == {LABEL_DERIVED: TAG, "io.sparkfleet.base": BASE}
    assert derive.is_here(engine, DERIVED)  # type: ignore[arg-type]
    assert list(staged.read(tmp_path).images) == [DERIVED]


def test_it_is_made_without_network_from_wheels_that_it_cannot_change(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def create(name: str, said: dict[str, Any]) -> None:
        seen.update(said)
        engine.containers[name] = said

    monkeypatch.setattr(engine, "create_from", create)
    engine.images[BASE]["Config"]["User"] = "vllm"
    build(order, journal, tmp_path)
    host = seen["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert [(mount["Target"], mount["ReadOnly"]) for mount in host["Mounts"]] == [("/mnt", True)]
    assert seen["Cmd"] == ["extra-tool==1.2"]
    assert seen["User"] == "0:0"
    assert engine.images[DERIVED]["Config"]["User"] == "vllm"


def test_nothing_is_left_of_a_build_but_the_image(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    build(order, journal, tmp_path)
    assert engine.containers == {}
    assert list((tmp_path / "builds").iterdir()) == []


def test_an_image_that_is_here_is_not_made_again(
    engine: Engine, index: Index, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    build(order, journal, tmp_path)
    index.asked.clear()
    engine.done.clear()
    build(order, journal, tmp_path)
    assert (index.asked, engine.done) == ([], [])


def test_an_image_of_that_name_that_is_something_else_is_replaced(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    engine.images[DERIVED] = {"Id": "sha256:foreign", "Config": {"Labels": None}}
    build(order, journal, tmp_path)
    assert engine.images[DERIVED]["Id"] == "sha256:made"


def test_a_wheel_with_another_content_is_not_installed_nor_kept(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    order["wheels"][0]["sha256"] = "0" * 64
    with pytest.raises(StageError, match="another content than the locked one"):
        build(order, journal, tmp_path)
    assert engine.containers == {}
    assert engine.done == []
    assert list((tmp_path / "builds" / TAG).iterdir()) == []


def test_a_build_goes_on_with_the_wheels_that_are_there_and_whole(
    engine: Engine, index: Index, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    first, second = order["wheels"]
    folder = tmp_path / "builds" / TAG
    folder.mkdir(parents=True)
    (folder / first["name"]).write_bytes(WHEELS[first["name"]])
    (folder / second["name"]).write_bytes(b"half")
    build(order, journal, tmp_path)
    assert [line.split()[1] if " " in line else line for line in index.asked] == [second["name"]]
    assert DERIVED in engine.images


def test_packages_that_do_not_fit_leave_no_image_and_are_told_in_pips_words(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    engine.ends = 1
    engine.said = "Looking in links: /mnt\nERROR: Cannot install extra-tool==1.2 because of numpy\n"
    with pytest.raises(StageError, match=r"extra-tool==1\.2 cannot be installed") as raised:
        build(order, journal, tmp_path)
    assert "because of numpy" in raised.value.result["line"]
    assert set(engine.images) == {BASE}
    assert engine.containers == {}
    assert list((tmp_path / "builds").iterdir()) == []
    assert staged.read(tmp_path).images == {}


def test_an_image_that_would_start_otherwise_than_its_base_gets_no_name(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    engine.spoils = True
    with pytest.raises(StageError, match="another Entrypoint than its base"):
        build(order, journal, tmp_path)
    assert set(engine.images) == {BASE}


def test_a_docker_that_fails_is_told_and_its_container_goes(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> str:
        raise RuntimeRefusedError("no space left on device")

    monkeypatch.setattr(engine, "commit", fail)
    with pytest.raises(StageError, match="could not be made: no space left"):
        build(order, journal, tmp_path)
    assert engine.containers == {}


def test_what_a_build_that_was_cut_off_left_goes_before_the_next(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    engine.containers = {
        "sparkfleet-build-ffff": {"Labels": {LABEL_DERIVED: "ffff"}},
        "serving": {"Labels": {LABEL_DERIVED: "ffff", "io.sparkfleet.service": "serving"}},
    }
    engine.unnamed = ["sha256:half"]
    (tmp_path / "builds" / "old").mkdir(parents=True)
    os.utime(tmp_path / "builds" / "old", (time.time() - derive.OLD_S - 9,) * 2)
    build(order, journal, tmp_path)
    assert list(engine.containers) == ["serving"]
    assert "remove image sha256:half" in engine.done
    assert not (tmp_path / "builds" / "old").exists()


@pytest.mark.parametrize(
    "case",
    [
        ("gone-1-py3-none-any.whl", "gone-1-py3-none-any.whl", "says 404"),
        ("../evil.whl", "extra_tool-1.2-py3-none-any.whl", "no name of a wheel"),
    ],
)
def test_what_the_index_does_not_give_is_told_with_its_name(
    attempt: Callable[[], None], index: Index, order: dict[str, Any], case: tuple[str, str, str]
) -> None:
    name, url, words = case
    order["wheels"][0] |= {"name": name, "url": index.url(url)}
    with pytest.raises(StageError, match=words):
        attempt()


def test_a_file_of_the_operators_machine_is_no_source(
    engine: Engine, order: dict[str, Any], journal: Journal, tmp_path: Path
) -> None:
    order["wheels"][0]["url"] = "file:///etc/passwd"
    with pytest.raises(StageError, match="no URL that a Spark can fetch"):
        build(order, journal, tmp_path)


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "free some room"), (errno.EIO, "check the")])
def test_a_cut_and_a_full_disk_have_remedies_of_their_own(
    attempt: Callable[[], None], monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, "broken")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(StageError) as raised:
        attempt()
    assert words in raised.value.result["remedy"]


def test_a_download_uses_the_derived_image_when_it_is_here_and_its_base_before(engine: Engine) -> None:
    request = {"images": [BASE], "unless": DERIVED, "weights": [{"repo": "a/b", "image": BASE}]}
    assert derive.with_what_is_here(request) == request
    engine.images[DERIVED] = {"Id": "sha256:made", "Config": {"Labels": {LABEL_DERIVED: TAG}}}
    found = derive.with_what_is_here(request)
    assert found["images"] == []
    assert found["weights"] == [{"repo": "a/b", "image": DERIVED}]
    assert derive.with_what_is_here({"images": [BASE]}) == {"images": [BASE]}


def test_wheels_that_are_carried_come_from_their_sender_and_the_index_is_not_asked(
    attempt: Callable[[], None], index: Index, order: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key = tmp_path / "key"
    key.write_text("of this job")
    asked: list[dict[str, Any]] = []

    def in_child(said: dict[str, Any], user: dict[str, Any], _: Any) -> dict[str, Any]:
        assert user["uid"] == 0
        asked.append(said)
        for file in said["files"]:
            Path(file["target"]).write_bytes(WHEELS[file["name"]])
        return {"fetched": 1}

    monkeypatch.setattr(derive, "in_child", in_child)
    wheels = [{**one, "number": 5 + at} for at, one in enumerate(order["wheels"])]
    place = {"sender": "the offline mirror", "listeners": [[1, "127.0.0.1", 4711]]}
    assert derive.with_key(order, key) is order
    order |= derive.with_key({**order, "wheels": wheels, "carried": place}, key)
    attempt()
    (said,) = asked
    assert {key: said[key] for key in ("sender", "listeners", "transfer_key")} == {
        **place, "transfer_key": "of this job",
    }  # fmt: skip
    assert [file["number"] for file in said["files"]] == [5, 6]
    assert [file["blob"] for file in said["files"]] == [one["sha256"] for one in wheels]
    assert index.asked == []
