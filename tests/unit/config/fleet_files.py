"""A fleet's files in a temporary directory, written from texts, loaded as a user's command would."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet import engines
from sparkfleet.config.lock_data import (
    Lock,
    LockedImage,
    LockedModel,
    LockedPackages,
    image_key,
    packages_key,
)
from sparkfleet.config.required_packages import missing
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import Fleet, ImageRef, Service, WeightFile, Weights
from sparkfleet.desired_state.derived_packages import DerivedPackages, Wheel
from sparkfleet.inventory import Pins, load_fleet
from sparkfleet.lock import lockfile
from sparkfleet.lock.resolve import lock_targets, package_targets

SMALL = "gpt-oss-20b"
NANO = "nemotron-3-nano-30b-a3b-nvfp4"


@dataclass(frozen=True)
class FleetFiles:
    """``inventories/lab/`` and what is around it, below a directory that is the current one."""

    root: Path

    @property
    def inventory(self) -> Path:
        return Path("inventories/lab.py")

    @property
    def directory(self) -> Path:
        return self.root / "inventories" / "lab"

    def load(self, *, need_lock: bool = False) -> Fleet:
        return load_fleet(self.inventory, pins=Pins.REQUIRED if need_lock else Pins.IGNORED)

    def service(self) -> Service:
        """The only service of the only host."""
        (host,) = self.load().hosts
        (service,) = host.services
        return service

    def diagnostics(self, *, need_lock: bool = False) -> tuple[Diagnostic, ...]:
        with pytest.raises(SparkfleetError) as error:
            self.load(need_lock=need_lock)
        return error.value.diagnostics

    def diagnostic(self, *, need_lock: bool = False) -> Diagnostic:
        (diagnostic,) = self.diagnostics(need_lock=need_lock)
        return diagnostic

    def pin(self) -> Lock:
        """Write a lock file with made-up pins for all that the fleet wants."""
        fleet = self.load()
        images, models = lock_targets(fleet)
        pinned = {key: _image(key, item.image) for key, item in images.items()}
        lock = Lock(
            pinned,
            {key: _model(item.repo, item.revision) for key, item in models.items()},
            {
                packages_key(item.image, absent): _packages(absent)
                for item in package_targets(fleet).values()
                if (
                    absent := missing(
                        pinned[image_key(item.image)].image, item.needs, engines.get(item.engine)
                    )
                )
            },
        )
        lockfile.write(self.directory / "fleet.lock", lock)
        return lock


def image_of(service: Service) -> ImageRef:
    """Return the image of a service that has one."""
    assert service.image is not None
    return service.image


def write(root: Path, files: Mapping[str, str]) -> FleetFiles:
    """Write files: ``x.yaml`` and ``recipes/x.yaml`` below the fleet, ``group_data/x.py`` below the root."""
    made = FleetFiles(root)
    made.directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = (root if name.startswith(("group_data/", "inventories/")) else made.directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return made


def _image(key: str, image: Any) -> LockedImage:
    digest = image.digest or "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    tag = "" if image.digest else image.tag
    is_nvidia = image.repository.startswith("nvcr.io/nvidia/")
    entrypoint = ("/opt/nvidia/nvidia_entrypoint.sh",) if is_nvidia else ("vllm", "serve")
    pinned = replace(image, tag=tag, digest=digest, entrypoint=entrypoint, engine_version="0.19.0", size=123)
    return LockedImage(pinned, digest, "2026-01-01T00:00:00Z", (("PATH", "/usr/bin"),))


def _packages(lock_targets: tuple[tuple[str, str], ...]) -> LockedPackages:
    wheels = [
        Wheel(f"{name}-9.1-py3-none-any.whl", f"https://index.example/{name}.whl", "c" * 64, 1000)
        for name in sorted([*(name for name, _ in lock_targets), "pip"])
    ]
    return LockedPackages(
        DerivedPackages(tuple(f"{n}{r}" for n, r in lock_targets), tuple(wheels)), "3.12", "aarch64"
    )


def _model(repo: str, revision: str) -> LockedModel:
    commit = hashlib.sha1(f"{repo}@{revision}".encode()).hexdigest()
    files = (
        WeightFile("config.json", 700, "", "a" * 40),
        WeightFile("model.safetensors", 5_000_000, "b" * 64, "b" * 64),
    )
    return LockedModel(Weights(repo, commit, files, False, (("hidden_size", 64),)), revision)
