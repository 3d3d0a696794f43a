"""The one read-only look at a Spark. Runs there (standard library only), prints one JSON object, changes
nothing.

Every part is read on its own: what fails becomes ``{"error": ...}`` of that part and never hides the others.
Sent over SSH with the command, so that nothing is left on the Spark.

Imports are most of what a look costs there: http.client alone would be 15 ms of CPU, twice of what python3
itself takes. So Docker is asked by hand, in HTTP/1.0: one question a connection, and no chunks.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

BEGIN = "<<sparkfleet-probe>>"
END = "<</sparkfleet-probe>>"
DOCKER_SOCKET = "/var/run/docker.sock"
STATE_DIR = "/var/lib/sparkfleet"
DOCKER_TIMEOUT_S = 20
UNIT_DIR = "/etc/systemd/system"
UNITS_BESIDE = ("/run/systemd/system", "/etc/systemd/system.control", "/run/systemd/system.control")
"""Where ``systemctl edit --runtime`` and ``systemctl set-property`` put what changes a unit."""
LABEL_SERVICE = "io.sparkfleet.service"


class DockerError(Exception):
    """Docker could not be asked; ``state`` is missing, down, denied, hangs or error."""

    def __init__(self, state: str, detail: str) -> None:
        """Keep the state and docker's own words."""
        super().__init__(detail)
        self.state = state


def which(name: str) -> bool:
    """Tell whether there is a program of that name on PATH."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in folders)


def docker_get(path: str) -> Any:
    """Return the decoded answer of the Engine API, or None for 404."""
    with connect_docker() as connection:
        try:
            connection.sendall(b"GET %s HTTP/1.0\r\nHost: docker\r\n\r\n" % path.encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        except socket.timeout:
            detail = "the daemon took a question and did not answer within %d s" % DOCKER_TIMEOUT_S
            raise DockerError("hangs", detail) from None
        except ConnectionError as error:
            raise DockerError("down", "the daemon hung up: %s" % error) from None
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if not lines[0].startswith("HTTP/") or len(body) < int(fields.get("content-length", 0)):
        raise DockerError("down", "the daemon hung up in the middle of an answer")
    status = lines[0].split()[1]
    if status == "404":
        return None
    if status != "200":
        raise DockerError("error", "%s: %s %s" % (path, status, body[:200].decode("utf-8", "replace")))
    return json.loads(body)


def connect_docker() -> socket.socket:
    """Return a connection; DockerError tells apart: not installed, daemon down, permission denied."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(DOCKER_TIMEOUT_S)
    try:
        connection.connect(DOCKER_SOCKET)
    except FileNotFoundError:
        connection.close()
        if which("docker") or which("dockerd"):
            detail = "no socket at %s: the daemon is not running" % DOCKER_SOCKET
            raise DockerError("down", detail) from None
        raise DockerError("missing", "Docker is not installed") from None
    except PermissionError:
        connection.close()
        raise DockerError("denied", "permission denied on %s" % DOCKER_SOCKET) from None
    except (ConnectionError, socket.timeout, BlockingIOError) as error:
        connection.close()
        raise DockerError("down", "the daemon does not answer on %s: %s" % (DOCKER_SOCKET, error)) from None
    return connection


def read_text(path: str, limit: int = 1 << 20) -> str | None:
    """Return a file's text, or None when there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except (FileNotFoundError, NotADirectoryError):
        return None


def owner_of(info: os.stat_result) -> tuple[str, str]:
    """Return user and group by name, or by number where there is no name."""
    try:
        user = pwd.getpwuid(info.st_uid).pw_name
    except KeyError:
        user = str(info.st_uid)
    try:
        group = grp.getgrgid(info.st_gid).gr_name
    except KeyError:
        group = str(info.st_gid)
    return user, group


def look_at_path(path: str) -> dict[str, Any]:
    """Return what lies at a path: kind, mode, owner, size and, for files, the SHA-256 of the content."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "absent"}
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}.get(
        stat.S_IFMT(info.st_mode), "other"
    )
    user, group = owner_of(info)
    seen = {
        "kind": kind,
        "mode": "%04o" % stat.S_IMODE(info.st_mode),
        "user": user,
        "group": group,
        "size": info.st_size,
    }
    if kind == "link":
        seen["target"] = os.readlink(path)
    if kind == "file":
        with open(path, "rb") as file:
            seen["sha256"] = hashlib.sha256(file.read()).hexdigest()
    return seen


def memory() -> dict[str, int]:
    """Return MemTotal and MemAvailable in MiB."""
    values = {}
    for line in (read_text("/proc/meminfo") or "").splitlines():
        key, _, rest = line.partition(":")
        values[key] = rest
    return {
        "total_mib": int(values["MemTotal"].split()[0]) // 1024,
        "available_mib": int(values["MemAvailable"].split()[0]) // 1024,
        "swap_total_mib": int(values.get("SwapTotal", "0 kB").split()[0]) // 1024,
    }


def disk(path: str) -> dict[str, Any]:
    """Return size and free bytes of the file system that holds a path or its nearest existing parent."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    info = os.statvfs(path)
    return {
        "path": path,
        "total": info.f_frsize * info.f_blocks,
        "free": info.f_frsize * info.f_bavail,
        "read_only": bool(info.f_flag & os.ST_RDONLY),
    }


def container_facts(data: dict[str, Any], *, compared: bool) -> dict[str, Any]:
    """Return of ``docker inspect`` what a plan compares; of foreign containers only who they are (no
    environment).
    """
    config, host = data["Config"], data["HostConfig"]
    kept = ("Image", "Cmd", "Entrypoint", "Env", "User", "WorkingDir", "Labels", "StopTimeout", "StopSignal")
    return {
        "id": data["Id"],
        "name": data["Name"].lstrip("/"),
        "image_id": data["Image"],
        "state": data["State"]["Status"],
        "started_at": data["State"].get("StartedAt", ""),
        "exit_code": data["State"].get("ExitCode", 0),
        "pid": data["State"].get("Pid", 0),
        "config": {key: config.get(key) for key in (kept if compared else ("Image", "Labels"))},
        "host": host if compared else {key: host.get(key) for key in ("NetworkMode", "PortBindings")},
    }


def listeners(wanted: Iterable[int] = (), likely: Iterable[int] = ()) -> dict[str, dict[str, Any]]:
    """Return the listening TCP ports with the process id and command where they can be told.

    ``wanted``: these ports alone. ``likely``: processes to look at before all others (an engine has its port
    itself, and there are hundreds of processes).
    """
    inodes: dict[str, int] = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        if wanted and set(wanted) <= set(inodes.values()):
            break  # the kernel walks through its whole table for each: 4 ms, on a Spark more
        for line in (read_text(name) or "").splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == "0A" and (not wanted or port in wanted):
                inodes["socket:[%s]" % fields[9]] = port
    found = {str(port): {"pid": 0, "command": ""} for port in inodes.values()}
    for pid in (*likely, *(int(name) for name in os.listdir("/proc") if name.isdigit())):
        if all(seen["pid"] for seen in found.values()):
            break
        with contextlib.suppress(OSError):
            for fd in os.listdir("/proc/%d/fd" % pid):
                with contextlib.suppress(OSError):
                    held = inodes.get(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
                    if held is not None:
                        words = (read_text("/proc/%d/cmdline" % pid) or "").split("\0")
                        found[str(held)] = {
                            "pid": pid,
                            "command": " ".join(words).strip()[:200],
                            "cgroup": (read_text("/proc/%d/cgroup" % pid) or "")[-300:],
                        }
    return found


def look_at_docker(request: dict[str, Any]) -> dict[str, Any]:
    """Return the daemon's state, our containers, every container that could be in the way, and the images
    asked for.
    """
    version = docker_get("/version")
    info = {"state": "ok", "version": version.get("Version", ""), "arch": version.get("Arch", "")}
    containers = []
    wanted = set(request.get("services", ()))
    for row in docker_get("/containers/json?all=1") or ():
        names = [name.lstrip("/") for name in row.get("Names", ())]
        labels = row.get("Labels") or {}
        if LABEL_SERVICE in labels or wanted & set(names) or row.get("State") == "running":
            data = docker_get("/containers/%s/json" % row["Id"])
            if data is not None:
                compared = LABEL_SERVICE in labels or bool(wanted & set(names))
                containers.append(container_facts(data, compared=compared))
    images = {}
    ids = {container["image_id"] for container in containers if "Cmd" in container["config"]}
    for reference in sorted(set(request.get("images", ())) | ids):
        data = docker_get("/images/%s/json" % reference)
        images[reference] = (
            None
            if data is None
            else {
                "id": data["Id"],
                "digests": data.get("RepoDigests") or [],
                "entrypoint": data["Config"].get("Entrypoint") or [],
                "cmd": data["Config"].get("Cmd") or [],
                "env": data["Config"].get("Env") or [],
                "labels": data["Config"].get("Labels") or {},
                "user": data["Config"].get("User") or "",
                "working_dir": data["Config"].get("WorkingDir") or "",
                "arch": data.get("Architecture", ""),
                "size": data.get("Size", 0),
            }
        )
    return {**info, "containers": containers, "images": images}


def look_at_units() -> dict[str, Any]:
    """Return each unit of ours: its text, drop-ins, and what systemd says of it."""
    if not os.path.isdir("/run/systemd/system"):
        return {"state": "missing"}
    units: dict[str, dict[str, Any]] = {}
    names = sorted(
        {name for name in os.listdir(UNIT_DIR) if re.fullmatch(r"sparkfleet-[a-z0-9.-]+\.service", name)}
        | {
            name[:-2]
            for name in os.listdir(UNIT_DIR)
            if re.fullmatch(r"sparkfleet-[a-z0-9.-]+\.service\.d", name)
        }
    )
    for name in names:
        drop_ins = {}
        for directory in ("%s/%s.d" % (root, name) for root in (UNIT_DIR, *UNITS_BESIDE)):
            if os.path.isdir(directory):
                for entry in sorted(file for file in os.listdir(directory) if file.endswith(".conf")):
                    drop_ins[os.path.join(directory, entry)] = read_text(os.path.join(directory, entry)) or ""
        units[name] = {"text": read_text(os.path.join(UNIT_DIR, name)), "drop_ins": drop_ins}
    if names:
        answer = subprocess.run(
            [
                "systemctl",
                "show",
                "--property=Id,ActiveState,SubState,UnitFileState,NeedDaemonReload,Result",
                *names,
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        for block in answer.stdout.strip().split("\n\n"):
            facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if facts.get("Id") in units:
                units[facts["Id"]].update(
                    active=facts.get("ActiveState", ""),
                    sub=facts.get("SubState", ""),
                    enabled=facts.get("UnitFileState", ""),
                    reload=facts.get("NeedDaemonReload", "") == "yes",
                    result=facts.get("Result", ""),
                )
    return {"state": "ok", "units": units}


def look_at_state() -> dict[str, Any]:
    """Return the generations that serve, and a swap that is still going on."""
    generations = {}
    services = os.path.join(STATE_DIR, "services")
    for name in sorted(os.listdir(services)) if os.path.isdir(services) else ():
        text = read_text(os.path.join(services, name, "current.json"))
        if text:
            try:
                generations[name] = json.loads(text)
            except ValueError as error:
                generations[name] = {"error": "unreadable: %s" % error}
    going_on = ""
    swaps = os.path.join(STATE_DIR, "swaps")
    for name in sorted(os.listdir(swaps)) if os.path.isdir(swaps) else ():
        folder = os.path.join(swaps, name)
        if os.path.exists(os.path.join(folder, "request.json")) and not os.path.exists(
            os.path.join(folder, "result.json")
        ):
            going_on = name
    return {"generations": generations, "swap": going_on}


def look_at_weights(models_dir: str, wanted: list[list[str]]) -> dict[str, dict[str, Any]]:
    """Return for each ``[repo, revision]`` its snapshot's files: size of the content, name of the blob."""
    found = {}
    for repo, revision in wanted:
        root = os.path.join(models_dir, "hub", "models--" + repo.replace("/", "--"))
        snapshot = os.path.join(root, "snapshots", revision)
        files = {}
        for folder, _, names in os.walk(snapshot):
            for name in names:
                path = os.path.join(folder, name)
                link = os.readlink(path) if os.path.islink(path) else ""
                try:
                    size = os.stat(path).st_size
                except OSError:
                    size = -1
                files[os.path.relpath(path, snapshot)] = {"size": size, "blob": os.path.basename(link)}
        found["%s@%s" % (repo, revision)] = files
    return found


def login_user(name: str) -> dict[str, Any]:
    """Return home, ids and groups of the user who logs in."""
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


def part(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what a function found, or its error."""
    try:
        return function(*arguments)
    except DockerError as error:
        return {"state": error.state, "error": str(error)}
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


def sudo_state() -> dict[str, str]:
    """Return "ok" as root, else why sudo does not help."""
    if os.geteuid() == 0:
        return {"state": "ok"}
    answer = (
        subprocess.run(
            ["sudo", "-n", "true"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if which("sudo")
        else None
    )
    if answer is None:
        return {"state": "refused", "error": "sudo is not installed and the login user is not root"}
    return {"state": "refused", "error": (answer.stderr.strip().splitlines() or ["sudo was refused"])[-1]}


def probe(request: dict[str, Any], user: str) -> dict[str, Any]:
    """Return everything that a plan needs to know of this Spark."""
    who = part(login_user, user)
    home = who.get("home", "/")

    def expand(path: str) -> str:
        return home + path[1:] if path == "~" or path.startswith("~/") else path

    models = expand(request.get("models_dir", "~/vllm"))
    cache = expand(request.get("cache_dir", "~/vllm-compile-cache"))
    docker = part(look_at_docker, request)
    likely = [seen["pid"] for seen in docker.get("containers", ())]
    paths = {path: part(look_at_path, expand(path)) for path in request.get("paths", ())}
    return {
        "schema": 1,
        "host": {
            "name": socket.gethostname(),
            "arch": os.uname().machine,
            "kernel": os.uname().release,
            "python": sys.version.split()[0],
        },
        "sudo": part(sudo_state),
        "user": who,
        "memory": part(memory),
        "disks": {
            "models": part(disk, models),
            "cache": part(disk, cache),
            "docker": part(disk, "/var/lib/docker"),
            "state": part(disk, STATE_DIR),
        },
        "docker": docker,
        "systemd": part(look_at_units),
        "state": part(look_at_state),
        "paths": paths,
        "weights": part(look_at_weights, models, request.get("weights", ())),
        "listeners": part(listeners, request.get("ports", ()), likely),
    }


def login_name() -> str:
    """Return who logged in: the one that sudo was called by, or who runs this."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def main() -> None:
    """Answer the request in argv[1] (JSON)."""
    result = probe(json.loads(sys.argv[1]), login_name())
    print(BEGIN + json.dumps(result, separators=(",", ":")) + END)


if __name__ == "__main__":
    main()
