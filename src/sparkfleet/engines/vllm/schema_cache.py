"""Cache of schemas read from images, on the operator's machine by image digest.

A bundled schema is a release's as published; an image may be patched, or between two releases. Once an image
was read (``image_parser``), every later check of it is exact.
"""

from __future__ import annotations

import functools
import gzip
import os
import re
import tempfile
import zlib
from pathlib import Path

from sparkfleet.contract import codec
from sparkfleet.engines.vllm import schema
from sparkfleet.engines.vllm.image_parser import read_schema
from sparkfleet.engines.vllm.schema import Schema

_DIGEST = re.compile(r"(?:sha256|sparkfleet/derived):([0-9a-f]{64}|[0-9a-f]{16}$)")


def directory() -> Path:
    """Return where the schemas lie: ``$XDG_CACHE_HOME/sparkfleet/schemas``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "sparkfleet" / "schemas"


def path_of(digest: str) -> Path | None:
    """Return the file of an image's schema; None without a digest."""
    match = _DIGEST.search(digest)
    return directory() / f"{match[1]}.json.gz" if match else None


def keep(digest: str, output: str) -> Schema:
    """Cache and return the schema in the output of the image's program. ``ValueError`` if there is none. A
    failed write is ignored: the image is read again next time.
    """
    image_schema = read_schema(output)
    path = path_of(digest)
    if path is not None:
        text = next(line for line in reversed(output.splitlines()) if line.startswith("{"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(gzip.compress(text.encode(), mtime=0))
            Path(file.name).replace(path)
        except OSError:
            return image_schema
    return image_schema


def lookup(digest: str) -> Schema | None:
    """Return the cached schema of an image; None without a readable one."""
    path = path_of(digest)
    if path is None:
        return None
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError:
        return None
    return _read(path, changed_ns)


@functools.lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int) -> Schema | None:
    """Return the schema in a file of the cache: read once for all services that use the image."""
    del changed_ns
    try:
        text = gzip.decompress(path.read_bytes())
        return schema.from_dump(codec.parse(schema.SchemaDump, text, str(path)))
    except (OSError, ValueError, EOFError, zlib.error):
        return None
