"""Shell text that runs programs as root: by a sudo that asks for nothing, or with a password from stdin.

The password is the first line of stdin. It is read by the shell and given to sudo through a pipe; it is in no
argv, no variable that is exported, no file. ``-k``: sudo neither uses nor keeps an earlier proof, so that
nothing is left behind.
"""

from __future__ import annotations

REFUSED = "sparkfleet: sudo refused: "
"""Before sudo's words, which alone on a line would have pyinfra ask its user for a password."""

_BEGIN = "sparkfleet-begin"
"""The line after the password: where sudo asked for none, the program must not be given it."""

_SUDO = "sudo -k -S -p ''"
# Proven by itself first, with nothing but the password to read: sudo takes the next lines for further tries,
# and each wrong one counts on a Spark that locks people out.
_PROVEN = f"e=$(printf '%s\\n' \"$w\" | {_SUDO} true 2>&1)"
_ASKED_FIRST = "e=$(sudo -n true 2>&1)"
_SAY_REFUSED = f'{{ cat >/dev/null; set -f; echo "{REFUSED}"$e >&2; exit 1; }}'
_SKIP = f'until [ "$l" = {_BEGIN} ]; do IFS= read -r l || exit 1; done; exec "$@"'
_GIVEN = f"{{ printf '%s\\n{_BEGIN}\\n' \"$w\"; cat; }} | {_SUDO} sh -c '{_SKIP}' sh \"$@\""


def define_r(*, password: bool) -> str:
    """Return shell text that defines ``r``, which runs its arguments as root; it ends the shell with the
    reason (``REFUSED``, on stderr) where sudo refuses.
    """
    if not password:
        return _defined(f"{_ASKED_FIRST} || {_SAY_REFUSED}", 'sudo -n "$@"')
    return f"IFS= read -r w; {_defined(f'{_PROVEN} || {_SAY_REFUSED}', _GIVEN)}"


def _defined(prove: str, run: str) -> str:
    return f'if [ "$(id -u)" = 0 ]; then r() {{ "$@"; }}; else {prove}; r() {{ {run}; }}; fi'


def reason(said: str) -> str | None:
    """Return why sudo refused, from what a command said on stderr; None where it did not."""
    _, refused, words = said.rpartition(REFUSED)
    if not refused:
        return None
    # sudo's lecture to a new user and its "try again" come before.
    return "sudo: " + words.rpartition("sudo: ")[2].strip() if "sudo: " in words else words.strip()
