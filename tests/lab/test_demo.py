"""The README's first command in a fresh clone: run twice, then taken down."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet_lab.names import LABEL, Lab

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "sparkfleet"
    subprocess.run(["git", "clone", "--quiet", str(REPO), str(path)], check=True)
    yield path
    make(path, "demo-down")


def make(clone: Path, target: str) -> str:
    env = {key: value for key, value in os.environ.items() if key not in {"SPARKFLEET_LAB", "MAKEFLAGS"}}
    done = subprocess.run(
        ["make", target],
        cwd=clone, env=env, stdin=subprocess.DEVNULL, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=480,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def lab_objects(lab: Lab) -> str:
    label = f"label={LABEL}={lab.prefix}"
    found = [
        subprocess.run(
            ["docker", *args, "--filter", label], capture_output=True, text=True, check=True
        ).stdout
        for args in (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])
    ]
    return "".join(found)


def test_make_demo_plans_converges_sends_a_prompt_and_plans_again_and_leaves_nothing(clone: Path) -> None:
    first = make(clone, "demo")
    assert "2 to change, 0 unchanged" in first
    assert "  spark-01  nano: 204" in first
    assert "  spark-02  qwen3.6-35b-a3b-nvfp4: 204" in first
    assert first.count("0 to change, 2 unchanged") == 1
    assert "make demo-down" in first
    second = make(clone, "demo")
    assert second.count("0 to change, 2 unchanged") == 3
    assert "  spark-01  nano: 204" in second
    assert (
        subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, check=True).stdout
        == b""
    )
    lab = Lab(clone)
    assert lab_objects(lab)
    make(clone, "demo-down")
    assert not lab_objects(lab)
    assert not lab.directory.exists()
