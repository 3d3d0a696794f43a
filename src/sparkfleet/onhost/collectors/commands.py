"""Commands of the probe: each read-only, each with a time limit."""

from __future__ import annotations

LIMIT_S = 15
OUTPUT_LIMIT_S = 20


def run(*argv: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; 127 for a missing command, 124 after LIMIT_S."""
    import subprocess  # noqa: PLC0415  (4 ms; a Spark without units of sparkfleet runs no command)

    try:
        process = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return 127, "", "%s is not installed" % argv[0]
    except subprocess.TimeoutExpired:
        return 124, "", "%s did not respond within %d s" % (argv[0], LIMIT_S)
    return process.returncode, process.stdout, process.stderr


def output(*argv: str, stdin: str = "") -> str:
    """Return the stdout of a command, whatever its exit code.

    Raise FileNotFoundError when it is missing, TimeoutError when it takes longer than OUTPUT_LIMIT_S.
    """
    import subprocess  # noqa: PLC0415  (4 ms; a Spark without units of sparkfleet runs no command)

    try:
        process = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=OUTPUT_LIMIT_S,
            check=False,
            input=stdin,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError("%s did not respond within %g s" % (argv[0], OUTPUT_LIMIT_S)) from None
    return process.stdout


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
