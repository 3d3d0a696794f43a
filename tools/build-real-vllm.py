#!/usr/bin/env python3
"""Build the image with the real vLLM on CPU and print its tag; with --push, put it into the lab that is up.

python tools/build-real-vllm.py [--push]
"""

from __future__ import annotations

import argparse
import sys

from sparkfleet.errors import SparkfleetError
from sparkfleet.lab import real_vllm
from sparkfleet.lab.base import make_base
from sparkfleet.lab.docker import Docker


def main() -> int:
    """Build, and say what was done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--push", metavar="PORT", type=int, help="port of the lab's registry on 127.0.0.1")
    parser.add_argument("--ca", help="the lab's certificate authority, with --push")
    said = parser.parse_args()
    docker = Docker()
    try:
        docker.require()
        base = make_base(docker, lambda text: print(text, file=sys.stderr))
        tag = real_vllm.make_image(docker, base, lambda text: print(text, file=sys.stderr))
        print(tag)
        if said.push:
            digest = real_vllm.push(docker, tag, f"https://127.0.0.1:{said.push}", said.ca)
            print(f"{real_vllm.REF}@{digest}")
    except SparkfleetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
