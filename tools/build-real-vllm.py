#!/usr/bin/env python3
"""Build the image with the real vLLM on CPU and print its tag; with --push, push it to the lab's registry.

python tools/build-real-vllm.py [--push]
"""

from __future__ import annotations

import argparse
import sys

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab import real_vllm
from sparkfleet_lab.base import make_base
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import find_lab
from sparkfleet_lab.state import read_state


def main() -> int:
    """Build the image, push it on request, and print its name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--push", action="store_true", help="push it to the registry of the running lab")
    options = parser.parse_args()
    docker = Docker()
    try:
        docker.require()
        base = make_base(docker, lambda text: print(text, file=sys.stderr))
        tag = real_vllm.make_image(docker, base, lambda text: print(text, file=sys.stderr))
        print(tag)
        if options.push:
            lab = find_lab()
            state = read_state(lab)
            if state is None:
                raise SparkfleetError(  # noqa: TRY301
                    Diagnostic("lab", "no lab is up", "", "sparkfleet lab up", code="lab-not-up")
                )
            digest = real_vllm.push(docker, tag, state.registry_url, lab.directory / "ca.pem")
            print(f"{real_vllm.REF}@{digest}")
    except SparkfleetError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
