r"""Write schema dumps of vLLM releases from their wheels alone, without an image or a GPU.

    python tools/dump_vllm_release.py 0.31.0 0.32.0      # writes build/vllm/0.31.0.json ...
    python tools/add_vllm_schema.py build/vllm/*.json

pip downloads a release's wheel for the Spark (about 500 MB; removed at once); only its Python files are kept.
They run in an environment with what the newest of the releases requires (3 to 7 GB in build/vllm/python, by
whether pip's torch includes CUDA). ``--clean`` removes it afterwards.
"""

from __future__ import annotations

import argparse
import email
import json
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from sparkfleet.engines.vllm.image_parser import SCRIPT

WORK = Path(__file__).parents[1] / "build" / "vllm"
PLATFORMS = tuple(f"manylinux_{glibc}_aarch64" for glibc in ("2_28", "2_31", "2_34", "2_35", "2_39"))
FOR_GPU = (
    "fastsafetensors",
    "flashinfer",
    "humming-kernels",
    "instanttensor",
    "nvidia-",
    "nvtx",
    "pynvvideocodec",
    "quack-kernels",
    "ray",
    "tilelang",
    "tokenspeed-mla",
    "torchaudio",
    "torchcodec",
    "torchvision",
    "xformers",
)
"""Requirements that the parser does not import: their names begin so. Most need CUDA."""


def download(release: str, work: Path) -> Path:
    """Return the directory of the release's Python files; download them if it does not exist."""
    source = work / "src" / release
    if source.exists():
        return source
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        for platform in PLATFORMS:
            command += ["--platform", platform]
        _run([*command, "--python-version", "3.12", "--dest", str(folder), f"vllm=={release}"])
        wheel = next(folder.glob("*.whl"))
        unpacked = folder / "src"
        with zipfile.ZipFile(wheel) as archive:
            members = [one for one in archive.namelist() if one.endswith((".py", "/METADATA", ".json"))]
            archive.extractall(unpacked, members)
        source.parent.mkdir(exist_ok=True)
        unpacked.rename(source)
    return source


def requirements(source: Path) -> list[str]:
    """Return what the parser of a release needs, from the metadata of its wheel."""
    metadata = next(source.glob("vllm-*.dist-info/METADATA")).read_text(encoding="utf-8")
    found = []
    for text in email.message_from_string(metadata).get_all("Requires-Dist", []):
        requirement = Requirement(text)
        if requirement.name.lower().startswith(FOR_GPU):
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(f"{requirement.name}{_brackets(requirement)}{requirement.specifier}")
    return found


def python(work: Path, required: Sequence[str]) -> Path:
    """Return the Python of an environment with these requirements; create it if it does not exist."""
    folder = work / "python"
    program, record = folder / "bin" / "python", folder / "requirements.txt"
    text = "\n".join(required) + "\n"
    if not record.exists() or record.read_text(encoding="utf-8") != text:
        venv.create(folder, with_pip=True, clear=True)
        pending = folder / "pending.txt"
        pending.write_text(text, encoding="utf-8")
        _run([str(program), "-m", "pip", "install", "--quiet", "--requirement", str(pending)])
        pending.rename(record)
    return program


def dump(program: Path, source: Path) -> dict[str, Any]:
    """Return what the parser of the release reports. ``SystemExit`` if something of it is missing."""
    done = subprocess.run(
        [program, SCRIPT, "schema"],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin", "HOME": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines() or ["{}"]
    response: dict[str, Any] = json.loads(lines[-1])
    if "flags" not in response or response["errors"]:
        reason = response.get("error") or response.get("errors") or done.stderr[-2000:]
        sys.exit(f"{source.name}: the parser did not return its whole schema: {reason}")
    return response


def _brackets(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def main(argv: list[str]) -> int:
    """Write one dump a release; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("releases", nargs="+", metavar="RELEASE")
    parser.add_argument("--work", type=Path, default=WORK, help="directory of downloads and dumps")
    parser.add_argument("--clean", action="store_true", help="keep the dumps alone")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    releases = sorted(args.releases, key=Version)
    sources = {release: download(release, args.work) for release in releases}
    program = python(args.work, requirements(sources[releases[-1]]))
    for release, source in sources.items():
        target = args.work / f"{release}.json"
        target.write_text(json.dumps(dump(program, source)), encoding="utf-8")
        print(target)
    if args.clean:
        for folder in ("src", "python"):
            shutil.rmtree(args.work / folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
