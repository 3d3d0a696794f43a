"""Process that sends an offline mirror's files: request on stdin, port on stdout."""

from __future__ import annotations

import signal
import sys

from sparkfleet.contract import codec
from sparkfleet.contract.transfer import LocalSendRequest
from sparkfleet.onhost.artifacts.copy.send import Sender

HOME = "127.0.0.1"


def main() -> None:
    """Serve until the copy has ended, or until the parent terminates this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches it, too; the parent reports it
    request = codec.loads(LocalSendRequest, sys.stdin.read(), "stdin")
    sender = Sender(request.files, frozenset({HOME}), request.transfer_key)
    ((_, port),) = sender.listen([HOME])
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sender.serve()


if __name__ == "__main__":
    main()
