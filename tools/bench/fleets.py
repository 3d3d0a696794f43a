"""Fleet directories like a user's checkout, with a given number of Sparks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
NANO = "nemotron-3-nano-30b-a3b-nvfp4"
PORT = 47110
"""Port of the service; unused by others even if hosts share this computer's network."""
RECIPES = (NANO, "qwen3.6-35b-a3b-nvfp4", "gpt-oss-20b")
"""Recipes whose images and models the lab has."""


def python_path() -> str:
    """Return PYTHONPATH for programs of this package that run in a fleet's directory."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


@dataclass(frozen=True)
class FleetDirectory:
    """inventories/bench.py, its host files, group_data, and the project's own deploys."""

    root: Path

    @property
    def inventory(self) -> Path:
        """Return the inventory's path, relative to ``root``."""
        return Path("inventories/bench.py")

    @property
    def hosts(self) -> Path:
        """Return the directory of host files."""
        return self.root / "inventories" / "bench"

    @property
    def lock(self) -> Path:
        """Return the lock file."""
        return self.hosts / "fleet.lock"


def make(
    root: Path, files: Mapping[str, object], group_data: str, lock: Path | None = None
) -> FleetDirectory:
    """Return a fresh directory with these host files and these settings of the fleet."""
    shutil.rmtree(root, ignore_errors=True)
    fleet = FleetDirectory(root)
    fleet.hosts.mkdir(parents=True)
    (root / "group_data").mkdir()
    for name in ("deploys", "config.py"):
        (root / name).symlink_to(ROOT / name)
    (root / "inventories" / "bench.py").write_text((ROOT / "inventories" / "example.py").read_text())
    (root / "group_data" / "all.py").write_text((ROOT / "group_data" / "all.py").read_text())
    (root / "group_data" / "bench.py").write_text(group_data)
    for name, content in files.items():
        (fleet.hosts / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    if lock is not None:
        shutil.copy(lock, fleet.lock)
    return fleet


def serving_host_file(recipe: str = NANO, **more: object) -> dict[str, object]:
    """Return a host file with one service."""
    return {"serve": [{"recipe": recipe, "name": "bench", "port": PORT, **more}]}


def host_file_at(number: int, address: str, port: int) -> dict[str, object]:
    """Return a host file of a Spark at an address, with the same service as all."""
    assert number  # noqa: S101  (they count from 1)
    return {"ssh": {"hostname": address, "port": port, "user": "nvidia"}, **serving_host_file()}


def varied_hosts(count: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield host files that all differ, so that no result of a check can be reused."""
    for number in range(count):
        flags = {"max-model-len": 8192 + number, "max-num-seqs": 4, "gpu-memory-utilization": 0.8}
        address = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
        yield (
            f"spark-{number + 1:04}",
            {
                "ssh": {"hostname": address, "user": "nvidia"},
                "serve": [{"recipe": RECIPES[number % len(RECIPES)], "name": "bench", "flags": flags}],
            },
        )
