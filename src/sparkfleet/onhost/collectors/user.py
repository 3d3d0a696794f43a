"""The login user, and whether sudo works."""

from __future__ import annotations

import grp
import os
import pwd

from sparkfleet.onhost.collectors import basics, commands

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any


def login_name() -> str:
    """Return the login user: the caller of sudo, or the user of this process."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def login_user(name: str) -> dict[str, Any]:
    """Return home, ids and groups of the login user."""
    entry = pwd.getpwnam(name)
    groups = [
        group.gr_name for group in grp.getgrall() if name in group.gr_mem or group.gr_gid == entry.pw_gid
    ]
    return {
        "name": name,
        "home": entry.pw_dir,
        "uid": entry.pw_uid,
        "gid": entry.pw_gid,
        "groups": sorted(groups),
        "group": grp.getgrgid(entry.pw_gid).gr_name,
    }


def sudo_state() -> dict[str, str]:
    """Return "ok" as root, else why sudo does not work."""
    if os.geteuid() == 0:
        return {"state": "ok"}
    if not basics.which("sudo"):
        return {"state": "refused", "error": "sudo is not installed and the login user is not root"}
    error = commands.last_line(commands.run("sudo", "-n", "true")[2])
    return {"state": "refused", "error": error or "sudo was refused"}
