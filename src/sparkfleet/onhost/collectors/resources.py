"""What was declared of the Spark itself, or put there by a run, as it is now: one function a kind.

Sent only with a look that needs it, and part of the programs on the Spark: what the plan sees and what a run
sees is seen by the same lines. Values are text; a field that is not there is "".
"""

from __future__ import annotations

import binascii
import grp
import os
import pwd
import stat
import time

from sparkfleet.onhost.collectors import basics, fast_imports, state

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SYSCTL_FILE = "/etc/sysctl.d/90-sparkfleet.conf"
SYSCTL_DIRS = ("/usr/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")
"""A file takes the place of one with the same name in those before."""
GPU_UNIT = "spark-gpu.service"
DOCKER_CONFIG = "/root/.docker/config.json"
FSTAB = "/etc/fstab"
SERVERS = {"docker.io": "https://index.docker.io/v1/"}
"""Registries that docker keeps under another name."""
HEX = set("0123456789abcdef")
CACHE_NAME = 12
"""Hex digits of a compile cache's name."""
HELPER_LETTERS = set("abcdefghijklmnopqrstuvwxyz0123456789-")
"""Of the names of docker's credential helpers."""
MISSING = "missing"
"""Field ``unit`` of a service whose unit is not there."""
ROUNDS = 20000
"""Of the hash by which a secret is compared: what leaves the Spark gives nothing of it away."""


MOST_ENTRIES = 20000
"""Of a directory whose owners are looked at."""


def expand(text: str, user: str, home: str) -> str:
    """Return a key or value with the login user's name and home put in."""
    text = text.replace("@login", user)
    return home + text[1:] if text == "~" or text.startswith("~/") else text


def ran(*words: str, given: str = "") -> str:
    """Return what a command says, whatever its exit code; "" when it is not there."""
    try:
        if not given:
            return fast_imports.said(*words)
        import subprocess  # noqa: PLC0415  (3 ms, for the helpers of logins alone)

        return subprocess.run(
            words, capture_output=True, text=True, timeout=30, check=False, input=given, errors="replace"
        ).stdout
    except FileNotFoundError:
        return ""


def file(path: str, _: str = "") -> dict[str, str]:
    """Return what lies at a path."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"is": "absent"}
    user, group = basics.owner_of(info)
    kind = stat.S_IFMT(info.st_mode)
    names = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    seen = {"is": names.get(kind, "other"), "mode": "%04o" % stat.S_IMODE(info.st_mode)}
    seen.update(owner=user, group=group)
    if seen["is"] == "file":
        seen["sha256"] = fast_imports.sha256_of(path)
    return seen


def directory(path: str, arg: str) -> dict[str, str]:
    """Return a directory, and how many entries in it belong to others than the owner in ``arg``.

    Counted up to the limit in ``arg``: more is "many", and the rest of a huge tree is not looked at.
    """
    seen = file(path)
    if seen["is"] == "directory":
        owner, _, limit = arg.partition(" ")
        others = foreign(path, owner, int(limit or 0))
        count = sum(1 for _ in others)
        seen["others"] = "many" if count > int(limit or 0) else str(count)
        seen["empty"] = "no" if os.listdir(path) else "yes"
    return seen


def foreign(path: str, owner: str, limit: int) -> Iterator[str]:
    """Yield the entries below a directory that are not the owner's, at most one more than ``limit``.

    Of a huge tree only so many entries are looked at as take no noticeable time.
    """
    try:
        uid = pwd.getpwnam(owner).pw_uid
    except KeyError:
        return
    found = looked_at = 0
    for folder, folders, names in os.walk(path):
        if looked_at > MOST_ENTRIES:
            return
        looked_at += len(folders) + len(names)
        for name in folders + names:
            entry = os.path.join(folder, name)
            try:
                differs = os.lstat(entry).st_uid != uid
            except OSError:
                continue
            if differs:
                yield entry
                found += 1
                if found > limit:
                    return


def sudoers_path(user: str) -> str:
    """Return where a user's rule for the valve is (sudo skips names with a dot)."""
    return "/etc/sudoers.d/spark-valve-" + user.replace(".", "_")


def sudoers(user: str, _: str = "") -> dict[str, str]:
    """Return the rule of a user of the valve."""
    seen = file(sudoers_path(user))
    lines = (basics.read_text(sudoers_path(user)) or "").splitlines() if seen["is"] == "file" else []
    seen["rule"] = "; ".join(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    return seen


def sysctl_path(name: str) -> str:
    """Return where the kernel tells and takes a setting."""
    return "/proc/sys/" + name.replace(".", "/")


def sysctl_lines(path: str = "") -> dict[str, str]:
    """Return what a file sets at boot (default: ours)."""
    lines = (basics.read_text(path or SYSCTL_FILE) or "").splitlines()
    pairs = (line.strip().lstrip("-").partition("=") for line in lines if "=" in line)
    found = {name.strip().replace("/", "."): " ".join(value.split()) for name, _, value in pairs}
    return {name: value for name, value in found.items() if name[:1] not in "#;"}


def sysctl(name: str, _: str = "") -> dict[str, str]:
    """Return a kernel setting now, what our file sets it to at boot, and which file after ours sets it."""
    text = basics.read_text(sysctl_path(name))
    seen = {"now": " ".join((text or "").split()), "at boot": sysctl_lines().get(name, "")}
    later = [path for path in later_settings() if name in sysctl_lines(path)]
    if later:
        seen.update(later=later[-1], set=sysctl_lines(later[-1])[name])
    return seen if text is not None else {"is": "no such setting", **seen}


def later_settings() -> list[str]:
    """Return the files of kernel settings that are read after ours, in their order."""
    found = {
        name: os.path.join(folder, name)
        for folder in SYSCTL_DIRS
        if os.path.isdir(folder)
        for name in os.listdir(folder)
        if name.endswith(".conf") and not name.startswith(".")
    }
    return [found[name] for name in sorted(found) if name > os.path.basename(SYSCTL_FILE)]


def group(key: str, _: str = "") -> dict[str, str]:
    """Return whether a user is in a group; ``key`` is "GROUP USER"."""
    name, _, user = key.partition(" ")
    try:
        found, who = grp.getgrnam(name), pwd.getpwnam(user)
    except KeyError as error:
        return {"member": "no", "missing": str(error).strip("\"'")}
    return {"member": "yes" if user in found.gr_mem or who.pw_gid == found.gr_gid else "no"}


def packages(pattern: str) -> list[tuple[str, str]]:
    """Return the installed packages of that name or pattern, and what dpkg is to do with them."""
    said = ran("dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}\\n", pattern)
    pairs = (line.split()[:2] for line in said.splitlines() if len(line.split()) > 1)
    return sorted({(name, status) for name, status in pairs if status[1] == "i"})


def package(name: str, _: str = "") -> dict[str, str]:
    """Return whether a package is installed."""
    return {"is": "installed" if packages(name) else "absent"}


def hold(pattern: str, _: str = "") -> dict[str, str]:
    """Return which installed packages of a pattern no upgrade touches, and which are free."""
    seen = packages(pattern)
    held = " ".join(name for name, status in seen if status[0] == "h")
    return {"held": held, "free": " ".join(name for name, status in seen if status[0] != "h")}


def swap_lines() -> list[str]:
    """Return the lines of fstab that make swap."""
    lines = (basics.read_text(FSTAB) or "").splitlines()
    return [line for line in lines if not line.lstrip().startswith("#") and line.split()[2:3] == ["swap"]]


def swap(_: str, __: str = "") -> dict[str, str]:
    """Return where there is swap now, and at boot by fstab."""
    now = [line.split()[0] for line in (basics.read_text("/proc/swaps") or "").splitlines()[1:]]
    return {"now": " ".join(now), "at boot": " ".join(line.split()[0] for line in swap_lines())}


def service(unit: str, _: str = "") -> dict[str, str]:
    """Return whether a unit runs, and whether it starts at boot."""
    said = ran("systemctl", "show", "--property=LoadState,UnitFileState,ActiveState", unit)
    facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    enabled = facts.get("UnitFileState", "").startswith("enabled")
    running = facts.get("ActiveState", "") in {"active", "activating", "reloading"}
    seen = {"at boot": "enabled" if enabled else "disabled", "now": "active" if running else "inactive"}
    return {**seen, "unit": MISSING} if facts.get("LoadState") == "not-found" else seen


GPU_WORDS = {"persistence": "-pm", "power limit": "-pl", "clocks": "-lgc"}
"""Field -> option of nvidia-smi."""


def gpu(_: str, __: str = "") -> dict[str, str]:
    """Return what our unit tells the GPU at boot."""
    text = basics.read_text(os.path.join(basics.UNIT_DIR, GPU_UNIT))
    if text is None:
        return {"is": "absent"}
    import re  # noqa: PLC0415  (5 ms, for Sparks whose GPU is set alone)

    told = dict(re.findall(r"^ExecStart=.*nvidia-smi (-\w+) (\S+)$", text, re.MULTILINE))
    seen = {name: told.get(word, "") for name, word in GPU_WORDS.items()}
    state = service(GPU_UNIT)
    return {**seen, "unit": "%s %s" % (state["at boot"], state["now"])}


def digest(secret: bytes, salt: bytes) -> str:
    """Return the hash by which the operator's machine can tell whether it has the same secret."""
    import hashlib  # noqa: PLC0415  (2 ms, for Sparks with a secret alone)

    return hashlib.pbkdf2_hmac("sha256", secret, salt, ROUNDS).hex()


def hidden(secret: bytes) -> dict[str, str]:
    """Return a secret's hash, with the salt of this Spark (of this very look, where it has none yet)."""
    salt = bytes.fromhex(state.record_file().get("salt", "")) or os.urandom(16)
    return {"secret": "there", "salt": salt.hex(), "hash": digest(secret, salt)}


def token(path: str, _: str = "") -> dict[str, str]:
    """Return a file with a secret, by its hash."""
    seen = file(path)
    if seen.pop("sha256", ""):
        with open(path, "rb") as opened:
            seen.update(hidden(opened.read().strip()))
    return seen


def login(registry: str, helper: str) -> dict[str, str]:
    """Return root's docker login at a registry, by its hash; ``helper`` keeps it, or the file itself."""
    config, registry = (
        fast_imports.loads(basics.read_text(DOCKER_CONFIG) or "{}"),
        SERVERS.get(registry, registry),
    )
    kept_by = (config.get("credHelpers") or {}).get(registry, "")
    entry = (config.get("auths") or {}).get(registry) or {}
    secret = binascii.a2b_base64(entry.get("auth") or "")
    if kept_by and set(kept_by) <= HELPER_LETTERS:
        said = ran("docker-credential-" + kept_by, "get", given=registry)
        found = fast_imports.loads(said) if said.startswith("{") else {}
        secret = (found["Username"] + ":" + found["Secret"]).encode() if found.get("Secret") else b""
    seen = {"is": "login", "helper": kept_by, **hidden(secret)} if secret else {"is": "absent"}
    if secret and kept_by != helper:
        seen["secret"] = "kept by " + (kept_by or "the file")
    return seen


def used_caches() -> str:
    """Return all that the Spark keeps of its services, as one text: it names the caches in use."""
    texts = []
    for folder, _, names in os.walk(os.path.join(basics.STATE_DIR, "services")):
        texts += [
            basics.read_text(os.path.join(folder, name)) or "" for name in names if name.endswith(".json")
        ]
    return "\n".join(texts)


def caches(path: str, _: str = "") -> dict[str, Any]:
    """Return the compile caches in a directory: bytes, last change, and whether a service here needs it."""
    found, used = {}, used_caches()
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
        top = os.path.join(path, name)
        if len(name) == CACHE_NAME and set(name) <= HEX and os.path.isdir(top) and not os.path.islink(top):
            size, newest = 0, os.lstat(top).st_mtime
            for folder, _folders, entries in os.walk(top):
                for entry in entries:
                    info = os.lstat(os.path.join(folder, entry))
                    size, newest = size + info.st_blocks * 512, max(newest, info.st_mtime)
            found[name] = [size, int(newest), os.path.join(path, name) in used]
    return {"caches": found, "now": int(time.time())}


LOOKS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "caches": caches,
    "directory": directory,
    "file": file,
    "gpu": gpu,
    "group": group,
    "hold": hold,
    "login": login,
    "package": package,
    "service": service,
    "sudoers": sudoers,
    "swap": swap,
    "sysctl": sysctl,
    "token": token,
}


def look_at_items(asked: list[list[str]], user: str, home: str) -> dict[str, Any]:
    """Return what a run put here by the Spark's own record, and how it and what is asked for is now."""
    record = state.record()
    wanted = {name: (entry["kind"], entry["key"], entry["arg"]) for name, entry in record.items()}
    for kind, written, arg in asked:
        key = expand(written, user, home)
        wanted["%s %s" % (kind, key)] = (kind, key, expand(arg, user, home))
    live = {}
    for name, (kind, key, arg) in wanted.items():
        try:
            live[name] = LOOKS[kind](key, arg)
        except Exception as error:
            live[name] = {"error": "%s: %s" % (type(error).__name__, error)}
    return {"record": record, "live": live}
