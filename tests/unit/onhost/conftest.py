from __future__ import annotations

import os
from pathlib import Path

import pytest

from sparkfleet.onhost.machine import files
from tests.unit.onhost.world import Engine, World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A Spark with images of good engines and nothing running."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what a power cut does is not tried here
    made = World(tmp_path)
    made.engines = {"img:1": Engine(), "img:2": Engine(), "img:other": Engine(port=9000)}
    for name in ("write_atomic", "append_line", "remove"):
        monkeypatch.setattr(files, name, made.changes(getattr(files, name)))
    return made
