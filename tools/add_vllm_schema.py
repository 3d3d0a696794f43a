r"""Add releases to the archive of vLLM schemas: ``python tools/add_vllm_schema.py DUMP.json ...``.

A dump is the output of the release's own parser, created in an image of the release (no GPU needed)::

    docker run --rm -i --network none --entrypoint python3 IMAGE - schema \
        < src/sparkfleet/engines/vllm/data/ask_parser.py

A release that is archived already is replaced. ``--remove`` removes one, ``--list`` lists them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from sparkfleet.engines.vllm import schema_archive

DROPPED = ("dest", "group")
"""Unused parts of a flag's dump, removed to keep the archive small."""


REGISTRIES = (
    "envs",
    "quantization",
    "load_format",
    "tool_parsers",
    "reasoning_parsers",
    "attention_backends",
    "architectures",
    "custom_config_model_types",
    "spec_architectures",
)
"""Registries of vLLM itself. Those of other packages (Transformers) depend on the image."""


def slim(dump: dict[str, Any]) -> dict[str, Any]:
    """Return a dump in the archive's format: registries as mappings, requirements as name -> range."""
    # Configs within configs are excluded: older dumps lack them, so that since and until would be wrong.
    read = {_json_class(entry) for entry in dump["flags"].values()}
    return {
        "vllm_version": dump["vllm_version"],
        "flags": {name: slim_flag(entry) for name, entry in dump["flags"].items()},
        "json_classes": {name: keys for name, keys in dump["json_classes"].items() if name in read},
        "registries": {
            name: dict.fromkeys(names or (), 0)
            for name, names in dump["registries"].items()
            if name in REGISTRIES
        },
        "packages": requirements(dump.get("requires") or ()),
    }


def requirements(lines: Iterable[str]) -> dict[str, str]:
    """Return package -> version range of the requirements of a release on a Spark."""
    found = {}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate(
            {"platform_machine": "aarch64", "extra": ""}
        ):
            continue
        found[requirement.name.lower().replace("_", "-")] = str(requirement.specifier)
    return found


def _json_class(entry: dict[str, Any]) -> str:
    return str(entry.get("json_class") or str(entry.get("type")).rpartition("json:")[2])


def slim_flag(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a flag's entry without unused and empty parts."""
    unused = [*DROPPED, *(key for key in ("aliases", "negatives") if not entry.get(key))]
    if not isinstance(entry.get("hint"), list):
        unused.append("hint")
    return {key: value for key, value in entry.items() if key not in unused and value is not None}


def main(argv: list[str]) -> int:
    """Add, replace, remove or list releases; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dumps", nargs="*", type=Path, help="schema dumps (JSON), one release each")
    parser.add_argument("--remove", action="append", default=[], metavar="VERSION")
    parser.add_argument("--list", action="store_true", help="list the archived releases")
    parser.add_argument("--archive", type=Path, default=schema_archive.FILE)
    args = parser.parse_args(argv)

    releases: dict[str, dict[str, Any]] = {}
    if args.archive.exists():
        data = schema_archive.read(args.archive)
        releases = {version: schema_archive.release(data, version) for version in data["versions"]}
    if args.list:
        print("\n".join(releases))
        return 0
    for path in args.dumps:
        added = slim(json.loads(path.read_text()))
        releases[added["vllm_version"]] = added
    for version in args.remove:
        releases.pop(version, None)
    packed = schema_archive.pack(releases.values())
    args.archive.write_bytes(packed)
    print(f"{args.archive}: {len(releases)} releases, {len(packed)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
