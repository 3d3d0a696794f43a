"""fleet.lock as a file: sorted, one item per line, written atomically."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from sparkfleet import atomic_file, engines
from sparkfleet.config import image, yaml_text
from sparkfleet.config.lock_data import Lock, LockedImage, LockedModel, LockedPackages
from sparkfleet.config.validate import validate
from sparkfleet.config.yaml_file import Document, Path_, shown
from sparkfleet.config.yaml_file import read as read_yaml
from sparkfleet.config.yaml_text import OneLine
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import ImageRef, WeightFile, Weights
from sparkfleet.desired_state.derived_packages import DerivedPackages, Wheel

VERSION = 1
MAX_BYTES = 32 << 20
HEADER = "# Written by `sparkfleet lock`: digests of tags, commits of branches. Commit it; do not edit it.\n"

STYLE = yaml_text.Style(
    bare_key=re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./:@+-]*"),
    bare_value=re.compile(r"sha256:[0-9a-f]{40,64}|(?=[0-9]*[a-f])[0-9a-f]{40,64}"),
    max_depth=3,
    block_lists=False,
)
"""Format of the lock file: only hashes are written without quotes."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _File(_Model):
    size: int
    sha256: str = ""
    blob: str = ""


class _LockedImage(_Model):
    digest: str
    arm64: str
    engine_version: str = Field(default="", validation_alias=AliasChoices("engine_version", engines.DEFAULT))
    """Older lock files have the key ``vllm``."""
    size: int = 0
    created: str = ""
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = {}


class _LockedModel(_Model):
    revision: str
    requested: str = Field(default="", validation_alias=AliasChoices("requested", "asked"))
    """Older lock files have the key ``asked``."""
    gated: bool = False
    config: dict[str, Any] = {}
    files: dict[str, _File] = {}


class _Wheel(_Model):
    url: str
    sha256: str
    size: int = 0


class _LockedPackages(_Model):
    python: str
    machine: str
    install: tuple[str, ...]
    wheels: dict[str, _Wheel]


class _LockFile(_Model):
    version: int
    images: dict[str, _LockedImage] = {}
    models: dict[str, _LockedModel] = {}
    packages: dict[str, _LockedPackages] = {}


def read(path: Path) -> Lock:
    """Return the content of the file, empty without one. Raise ``SparkfleetError`` for an invalid file."""
    if not path.exists():
        return Lock()
    try:
        document = read_yaml(path, max_bytes=MAX_BYTES)
    except SparkfleetError as error:
        or_lock = f"; or {_remedy(path, 'file')}"
        raise SparkfleetError(*(replace(one, hint=one.hint + or_lock) for one in error.diagnostics)) from None
    data = document.data
    if isinstance(data, dict) and data.get("version") != VERSION:
        remedy, code = _remedy(path, "file"), "lock-invalid"
        message = "the key 'version' is missing"
        if "version" in data:
            message = f"unsupported version {data['version']!r}"
            remedy, code = f"update sparkfleet, or {remedy}", "lock-version-unsupported"
        raise SparkfleetError(
            Diagnostic(document.where(("version",)), message, f"version: {VERSION}", remedy, code=code)
        )
    remedy = _remedy(path, "entry" if isinstance(data, dict) else "file")
    try:
        content = validate(_LockFile, data, document.where)
    except SparkfleetError as error:
        raise SparkfleetError(
            *(replace(one, hint=remedy, code="lock-invalid") for one in error.diagnostics)
        ) from None
    images = {}
    for key, entry in content.images.items():
        try:
            name = image.parse(key)
        except ValueError as error:
            where = document.where(("images", key))
            raise SparkfleetError(
                Diagnostic(
                    where,
                    str(error),
                    "name:tag",
                    remedy,
                    code="lock-invalid",
                )
            ) from None
        images[key] = LockedImage(
            _image(name, entry), entry.arm64, entry.created, tuple(sorted(entry.env.items()))
        )
    unhashed = list(_without_hash(content, document, remedy))
    if unhashed:
        raise SparkfleetError(*unhashed)
    models = {
        key: LockedModel(_weights(key, entry), entry.requested) for key, entry in content.models.items()
    }
    packages = {key: _packages(entry) for key, entry in content.packages.items()}
    return Lock(images, models, packages)


def _remedy(path: Path, what: str) -> str:
    inventory = path.parent.with_name(f"{path.parent.name}.py")
    return f"remove the {what}, then: sparkfleet lock {shown(inventory)}"


def _without_hash(content: _LockFile, document: Document, remedy: str) -> Iterator[Diagnostic]:
    """Yield an error for each model without files, or with a file that could not be verified."""
    for key, entry in content.models.items():
        if not entry.files:
            place: Path_ = ("models", key)
            message = f"the model {key} has no files"
        elif absent := [name for name, file in entry.files.items() if not file.sha256 and not file.blob]:
            message, place = f"{absent[0]} of {key} has no hash", ("models", key, "files", absent[0])
        else:
            continue
        expected = "a sha256 or blob for every file"
        yield Diagnostic(document.where(place), message, expected, remedy, code="lock-invalid")


def write(path: Path, lock: Lock) -> None:
    """Replace the file atomically: after a crash it is the old or the new one, complete."""
    atomic_file.write(path, text(lock))


def text(lock: Lock) -> str:
    """Return the content of the file; it is reproducible on every machine."""
    data = {
        "version": VERSION,
        "images": {key: _image_data(lock.images[key]) for key in sorted(lock.images)},
        "models": {key: _model_data(lock.models[key]) for key in sorted(lock.models)},
    }
    if lock.packages:
        data["packages"] = {key: _packages_data(lock.packages[key]) for key in sorted(lock.packages)}
    return HEADER + yaml_text.dump(data, STYLE)


def _image(name: ImageRef, entry: _LockedImage) -> ImageRef:
    return ImageRef(
        name.repository, name.tag, entry.digest, entry.entrypoint, entry.engine_version, entry.size
    )


def _weights(key: str, entry: _LockedModel) -> Weights:
    name, _, file = key.partition(" ")
    files = tuple(
        # The hub names LFS files by their sha256.
        WeightFile(path, file.size, file.sha256, file.blob or file.sha256)
        for path, file in entry.files.items()
    )
    config = tuple(entry.config.items())
    return Weights(name.partition("@")[0], entry.revision, files, entry.gated, config, file)


def _packages(entry: _LockedPackages) -> LockedPackages:
    wheels = (Wheel(name, one.url, one.sha256, one.size) for name, one in sorted(entry.wheels.items()))
    return LockedPackages(DerivedPackages(entry.install, tuple(wheels)), entry.python, entry.machine)


def _packages_data(entry: LockedPackages) -> dict[str, Any]:
    wheels = sorted(entry.derived_packages.wheels, key=lambda wheel: wheel.name)
    files = {one.name: OneLine(url=one.url, sha256=one.sha256, size=one.size) for one in wheels}
    return {
        "python": entry.python,
        "machine": entry.machine,
        "install": list(entry.derived_packages.install),
        "wheels": files,
    }


def _image_data(entry: LockedImage) -> dict[str, Any]:
    return {
        "digest": entry.image.digest,
        "arm64": entry.arm64,
        "engine_version": entry.image.engine_version,
        "size": entry.image.size,
        "created": entry.created,
        "entrypoint": list(entry.image.entrypoint),
        "env": dict(sorted(entry.env)),
    }


def _model_data(entry: LockedModel) -> dict[str, Any]:
    weights = entry.weights
    files = sorted(weights.files, key=lambda file: file.path)
    data: dict[str, Any] = {"revision": weights.revision}
    if entry.requested:
        data["requested"] = entry.requested
    data["gated"] = weights.gated
    data["config"] = dict(sorted(weights.config))
    data["files"] = {file.path: OneLine(_file_data(file)) for file in files}
    return data


def _file_data(file: WeightFile) -> dict[str, Any]:
    return {"size": file.size, **({"sha256": file.sha256} if file.sha256 else {"blob": file.blob})}
