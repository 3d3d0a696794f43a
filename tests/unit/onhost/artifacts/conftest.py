from __future__ import annotations

import pytest

from sparkfleet.runtimes import onhost
from tests.unit.onhost.artifacts.fake_images import FakeImages


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> FakeImages:
    """The images of the Spark: none."""
    fake = FakeImages()
    monkeypatch.setattr(onhost, "images", lambda: fake)
    return fake
