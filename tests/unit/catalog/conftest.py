from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.config.fleet_files import FleetFiles, write


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FleetFiles]:
    """Make a fleet's files in an empty current directory: ``fleet({"spark-01.yaml": "serve: ..."})``."""
    monkeypatch.chdir(tmp_path)
    return lambda files: write(tmp_path, files)
