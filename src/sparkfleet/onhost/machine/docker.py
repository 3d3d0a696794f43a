"""What is asked of the Docker Engine, through its API; ``docker create`` alone goes through the command,
since its options are those that people know and that the plan shows.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sparkfleet.onhost.machine.container import Container
from sparkfleet.onhost.machine.engine_api import (
    FIRST_ERROR,
    NOT_FOUND,
    Connection,
    EngineApi,
    lines_of,
    message,
    part,
    unframed,
)
from sparkfleet.onhost.machine.system import DockerError, DockerGoneError, Stop

PULL_SILENCE_S = 900.0
"""Seconds that dockerd may stay silent within a pull: a large layer is unpacked without a word."""
_PINNED = re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}")
"""A word that is an image."""
CONFLICT = 409


def _without_tag(reference: str) -> str:
    """Return ``repository@digest`` of ``repository:tag@digest``."""
    return re.sub(r":[^/@:]+@", "@", reference)


class DockerEngine(EngineApi):
    """Talks to one dockerd. Safe to use from several threads: each request has its own connection."""

    def ping(self) -> None:
        """Return when dockerd answers, else raise DockerGoneError."""
        self._ask("GET", "/_ping", timeout=5)

    def inspect(self, name: str) -> Container | None:
        """Return the container, None when there is none."""
        data = self._json("GET", f"/containers/{part(name)}/json", missing_ok=True)
        return Container.parse(data) if data else None

    def running(self) -> tuple[Container, ...]:
        """Return all running containers."""
        rows = self._json("GET", "/containers/json")
        found = (self.inspect(row["Id"]) for row in rows)
        return tuple(container for container in found if container)

    def has_image(self, reference: str) -> bool:
        """Return whether the image is here. A tag beside a digest plays no part, as in ``docker create``."""
        return bool(self.name_of(reference))

    def name_of(self, reference: str) -> str:
        """Return the name that an image has here: its own, or another one with the same digest; "" without.

        The digest is of all content: an image from a registry mirror or an offline mirror is the same image.
        """
        name = _without_tag(reference)
        if self._image(name) is not None:
            return name
        _, at, digest = name.partition("@")
        rows = (self._json("GET", "/images/json") or ()) if at else ()
        names = (name for row in rows for name in row.get("RepoDigests") or ())
        return next((name for name in names if name.endswith(f"@{digest}")), "")

    def image_size(self, reference: str) -> int:
        """Return an image's bytes on disk, shared layers included; 0 when it is not here."""
        name = self.name_of(reference)
        data = self._image(name) if name else None
        return int(data.get("Size") or 0) if data else 0

    def _image(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._json(
            "GET", f"/images/{quote(name, safe='/:@')}/json", missing_ok=True
        )
        return found

    def pull(self, reference: str, auth: str) -> Iterator[dict[str, Any]]:
        """Pull ``repository@digest`` and yield dockerd's events: ``status``, ``progressDetail``, ``error``.

        ``auth`` is the X-Registry-Auth header, "" for none. Raise DockerError for what is refused at once.
        """
        name, _, digest = reference.partition("@")
        connection = Connection(self._path, PULL_SILENCE_S)
        headers = {"X-Registry-Auth": auth} if auth else {}
        path = f"{self._prefix()}/images/create?fromImage={quote(name, safe='')}&tag={quote(digest, safe='')}"
        try:
            connection.request("POST", path, headers=headers)
            response = connection.getresponse()
            if response.status >= FIRST_ERROR:
                raise DockerError(message(response.read()), response.status)
            for line in response:
                yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DockerGoneError(f"the pull was cut off: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def containers(self) -> dict[str, str]:
        """Return every container, whoever's and in whatever state: its id and its image's."""
        rows = self._json("GET", "/containers/json?all=1") or ()
        return {str(row["Id"]): str(row["ImageID"]) for row in rows}

    def remove_image(self, reference: str) -> None:
        """Take a name from an image; with its last one it goes. DockerError while a container needs it."""
        self._ask("DELETE", f"/images/{quote(reference, safe='/:@')}", timeout=600, missing_ok=True)

    def root(self) -> Path:
        """Return dockerd's data directory."""
        return Path(self._json("GET", "/info").get("DockerRootDir") or "/var/lib/docker")

    def _made_of(self, reference: str) -> str:
        """Return what a container is made of: the reference as it is, with the tag that people know, or the
        other name that its image has here.
        """
        name = self.name_of(reference)
        return reference if name in ("", _without_tag(reference)) else name

    def create(self, name: str, words: Sequence[str]) -> str:
        """Create a container; the image must be here already. Return its id."""
        words = [self._made_of(word) if _PINNED.fullmatch(word) else word for word in words]
        command = (
            "docker",
            "--host",
            f"unix://{self._path}",
            "create",
            "--pull",
            "never",
            "--name",
            name,
            *words,
        )
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except FileNotFoundError:
            raise DockerError("there is no docker command on this Spark") from None
        except subprocess.TimeoutExpired:
            raise DockerError("docker create took more than 300 s") from None
        if done.returncode:
            raise DockerError(done.stderr.strip() or f"docker create ended with {done.returncode}")
        return done.stdout.split()[-1]

    def start(self, name: str) -> None:
        """Start it."""
        self._ask("POST", f"/containers/{part(name)}/start", timeout=300)

    def stop(self, name: str, timeout_s: int) -> None:
        """SIGTERM, SIGKILL after ``timeout_s``; return when it has ended."""
        path = f"/containers/{part(name)}/stop?t={timeout_s}"
        self._ask("POST", path, timeout=timeout_s + 60, missing_ok=True)

    def kill(self, name: str) -> None:
        """SIGKILL; one that does not run is fine."""
        try:
            self._ask("POST", f"/containers/{part(name)}/kill", timeout=60, missing_ok=True)
        except DockerError as error:
            if error.status != CONFLICT:
                raise

    def rename(self, name: str, new: str) -> None:
        """Give it another name."""
        self._ask("POST", f"/containers/{part(name)}/rename?name={quote(new)}")

    def remove(self, name: str) -> None:
        """Kill and remove it with its anonymous volumes."""
        self._ask("DELETE", f"/containers/{part(name)}?force=1&v=1", timeout=120, missing_ok=True)

    def never_restart(self, name: str) -> None:
        """Set its restart policy to "no"."""
        self._ask("POST", f"/containers/{part(name)}/update", {"RestartPolicy": {"Name": "no"}})

    def log(self, name: str, tail: int) -> str:
        """Return the last ``tail`` lines of its output."""
        container = self.inspect(name)
        if container is None:
            return ""
        path = f"/containers/{container.id}/logs?stdout=1&stderr=1&tail={tail}"
        _, body = self._ask("GET", path, timeout=60)
        return body.decode("utf-8", "replace") if container.tty else unframed(body).decode("utf-8", "replace")

    def follow(
        self,
        name: str,
        since: float,
        on_line: Callable[[str], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> Stop:
        """Call ``on_line`` for each line of output from ``since`` on, in a thread that ends with it."""
        container = self.inspect(name)
        if container is None:
            raise DockerError(f"no container {name}", NOT_FOUND)
        path = f"/containers/{container.id}/logs?follow=1&stdout=1&stderr=1&since={since:.6f}"
        connection = Connection(self._path, None)
        ended = threading.Event()

        def read() -> None:
            try:
                connection.request("GET", self._prefix() + path)
                for line in lines_of(connection.getresponse(), tty=container.tty):
                    if ended.is_set():
                        return
                    on_line(line)
            except (
                OSError,
                http.client.HTTPException,
                DockerGoneError,
                DockerError,
                ValueError,
                AttributeError,
            ):
                return  # the stream ended; whoever follows asks for the state, not for the stream
            finally:
                connection.close()
                on_end()

        threading.Thread(target=read, name=f"log {name}", daemon=True).start()

        def stop() -> None:
            ended.set()
            if connection.sock is not None:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return

        return stop
