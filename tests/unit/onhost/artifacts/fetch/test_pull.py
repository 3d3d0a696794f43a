"""Pulls with the credentials of the login user or root; without them where they cannot be read."""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkfleet.contract.registry_credentials import Credential
from sparkfleet.contract.stage import LoginUser
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import pull
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes.base import Image
from tests.unit.onhost.artifacts.fake_images import FakeImages

IMAGE = "nvcr.io/nvidia/vllm@sha256:" + "c" * 64


@dataclass
class Spark:
    """A Spark with a login user and root, each with a home of their own."""

    folder: Path
    journal: Journal

    @property
    def user(self) -> LoginUser:
        return LoginUser("nvidia", os.geteuid(), os.getegid(), str(self.folder / "nvidia"))

    def config(self, user: str, data: object) -> None:
        path = self.folder / user / ".docker" / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(data))

    def pull(self) -> int:
        return pull.pull(IMAGE, self.user, self.journal)

    def log(self) -> str:
        return (self.journal.directory / "events.jsonl").read_text()


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spark:
    (tmp_path / "job").mkdir()
    root = LoginUser("root", os.geteuid(), os.getegid(), str(tmp_path / "root"))
    monkeypatch.setattr(pull, "ROOT", root)
    return Spark(tmp_path, Journal(tmp_path / "job", time.time))


def login(user: str, password: str) -> dict[str, object]:
    return {"auths": {"nvcr.io": {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}}


def test_an_image_that_is_present_is_not_pulled(spark: Spark, images: FakeImages) -> None:
    images.present[IMAGE] = Image("sha256:1")
    assert spark.pull() == 0
    assert images.calls == []


def test_the_login_users_credentials_come_before_roots(spark: Spark, images: FakeImages) -> None:
    spark.config("root", login("root", "r"))
    spark.config("nvidia", login("$oauthtoken", "key"))
    assert spark.pull() == 7
    assert images.credentials == [Credential("$oauthtoken", "key")]


def test_without_a_login_of_the_user_roots_is_used_and_without_any_none(
    spark: Spark, images: FakeImages
) -> None:
    assert pull.find_credential("nvcr.io", spark.user) is None
    spark.config("root", login("root", "r"))
    spark.pull()
    assert images.credentials == [Credential("root", "r")]


def test_a_public_image_is_pulled_although_its_credential_helper_is_missing(
    spark: Spark, images: FakeImages
) -> None:
    spark.config("nvidia", {"credsStore": "missing"})
    assert spark.pull() == 7
    assert images.credentials == [None]
    assert "docker-credential-missing is not on PATH" in spark.log()
    assert "pulling without credentials" in spark.log()


def test_a_refused_pull_names_the_missing_credential_helper(spark: Spark, images: FakeImages) -> None:
    spark.config("nvidia", {"credsStore": "missing"})
    images.refuses = "pull access denied"
    with pytest.raises(StageError) as raised:
        spark.pull()
    assert "pull access denied; credentials: " in raised.value.diagnostic.message
    assert "docker-credential-missing is not on PATH" in raised.value.diagnostic.message
    assert "install docker-credential-missing" in raised.value.diagnostic.hint
    assert raised.value.diagnostic.code == "registry-credentials-unreadable"


def test_a_refused_pull_has_the_runtimes_remedy(spark: Spark, images: FakeImages) -> None:
    images.refuses = "pull access denied"
    with pytest.raises(StageError, match=r"image nvcr\.io/nvidia/vllm: could not be pulled") as raised:
        spark.pull()
    assert raised.value.diagnostic.hint == "log in at nvcr.io"
