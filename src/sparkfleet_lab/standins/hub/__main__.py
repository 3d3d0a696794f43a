"""The hub as a program."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from .server import Hub


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="hub", description="A hub for synthetic models")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - lab machines reach it over their network
    parser.add_argument("--port", type=int, default=80)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        Hub((options.host, options.port), options.root).serve_forever()


if __name__ == "__main__":
    main()
