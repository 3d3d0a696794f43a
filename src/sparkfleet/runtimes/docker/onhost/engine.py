"""The Docker Engine by its API. ``docker create`` alone goes through the command: its options are those that
people know and that the plan shows.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sparkfleet.contract import command
from sparkfleet.runtimes.base import Instance, RuntimeRefusedError, RuntimeUnavailableError, Stop
from sparkfleet.runtimes.docker.onhost import container
from sparkfleet.runtimes.docker.onhost.api import (
    FIRST_ERROR,
    NOT_FOUND,
    Connection,
    EngineApi,
    data_of,
    message,
)
from sparkfleet.runtimes.docker.onhost.streams import lines_of, unframed

CREATE_S = 300.0
PULL_SILENCE_S = 900.0
"""Seconds that dockerd may stay silent within a pull: a large layer is unpacked without a line of output."""
LOG_LIMIT = 4 << 20
"""Bytes of a container's log that are searched: an engine may write lines of any length."""
_PINNED = re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}")
"""An argument that is an image."""
CONFLICT = 409
SETTINGS = ("Entrypoint", "Cmd", "Env", "User", "WorkingDir", "Labels")
"""Settings of an image that a container inherits."""


def part(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe="")


def _without_tag(reference: str) -> str:
    """Return ``repository@digest`` of ``repository:tag@digest``."""
    return re.sub(r":[^/@:]+@", "@", reference)


def content_of(image: Mapping[str, Any]) -> str:
    """Return a hash of an image's layers and settings, which does not depend on Docker's image store.

    The id does: in the containerd image store it is the digest of the manifest or index, else that of the
    configuration.
    """
    layers, config = (image.get("RootFS") or {}).get("Layers") or [], image.get("Config") or {}
    text = json.dumps([layers, [config.get(key) or None for key in SETTINGS]], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class DockerEngine(EngineApi):
    """Client of one dockerd. Safe to use from several threads: each request has its own connection."""

    def ping(self) -> None:
        """Return when dockerd answers, else raise RuntimeUnavailableError."""
        self._ask("GET", "/_ping", timeout=5)

    def inspect(self, name: str) -> Instance | None:
        """Return the container, None when there is none."""
        data = self._json("GET", f"/containers/{part(name)}/json", missing_ok=True)
        return container.parse(data) if data else None

    def running(self) -> tuple[Instance, ...]:
        """Return all running containers."""
        rows = self._json("GET", "/containers/json")
        found = (self.inspect(row["Id"]) for row in rows)
        return tuple(one for one in found if one)

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

    def _image(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._json(
            "GET", f"/images/{quote(name, safe='/:@')}/json", missing_ok=True
        )
        return found

    def pull_events(self, reference: str, auth: str) -> Iterator[dict[str, Any]]:
        """Pull ``repository@digest`` and yield dockerd's events: ``status``, ``progressDetail``, ``error``.

        ``auth`` is the X-Registry-Auth header, "" for none. Raise RuntimeRefusedError when it is refused.
        """
        name, _, digest = reference.partition("@")
        connection = Connection(self._path, PULL_SILENCE_S)
        headers = {"X-Registry-Auth": auth} if auth else {}
        path = f"{self._prefix()}/images/create?fromImage={quote(name, safe='')}&tag={quote(digest, safe='')}"
        try:
            response = connection.request("POST", path, headers=headers)
            if response.status >= FIRST_ERROR:
                raise RuntimeRefusedError(message(response.read()), response.status)
            for line in response.stream:
                yield json.loads(line)
        except (OSError, ValueError) as error:
            raise RuntimeUnavailableError(f"the pull was cut off: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def remove_image(self, reference: str) -> None:
        """Untag an image, delete it with its last name. RuntimeRefusedError while a container needs it."""
        self._ask("DELETE", f"/images/{quote(reference, safe='/:@')}", timeout=600, missing_ok=True)

    def root(self) -> Path:
        """Return the directory with the images and the files of containers."""
        return Path(data_of(self._json("GET", "/info")))

    def _local_name(self, reference: str) -> str:
        """Return the name to create a container from: the reference with the tag that people know, or another
        name that the image has here.
        """
        name = self.name_of(reference)
        return reference if name in ("", _without_tag(reference)) else name

    def create_container(self, name: str, argv: Sequence[str]) -> str:
        """Create a container; the image must be here already. Return its id."""
        resolved = [self._local_name(arg) if _PINNED.fullmatch(arg) else arg for arg in argv]
        create = (
            "docker",
            "--host",
            f"unix://{self._path}",
            "create",
            "--pull",
            "never",
            "--name",
            name,
            *resolved,
        )
        done = command.run(create, CREATE_S)
        if done.code == command.MISSING:
            raise RuntimeRefusedError("there is no docker command on this Spark")
        if done.code == command.TIMED_OUT:
            raise RuntimeRefusedError(f"docker create took more than {CREATE_S:.0f} s")
        if done.code:
            raise RuntimeRefusedError(done.err.strip() or f"docker create ended with {done.code}")
        return done.out.split()[-1]

    def start(self, name: str) -> None:
        """Start it."""
        self._ask("POST", f"/containers/{part(name)}/start", timeout=300)

    def stop(self, name: str, timeout_s: int) -> None:
        """SIGTERM, SIGKILL after ``timeout_s``; return when it has ended.

        A paused container is continued first: it would not see SIGTERM, and take the whole time.
        """
        found = self.inspect(name)
        if found and container.is_paused(found):
            with suppress(RuntimeRefusedError):  # somebody else continued it
                self._ask("POST", f"/containers/{part(name)}/unpause", timeout=60)
        path = f"/containers/{part(name)}/stop?t={timeout_s}"
        self._ask("POST", path, timeout=timeout_s + 60, missing_ok=True)

    def kill(self, name: str) -> None:
        """SIGKILL; one that does not run is fine."""
        try:
            self._ask("POST", f"/containers/{part(name)}/kill", timeout=60, missing_ok=True)
        except RuntimeRefusedError as error:
            if error.status != CONFLICT:
                raise

    def rename(self, name: str, new: str) -> None:
        """Rename it."""
        self._ask("POST", f"/containers/{part(name)}/rename?name={quote(new)}")

    def remove(self, name: str) -> None:
        """Kill and remove it with its anonymous volumes."""
        self._ask("DELETE", f"/containers/{part(name)}?force=1&v=1", timeout=120, missing_ok=True)

    def never_restart(self, name: str) -> None:
        """Set its restart policy to "no"."""
        self._ask("POST", f"/containers/{part(name)}/update", {"RestartPolicy": {"Name": "no"}})

    def log(self, name: str, tail: int, since: float = 0.0) -> str:
        """Return the last ``tail`` lines of its output from ``since`` on, at most ``LOG_LIMIT`` bytes."""
        found = self.inspect(name)
        if found is None:
            return ""
        path = f"/containers/{found.id}/logs?stdout=1&stderr=1&tail={tail}&since={since:.3f}"
        _, body = self._ask("GET", path, timeout=60)
        plain = body if container.has_tty(found) else unframed(body)
        return plain[-LOG_LIMIT:].decode("utf-8", "replace")

    def follow(
        self,
        name: str,
        since: float,
        on_line: Callable[[str], None],
        on_end: Callable[[], None] = lambda: None,
        tail: int | None = None,
    ) -> Stop:
        """Call ``on_line`` for each line of output from ``since`` on, in a thread that ends with it."""
        found = self.inspect(name)
        if found is None:
            raise RuntimeRefusedError(f"no container {name}", NOT_FOUND)
        path = f"/containers/{found.id}/logs?follow=1&stdout=1&stderr=1&since={since:.6f}"
        path += "" if tail is None else f"&tail={tail}"
        connection = Connection(self._path, None)
        ended = threading.Event()

        def read() -> None:
            try:
                response = connection.request("GET", self._prefix() + path)
                for line in lines_of(response.stream, tty=container.has_tty(found)):
                    if ended.is_set():
                        return
                    on_line(line)
            except (
                OSError,
                RuntimeUnavailableError,
                RuntimeRefusedError,
                ValueError,
                AttributeError,
            ):
                return  # the stream ended; the follower inspects the container
            finally:
                connection.close()
                on_end()

        threading.Thread(target=read, name=f"log {name}", daemon=True).start()

        def stop() -> None:
            ended.set()
            connection.shut_down()

        return stop
