"""Wheels in an offline mirror: each once, with the locked content or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from sparkfleet.config.lock_data import Lock
from sparkfleet.desired_state import Fleet
from sparkfleet.desired_state.derived_packages import Wheel
from sparkfleet.lock.errors import PackagesError
from sparkfleet.lock.registry import Registry
from sparkfleet.offline import mirror, wheel_downloads, wheels
from tests.unit.desired_state.test_derived_packages import ADDED
from tests.unit.plan.test_derived_images import DERIVED

BODY = b"a wheel"
SCIPY = Wheel("scipy-1.17-py3-none-any.whl", "https://i.example/f", hashlib.sha256(BODY).hexdigest(), 7)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, bytes], list[str]]:
    """Let the index answer; return what it is asked for from then on."""

    def responses(status: int, body: bytes) -> list[str]:
        requests: list[str] = []

        def get(url: str, **_: object) -> httpx.Response:
            requests.append(url)
            return httpx.Response(status, content=body, request=httpx.Request("GET", url))

        monkeypatch.setattr(httpx, "get", get)
        return requests

    return responses


def test_a_wheel_is_downloaded_once(index: Callable[[int, bytes], list[str]], tmp_path: Path) -> None:
    requests = index(200, BODY)
    for _ in (1, 2):
        wheel_downloads.download(tmp_path, SCIPY, lambda _: None)
    assert requests == [SCIPY.url]
    assert wheels.wheel_path(tmp_path, SCIPY).read_bytes() == BODY
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [SCIPY.name]


def test_a_changed_wheel_is_downloaded_again(
    index: Callable[[int, bytes], list[str]], tmp_path: Path
) -> None:
    index(200, BODY)
    wheel_downloads.download(tmp_path, SCIPY, lambda _: None)
    wheels.wheel_path(tmp_path, SCIPY).write_bytes(b"changed")
    wheel_downloads.download(tmp_path, SCIPY, lambda _: None)
    assert wheels.has(tmp_path, SCIPY)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [(200, b"other", "does not match its locked hash"), (404, b"", "could not be downloaded")],
)
def test_what_does_not_come_as_locked_is_not_kept(
    index: Callable[[int, bytes], list[str]], tmp_path: Path, status: int, body: bytes, message: str
) -> None:
    index(status, body)
    with pytest.raises(PackagesError, match=message):
        wheel_downloads.download(tmp_path, SCIPY, lambda _: None)
    assert not (tmp_path / "wheels").exists()


def test_a_mirror_has_the_wheels_of_its_fleets_derived_images_each_once(
    index: Callable[[int, bytes], list[str]], tmp_path: Path
) -> None:
    fleet = Fleet("lab", (DERIVED, replace(DERIVED, name="spark-02")))
    found = mirror.content(fleet, Lock())
    assert set(found.wheels) == set(ADDED.wheels)
    index(404, b"")
    lacking = mirror.Content((), (), found.wheels)
    diagnostics = list(mirror.write(tmp_path, lacking, mirror.Source(Registry({})), lambda _: None))
    assert {diagnostic.location for diagnostic in diagnostics} == {wheel.name for wheel in ADDED.wheels}
