"""Make an update for ``sparkfleet knowledge update``: this checkout's data files, and more vLLM releases.

    python tools/make_knowledge.py 0.34.0 --version 2026.12.15     # or: make knowledge RELEASE=0.34.0

Each RELEASE is read from its wheel (``tools/dump_vllm_release.py``). Without one, the update has the files
as they are in this checkout: recipes, failure patterns, tables. The last line is the command that uses it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from packaging.version import Version

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script finds its own folder alone
from tools import add_vllm_schema, dump_vllm_release

from sparkfleet import data_files
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.engines.vllm import schema_archive
from sparkfleet.errors import error_text
from sparkfleet.knowledge import archive, validation

SCHEMAS = "engines/vllm/data/releases.json.gz"


def next_version(day: dt.date) -> str:
    """Return the version of an update of that day, which is newer than the bundled knowledge."""
    version = f"{day.year}.{day.month}.{day.day}"
    return version if Version(version) > Version(data_files.BUNDLED) else f"{data_files.BUNDLED}.1"


def files_with(dumps: list[dict[str, Any]]) -> dict[str, bytes]:
    """Return the data files of this checkout, with the schemas of these dumps."""
    data = schema_archive.read(schema_archive.FILE)
    releases = {version: schema_archive.release(data, version) for version in data["versions"]}
    releases |= {dump["vllm_version"]: add_vllm_schema.slim(dump) for dump in dumps}
    return {**archive.bundled_files(), SCHEMAS: schema_archive.pack(releases.values())}


def make(version: str, dumps: list[dict[str, Any]], folder: Path) -> str:
    """Write the update; return the command that uses it. ``SystemExit`` if sparkfleet would refuse it."""
    content = archive.pack(version, files_with(dumps))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sparkfleet-knowledge-{version}.tar.gz"
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        validation.require_valid(archive.load(str(path), sha256))
    except SparkfleetError as error:
        path.unlink()
        sys.exit(error_text(error))
    return f"sparkfleet knowledge update {path} --sha256 {sha256}"


def main(argv: list[str]) -> int:
    """Make one update; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help="release of vLLM on the package index")
    parser.add_argument("--version", default=next_version(dt.date.today()), help="default: %(default)s")
    parser.add_argument("--work", type=Path, default=dump_vllm_release.WORK, help="directory of downloads")
    parser.add_argument("--out", type=Path, default=dump_vllm_release.WORK.parent / "knowledge")
    args = parser.parse_args(argv)
    if args.releases:
        dump_vllm_release.main(["--work", str(args.work), *args.releases])
    dumps = [json.loads((args.work / f"{name}.json").read_text(encoding="utf-8")) for name in args.releases]
    print(make(args.version, dumps, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
