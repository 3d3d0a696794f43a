from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab.apt import Apt, Source
from sparkfleet_lab.build import Definition, build
from sparkfleet_lab.content import Entry
from tests.unit.lab.recorder import Recorder

APT = Apt("bookworm", (Source("http://mirror.example/debian", "bookworm", ("main",)),))
DEFINITION = Definition(
    "tool", "base:1", "sha256:b", ("curl",), (Entry("etc/x", b"x"),), changes=("WORKDIR /",)
)


def quiet(text: str) -> None:
    """Say nothing."""


def test_an_image_that_is_there_is_not_built_again() -> None:
    docker = Recorder(images={DEFINITION.tag: {"Id": "sha256:1"}})
    assert build(docker, DEFINITION, APT, quiet, "") == DEFINITION.tag
    assert docker.lines_called == [f"image inspect {DEFINITION.tag}"]


@pytest.mark.parametrize(
    "change",
    [
        {"base_id": "sha256:c"}, {"packages": ("wget",)}, {"files": (Entry("etc/x", b"y"),)},
        {"script": "true"}, {"key": "k"}, {"changes": ("WORKDIR /srv",)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_tag_changes_with_everything_that_an_image_is_made_from(change: dict[str, object]) -> None:
    assert dataclasses.replace(DEFINITION, **change).tag != DEFINITION.tag  # type: ignore[arg-type]


def test_apt_sources_are_mounted_while_building_and_in_no_word_of_it() -> None:
    seen: dict[str, str] = {}

    class Watching(Recorder):
        def attempt(self, *args: str, **rest: Any) -> Any:
            if args[0] == "create":
                shown = Path(args[args.index("-v") + 1].partition(":")[0])
                seen.update({path.name: path.read_text(errors="replace") for path in shown.iterdir()})
            return super().attempt(*args)

    docker = Watching()
    build(docker, DEFINITION, APT, quiet, "")
    assert seen["sources.list"] == "deb http://mirror.example/debian bookworm main\n"
    assert "apt-get install -q -y --no-install-recommends curl" in seen["build.sh"]
    assert "mirror.example" not in seen["build.sh"] + " ".join(docker.lines_called)
    assert any(line.startswith("commit --change WORKDIR /") for line in docker.lines_called)
    assert any(args[:3] == ("rm", "-f", "-v") for args in docker.calls)


@pytest.mark.provokes("lab-failed")
def test_a_build_that_fails_is_an_error_with_its_last_lines_and_leaves_no_container() -> None:
    docker = Recorder(outputs={"create": "c0ffee", "start -a": (100, "E: Unable to locate package curl")})
    with pytest.raises(SparkfleetError, match="Unable to locate package curl"):
        build(docker, DEFINITION, APT, quiet, "")
    assert docker.lines_called[-1] == "rm -f -v c0ffee"


def test_after_a_build_the_newest_three_of_its_kind_stay() -> None:
    listed = "\n".join(f"sparkfleet-lab/tool:{number}" for number in range(5))
    docker = Recorder(outputs={"image ls": listed})
    build(docker, DEFINITION, APT, quiet, "")
    removed = [line for line in docker.lines_called if line.startswith("image rm")]
    assert removed == ["image rm sparkfleet-lab/tool:3", "image rm sparkfleet-lab/tool:4"]
