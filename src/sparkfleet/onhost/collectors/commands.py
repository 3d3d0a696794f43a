"""Commands of the probe: each read-only, each with a time limit."""

from __future__ import annotations

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
    import subprocess  # noqa: PLC0415  (4 ms; a Spark without units of sparkfleet runs no command)

    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace")
    try:
        out, err = process.communicate(stdin, timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        for one in filter(None, (process.stdin, process.stdout, process.stderr)):
            one.close()
        # No longer: it may hang in the kernel, as with a GPU driver that does not respond.
        try:  # noqa: SIM105  (contextlib is another import)
            process.wait(1)
        except subprocess.TimeoutExpired:
            pass
        raise TimeoutError("%s did not respond within %g s" % (argv[0], limit_s)) from None
    return process.returncode, out, err


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
