"""Derived images by name: one name for one content, and what is shown of them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.desired_state import ImageRef, derived_packages, host_from_json
from sparkfleet.desired_state.derived_packages import DerivedPackages, Wheel
from tests.unit.plan.nano import HOST, NANO

RAY = Wheel("ray-2.60.0-cp312-cp312-manylinux2014_aarch64.whl", "https://index.example/ray", "a" * 64, 70)
MSGPACK = Wheel("msgpack-1.1-py3-none-any.whl", "https://index.example/msgpack", "b" * 64, 3)
PIP = Wheel("pip-26.0-py3-none-any.whl", "https://index.example/pip", "c" * 64, 2)
ADDED = DerivedPackages(("ray>=2",), (MSGPACK, PIP, RAY))
BASE = ImageRef("nvcr.io/nvidia/vllm", "26.04-py3", "sha256:" + "d" * 64, ("x",), "0.19.0", 9)
IMAGE = replace(BASE, derived_packages=ADDED)


def test_a_derived_image_is_named_by_what_it_is_made_from() -> None:
    repository, _, tag = IMAGE.pull_ref.rpartition(":")
    assert repository == "localhost/sparkfleet/derived"
    assert len(tag) == 16
    assert IMAGE.full_ref == IMAGE.mark == IMAGE.pull_ref
    assert replace(IMAGE, tag="another", size=7).pull_ref == IMAGE.pull_ref
    again = replace(IMAGE, derived_packages=replace(ADDED, wheels=ADDED.wheels[::-1]))
    assert again.pull_ref == IMAGE.pull_ref


@pytest.mark.parametrize(
    "other",
    [
        replace(IMAGE, digest="sha256:" + "e" * 64),
        replace(IMAGE, derived_packages=replace(ADDED, install=("ray>=2", "msgpack"))),
        replace(IMAGE, derived_packages=replace(ADDED, wheels=(MSGPACK, PIP))),
        replace(IMAGE, derived_packages=replace(ADDED, wheels=(MSGPACK, PIP, replace(RAY, sha256="e" * 64)))),
    ],
)
def test_another_base_wheel_or_wish_has_another_name(other: Any) -> None:
    assert other.pull_ref != IMAGE.pull_ref


def test_another_program_that_installs_gives_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = IMAGE.pull_ref
    monkeypatch.setattr(derived_packages, "_program", lambda: "another")
    derived_packages.reference.cache_clear()
    try:
        assert IMAGE.pull_ref != before
    finally:
        derived_packages.reference.cache_clear()


def test_all_else_is_the_bases() -> None:
    assert IMAGE.base == BASE
    assert IMAGE.names == (IMAGE.pull_ref, BASE.pull_ref)
    assert (BASE.base, BASE.names, BASE.mark) == (BASE, (BASE.pull_ref,), BASE.digest)


def test_people_see_what_was_asked_for_with_its_version() -> None:
    assert IMAGE.display == "nvcr.io/nvidia/vllm:26.04-py3 + ray 2.60.0"
    assert ADDED.packages == ("ray 2.60.0", "msgpack 1.1")
    assert ADDED.size == 75


@pytest.mark.parametrize("spelling", ["Mistral.Common>=1", "mistral-common", "mistral_common ==2"])
def test_a_package_is_found_however_it_is_written(spelling: str) -> None:
    wheel = Wheel("mistral_common-1.11-py3-none-any.whl", "u", "a" * 64)
    assert DerivedPackages((spelling,), (wheel, PIP)).added == ("mistral_common 1.11",)


def test_a_derived_image_survives_json() -> None:
    host = replace(HOST, services=(replace(NANO, image=IMAGE),))
    assert host_from_json(json.loads(json.dumps(codec.plain(host)))) == host
