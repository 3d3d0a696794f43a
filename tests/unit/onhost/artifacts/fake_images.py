"""The images of a Spark as a table."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sparkfleet.contract.registry_credentials import Credential
from sparkfleet.runtimes.base import (
    DerivedImage,
    DeriveError,
    Image,
    RuntimeRefusedError,
    RuntimeUnavailableError,
)


@dataclass
class FakeImages:
    """``Images`` in memory; ``calls`` are those that change something."""

    present: dict[str, Image] = field(default_factory=dict)
    content: bytes = b"an image in a tar" * 100_000
    """Of every export; only an archive with this content can be loaded."""
    loads: dict[str, Image] = field(default_factory=dict)
    """What a load adds."""
    refuses: str = ""
    """Error of every call that changes something, "" for none."""
    used: dict[str, str] = field(default_factory=dict)
    """Instance -> image id."""
    needed: set[str] = field(default_factory=set)
    """Ids of images that cannot be removed."""
    program_output: str = ""
    """Output of a derived image's program that fails."""
    directory: Path = Path("/var/lib/docker")
    unavailable: str = ""
    """State of a runtime that does not respond."""
    calls: list[str] = field(default_factory=list)
    derived: list[DerivedImage] = field(default_factory=list)
    credentials: list[Credential | None] = field(default_factory=list)

    def _call(self, text: str) -> None:
        if self.refuses:
            raise RuntimeRefusedError(self.refuses)
        self.calls.append(text)

    def find_image(self, reference: str) -> Image | None:
        return self.present.get(reference)

    def pull(self, name: str, credential: Credential | None, on_progress: Callable[[int, int], None]) -> int:
        self.credentials.append(credential)
        self._call(f"pull {name}")
        on_progress(7, 7)
        self.present[name] = Image("sha256:pulled", 7)
        return 7

    def pull_remedy(self, error: str, registry: str) -> str:
        return f"log in at {registry}" if "denied" in error else "run again"

    @contextlib.contextmanager
    def export(self, reference: str) -> Iterator[IO[bytes]]:
        self._call(f"export {reference}")
        yield io.BytesIO(self.content)

    def load(self, archive: Path) -> None:
        if archive.read_bytes() != self.content:
            raise RuntimeRefusedError("unexpected EOF")
        self._call("load")
        self.present |= self.loads

    def remove_image(self, reference: str) -> None:
        self._call(f"remove {reference}")
        image = self.present.pop(reference)
        if image.id in self.needed:
            self.present[reference] = image
            raise RuntimeRefusedError("conflict: unable to remove: container c1 is using it", 409)

    def remove_unnamed(self, label: str) -> None:
        self._call(f"remove unnamed {label}")

    def remove_instances(self, label: str, prefix: str) -> None:
        self._require()
        self._call(f"remove {prefix}* with {label}")

    def users(self) -> dict[str, str]:
        self._require()
        return self.used

    def data_directory(self) -> Path:
        self._require()
        return self.directory

    def _require(self) -> None:
        if self.unavailable:
            raise RuntimeUnavailableError("no response", self.unavailable)

    def derive(self, image: DerivedImage) -> None:
        self._call(f"derive {image.reference}")
        self.derived.append(image)
        if self.program_output:
            raise DeriveError(self.program_output)
        self.present[image.reference] = Image("sha256:derived", 7, image.labels)
