"""Exit codes of every command and deploy: one table, from which docs/reference/exit-codes.md is generated."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Code(IntEnum):
    """An exit code."""

    OK = 0
    ERROR = 1
    CHANGES = 2
    DECLINED = 3
    COMMAND_LINE = 64
    """EX_USAGE of sysexits.h: 2 would be the code of changes."""
    INTERRUPTED = 130


MEANINGS: Mapping[Code, str] = {
    Code.OK: "Success.",
    Code.ERROR: "An error: in the fleet's files, an unknown inventory or host, or a host that failed.",
    Code.CHANGES: "There are changes.",
    Code.DECLINED: "Nothing was done: the answer to the question was no.",
    Code.COMMAND_LINE: "Invalid command line.",
    Code.INTERRUPTED: "Interrupted (Ctrl-C). What has begun on a host continues there, and is named.",
}

COMMAND_ERROR = "an error, a host failed or is unknown, or no terminal to ask on"
DECLINED = "the answer was no; no host was changed"

COMMANDS: Mapping[str, Mapping[Code, str]] = {
    "init": {
        Code.OK: "the directory is written, or has these files already",
        Code.ERROR: "a file is in the way, or an option is invalid",
    },
    "upgrade": {
        Code.OK: "the directory has the templates of this version",
        Code.ERROR: "an error, no terminal to ask on, or a file that you edited has a newer template",
        Code.CHANGES: "with --dry: there are differences",
        Code.DECLINED: "the answer was no; no file was changed",
    },
    "add-host": {
        Code.OK: "the host file is written",
        Code.ERROR: "the file exists, or the fleet would be invalid; nothing was written",
    },
    "add-service": {
        Code.OK: "the host file is changed",
        Code.ERROR: "the fleet would be invalid, or is so already; nothing was written",
    },
    "check": {Code.OK: "no errors; there may be warnings", Code.ERROR: "errors"},
    "plan": {
        Code.OK: "no changes",
        Code.ERROR: "an error, or a host is unreachable or blocked",
        Code.CHANGES: "changes",
    },
    "apply": {
        Code.OK: "every host is as declared",
        Code.ERROR: COMMAND_ERROR,
        Code.DECLINED: DECLINED,
    },
    "stop": {
        Code.OK: "the services are stopped; with --dry: no changes",
        Code.ERROR: COMMAND_ERROR,
        Code.CHANGES: "with --dry: changes",
        Code.DECLINED: DECLINED,
    },
    "start": {
        Code.OK: "the services serve; with --dry: no changes",
        Code.ERROR: COMMAND_ERROR,
        Code.CHANGES: "with --dry: changes",
        Code.DECLINED: DECLINED,
    },
    "restart": {
        Code.OK: "the services serve; with --dry: no changes",
        Code.ERROR: COMMAND_ERROR,
        Code.CHANGES: "with --dry: changes",
        Code.DECLINED: DECLINED,
    },
    "status": {
        Code.OK: "healthy, or stopped on purpose",
        Code.ERROR: "a host is unreachable, a service is not running, or a check failed",
    },
    "ask": {Code.OK: "answered", Code.ERROR: "the host is unreachable, or there is no answer"},
    "logs": {Code.OK: "printed", Code.ERROR: "the host is unreachable, or has no such log"},
    "history": {
        Code.OK: "shown",
        Code.ERROR: "a host is unreachable, or a part of its history cannot be read",
    },
    "rollback": {
        Code.OK: "rolled back, or nothing to roll back",
        Code.ERROR: "an error, a host failed, is unknown or blocked, or no terminal to ask on",
        Code.CHANGES: "with --dry: there are changes",
        Code.DECLINED: "the answer was no; no host was changed",
    },
    "lock": {Code.OK: "everything is pinned", Code.ERROR: "an entry could not be resolved"},
    "mirror": {Code.OK: "the mirror is complete", Code.ERROR: "a download failed"},
    "prune": {Code.OK: "listed, or deleted", Code.ERROR: "a host is unreachable, or an item remains"},
    "catalog": {Code.OK: "shown", Code.ERROR: "no such recipe, or an invalid one"},
    "diagnose": {Code.OK: "read, whether or not a cause was found", Code.ERROR: "the log cannot be read"},
    "explain": {Code.OK: "explained", Code.ERROR: "the term is unknown"},
    "render": {Code.OK: "rendered", Code.ERROR: "errors in the fleet's files, or a service is not pinned"},
    "fabric": {Code.OK: "every link was measured", Code.ERROR: "an error, or a link was not measured"},
    "rules": {Code.OK: "listed", Code.ERROR: "the list cannot be written"},
    "knowledge": {
        Code.OK: "shown, updated, or back at the release's own",
        Code.ERROR: "the knowledge cannot be read, downloaded or verified",
    },
    "completion": {Code.OK: "printed", Code.ERROR: "the script cannot be written"},
    "schema": {Code.OK: "printed", Code.ERROR: "the schema cannot be written"},
}
"""Command -> its own meaning of the codes; all have COMMAND_LINE and INTERRUPTED, too."""

RUN: Mapping[Code, str] = {
    Code.OK: "every host is as declared or requested; with --dry: every host could be planned",
    Code.ERROR: "a wrong inventory, --limit or --exclude, or a host failed, is unreachable or is blocked",
    Code.DECLINED: "the answer to the question was no; no host was changed",
    Code.INTERRUPTED: MEANINGS[Code.INTERRUPTED],
}

DEPLOYS: Mapping[str, Mapping[Code, str]] = dict.fromkeys(
    ("serve", "prepare", "fabric", "stage", "verify", "stop", "start", "restart", "rollback"), RUN
)
"""Deploys, run by pyinfra: its code of an invalid command line is 2."""
