from __future__ import annotations

from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab.names import Lab, find_lab


@pytest.fixture(autouse=True)
def without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARKFLEET_LAB", raising=False)


def test_the_lab_is_that_of_the_checkout_around_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "inventories").mkdir()
    (tmp_path / "deploys" / "deep").mkdir(parents=True)
    lab = find_lab(tmp_path / "deploys" / "deep")
    assert lab == Lab(tmp_path, "default")
    assert lab.directory == tmp_path / ".lab" / "default"


def test_outside_a_checkout_the_directory_itself_has_the_lab(tmp_path: Path) -> None:
    assert find_lab(tmp_path).checkout == tmp_path


def test_two_checkouts_and_two_names_never_share_a_docker_name(tmp_path: Path) -> None:
    labs = [Lab(tmp_path / place, name) for place in ("a", "b") for name in ("default", "test")]
    assert len({lab.container("spark-01") for lab in labs}) == 4


def test_the_environment_names_another_lab_or_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARKFLEET_LAB", "second")
    assert find_lab(tmp_path) == Lab(tmp_path, "second")
    monkeypatch.setenv("SPARKFLEET_LAB", str(tmp_path / "far" / ".lab" / "test"))
    assert find_lab(tmp_path) == Lab(tmp_path / "far", "test")


@pytest.mark.provokes("lab-argument-invalid")
def test_a_name_that_docker_would_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparkfleetError, match="is not a valid name of a lab"):
        find_lab(tmp_path, "My Lab")
