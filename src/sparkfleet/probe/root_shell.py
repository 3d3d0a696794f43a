"""Shell text that runs programs as root: by a sudo without a password, or with a password from stdin.

The password is the first line of stdin. The shell reads it and pipes it to sudo; it is in no argv, no file,
no exported variable. With ``-k`` sudo neither uses nor keeps cached credentials.
"""

from __future__ import annotations

REFUSED = "sparkfleet: sudo refused: "
"""Prefix of sudo's message: a line with the message alone would have pyinfra ask its user for a password."""

_BEGIN = "sparkfleet-begin"
"""The line after the password: if sudo needs none, the program must not read it."""

_SUDO = "sudo -k -S -p ''"
# First with nothing but the password on stdin: sudo reads further lines as further attempts, and each wrong
# one may count towards a lockout.
_PROVEN = f"e=$(printf '%s\\n' \"$w\" | {_SUDO} true 2>&1)"
_UNATTENDED = "e=$(sudo -n true 2>&1)"
_REFUSE = f'{{ cat >/dev/null; set -f; echo "{REFUSED}"$e >&2; exit 1; }}'
_SKIP = f'until [ "$l" = {_BEGIN} ]; do IFS= read -r l || exit 1; done; exec "$@"'
_WITH_PASSWORD = f"{{ printf '%s\\n{_BEGIN}\\n' \"$w\"; cat; }} | {_SUDO} sh -c '{_SKIP}' sh \"$@\""


def root_function(*, password: bool) -> str:
    """Return shell text that defines ``r``, which runs its arguments as root. If sudo refuses, it ends the
    shell with ``REFUSED`` and the reason on stderr.
    """
    if not password:
        return _defined(f"{_UNATTENDED} || {_REFUSE}", 'sudo -n "$@"')
    return f"IFS= read -r w; {_defined(f'{_PROVEN} || {_REFUSE}', _WITH_PASSWORD)}"


def _defined(prove: str, run: str) -> str:
    return f'if [ "$(id -u)" = 0 ]; then r() {{ "$@"; }}; else {prove}; r() {{ {run}; }}; fi'


def refusal_reason(stderr: str) -> str | None:
    """Return why sudo refused, from a command's stderr; None if it did not."""
    _, refused, message = stderr.rpartition(REFUSED)
    if not refused:
        return None
    # sudo's lecture to a new user and its "try again" come before.
    return "sudo: " + message.rpartition("sudo: ")[2].strip() if "sudo: " in message else message.strip()
