"""Containers and images, as the Docker Engine tells them.

Asked by hand, in HTTP/1.0: one question a connection, and no chunks. http.client alone would be 15 ms of CPU
to import, twice of what python3 itself takes; ``socket`` is 2 ms more than its C part.
"""

from __future__ import annotations

import _socket

from sparkfleet.onhost.collectors import basics, fast_imports

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

DOCKER_SOCKET = "/var/run/docker.sock"
DOCKER_TIMEOUT_S = 20
LABEL_SERVICE = "io.sparkfleet.service"


class DockerError(Exception):
    """Docker could not be asked; ``state`` is missing, down, denied, hangs or error."""

    def __init__(self, state: str, detail: str) -> None:
        """Keep the state and docker's own words."""
        super().__init__(detail)
        self.state = state


def docker_get(path: str) -> Any:
    """Return the decoded answer of the Engine API, or None for 404."""
    connection = connect_docker()
    try:
        connection.sendall(b"GET %s HTTP/1.0\r\nHost: docker\r\n\r\n" % path.encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except TimeoutError:
        detail = "the daemon took a question and did not answer within %d s" % DOCKER_TIMEOUT_S
        raise DockerError("hangs", detail) from None
    except ConnectionError as error:
        raise DockerError("down", "the daemon hung up: %s" % error) from None
    finally:
        connection.close()
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
    return fast_imports.loads(body.decode())


def connect_docker() -> _socket.socket:
    """Return a connection; DockerError tells apart: not installed, daemon down, permission denied."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(DOCKER_TIMEOUT_S)
    try:
        connection.connect(DOCKER_SOCKET)
    except FileNotFoundError:
        connection.close()
        if basics.which("docker") or basics.which("dockerd"):
            detail = "no socket at %s: the daemon is not running" % DOCKER_SOCKET
            raise DockerError("down", detail) from None
        raise DockerError("missing", "Docker is not installed") from None
    except PermissionError:
        connection.close()
        raise DockerError("denied", "permission denied on %s" % DOCKER_SOCKET) from None
    except (ConnectionError, TimeoutError, BlockingIOError) as error:
        connection.close()
        raise DockerError("down", "the daemon does not answer on %s: %s" % (DOCKER_SOCKET, error)) from None
    return connection


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


def image(reference: str) -> dict[str, Any] | None:
    """Return ``docker inspect`` of an image by its name, or by its digest under whatever name it came."""
    found: dict[str, Any] | None = docker_get("/images/%s/json" % reference)
    _, at, digest = reference.partition("@")
    if found is None and at:
        for row in docker_get("/images/json") or ():
            if any(name.endswith("@" + digest) for name in row.get("RepoDigests") or ()):
                found = docker_get("/images/%s/json" % row["Id"])
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
        data = image(reference)
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
