"""Commands of the probe: each read-only, each with a time limit."""

from __future__ import annotations

import os
import select

SIGKILL, SIGPIPE = 9, 13
"""As in ``signal``, whose import creates enumerations."""
LIMIT_S = 15
OUTPUT_LIMIT_S = 20


def run(*argv: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; 127 for a missing command, 124 after LIMIT_S."""
    try:
        return _run(argv, LIMIT_S, "")
    except FileNotFoundError:
        return 127, "", "%s is not installed" % argv[0]
    except TimeoutError as error:
        return 124, "", str(error)


def output(*argv: str, stdin: str = "") -> str:
    """Return the stdout of a command, whatever its exit code.

    Raise FileNotFoundError when it is missing, TimeoutError when it takes longer than OUTPUT_LIMIT_S.
    """
    return _run(argv, OUTPUT_LIMIT_S, stdin)[1]


def _run(argv: tuple[str, ...], limit_s: float, stdin: str) -> tuple[int, str, str]:
    """Run a command by ``posix_spawn``: to import ``subprocess`` costs as much CPU as the whole of a run."""
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    try:
        os.write(files[0], stdin.encode())
        os.lseek(files[0], 0, os.SEEK_SET)
        copies = [(os.POSIX_SPAWN_DUP2, file, target) for target, file in enumerate(files)]
        process = os.posix_spawnp(argv[0], argv, os.environ, file_actions=copies, setsigdef=(SIGPIPE,))
        code = _exit_code(process, limit_s)
        if code is None:
            os.kill(process, SIGKILL)
            # No longer: it may hang in the kernel, as with a GPU driver that does not respond.
            _exit_code(process, 1)
            raise TimeoutError("%s did not respond within %g s" % (argv[0], limit_s))
        out, err = (os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace") for file in files[1:])
        return code, out, err
    finally:
        for file in files:
            os.close(file)


def _exit_code(process: int, limit_s: float) -> int | None:
    """Wait for the end of a process; return its exit code, or None if it still runs after the limit."""
    handle = os.pidfd_open(process)
    try:
        end = select.poll()
        end.register(handle, select.POLLIN)
        ended = end.poll(limit_s * 1000)
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) if ended else None


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
