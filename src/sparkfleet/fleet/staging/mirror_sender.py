"""The sender of an offline mirror's files, as a process: its request on stdin, its port on stdout."""

from __future__ import annotations

import json
import sys

from sparkfleet.onhost.artifacts.copy.send import Sender, Shown

HOME = "127.0.0.1"


def main() -> None:
    """Serve until the copy is over, or until whoever started this ends it."""
    request = json.load(sys.stdin)
    files = tuple(Shown(file["path"], int(file["size"])) for file in request["files"])
    sender = Sender(files, frozenset({HOME}), request["token"])
    ((_, port),) = sender.listen([HOME])
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sender.serve()


if __name__ == "__main__":
    main()
