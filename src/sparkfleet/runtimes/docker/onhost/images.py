"""``Images`` by the Docker Engine. ``save``, ``load`` and ``run`` go through the docker command."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from sparkfleet.contract import command
from sparkfleet.contract.registry_credentials import Credential
from sparkfleet.runtimes.base import (
    DerivedImage,
    DeriveError,
    Image,
    ImageCommand,
    Images,
    RuntimeRefusedError,
    RuntimeUnavailableError,
)
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine, content_of

COMMIT_S = 1800.0
"""Seconds for an image to be made of a container."""
LOAD_S = 3600.0
"""Seconds for ``docker load``: an image has 10 to 30 GB."""
OUTPUT_LINES = 200
"""Lines of a program's output that an error has."""
INHERITED = ("Entrypoint", "Env", "User", "WorkingDir")
"""Settings of a base that a derived image must have, too."""


class DockerImages(DockerEngine):
    """The images of one dockerd."""

    def find_image(self, reference: str) -> Image | None:
        """Return the image by name or id."""
        data = self._inspect_image(reference)
        if data is None:
            return None
        labels = (data.get("Config") or {}).get("Labels") or {}
        return Image(str(data["Id"]), int(data.get("Size") or 0), labels, content_of(data))

    def pull(self, name: str, credential: Credential | None, on_progress: Callable[[int, int], None]) -> int:
        """Pull ``repository@digest``."""
        layers: dict[str, tuple[int, int]] = {}
        for event in self.pull_events(name, registry_auth(credential) if credential else ""):
            if event.get("error"):
                raise RuntimeRefusedError(str(event["error"]))
            detail = event.get("progressDetail") or {}
            if event.get("status") == "Downloading" and detail.get("total"):
                layers[str(event["id"])] = (detail["current"], detail["total"])
                have, total = (sum(layer[at] for layer in layers.values()) for at in (0, 1))
                on_progress(have, total)
        return sum(total for _, total in layers.values())

    def pull_remedy(self, error: str, registry: str) -> str:
        """Return the next command for dockerd's error."""
        if re.search(r"toomanyrequests|\b429\b", error):
            return (
                f"wait some minutes, then run again; on the Spark: docker login {registry} raises the limit; "
                "complete layers are kept"
            )
        if re.search(r"not yet valid|has expired", error):
            return "on the Spark: date; sudo timedatectl set-ntp true; then run again"
        if re.search(r"invalid character|unexpected end of JSON|unknown: <|text/html", error):
            return (
                f"on the Spark: curl -v https://{registry}/v2/: a proxy or login page answers instead of the "
                "registry; or declare registries in group_data"
            )
        if re.search(r"unauthorized|denied|authentication required", error):
            return f"on the Spark: docker login {registry}; then run again"
        if re.search(r"manifest unknown|not found", error):
            return "the registry no longer has the digest: sparkfleet lock --update, then run again"
        if "no space left" in error:
            return "docker image prune, then run again; complete layers are kept"
        return "check the Spark's connection to the registry, then run again; complete layers are kept"

    @contextmanager
    def export(self, reference: str) -> Iterator[IO[bytes]]:
        """Yield the output of ``docker save``."""
        argv = ("docker", "save", self.name_of(reference) or reference)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018  (pipes)
            yield process.stdout
            error = process.stderr.read().decode("utf-8", "replace").strip()
        if process.returncode:
            raise RuntimeRefusedError(error or f"docker save ended with {process.returncode}")

    def load(self, archive: Path) -> None:
        """Run ``docker load``."""
        argv = ("docker", "load", "--quiet", "--input", str(archive))
        done = command.run(argv, LOAD_S)
        if done.code:
            raise RuntimeRefusedError(done.err.strip() or f"docker load ended with {done.code}")

    def remove_unnamed(self, label: str) -> None:
        """Remove images with the label and without a name, unless a container needs them."""
        filters = _filters(label=[label], dangling=["true"])
        for row in self._json("GET", f"/images/json?filters={filters}") or ():
            with contextlib.suppress(RuntimeRefusedError):
                self.remove_image(str(row["Id"]))

    def users(self) -> dict[str, str]:
        """Return id and image id of every container."""
        rows = self._json("GET", "/containers/json?all=1") or ()
        return {str(row["Id"]): str(row["ImageID"]) for row in rows}

    def data_directory(self) -> Path:
        """Return where Docker stores images."""
        return self.root()

    def start_command(self, command: ImageCommand) -> subprocess.Popen[str]:
        """Start ``docker run``."""
        return subprocess.Popen(
            run_argv(command, self.name_of(command.image) or command.image),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def remove_instances(self, label: str, prefix: str) -> None:
        """Kill and remove containers by label and name."""
        rows = self._json("GET", f"/containers/json?all=1&filters={_filters(label=[label])}") or ()
        for name in (name.lstrip("/") for row in rows for name in row.get("Names") or ()):
            if name.startswith(prefix):
                self.remove(name)

    def derive(self, image: DerivedImage) -> None:
        """Run the program in a container, commit it, and name the result if it starts as its base does."""
        base = self._inspect_image(image.base)
        if base is None:
            raise RuntimeRefusedError(f"no image {image.base}")
        try:
            self._create_from(image.instance, _container(base, image))
            self.start(image.instance)
            if self._wait(image.instance, image.timeout_s):
                raise DeriveError(self.log(image.instance, OUTPUT_LINES))
            settings = {**base["Config"], "Entrypoint": base["Config"].get("Entrypoint") or []}
            self._name_derived(self._commit(image.instance, settings), base, image.reference)
        finally:
            with contextlib.suppress(RuntimeRefusedError, RuntimeUnavailableError):
                self.remove(image.instance)

    def _inspect_image(self, reference: str) -> dict[str, Any] | None:
        name = self.name_of(reference)
        return self._image(name) if name else None

    def _create_from(self, name: str, settings: Mapping[str, Any]) -> None:
        """Create a container through the API: no setting of a user's docker command gets into it."""
        self._ask("POST", f"/containers/create?name={quote(name)}", dict(settings), timeout=300)

    def _wait(self, name: str, timeout_s: float) -> int:
        """Return a container's exit code when it has ended."""
        _, body = self._ask("POST", f"/containers/{quote(name, safe='')}/wait", timeout=timeout_s)
        return int(json.loads(body)["StatusCode"])

    def _commit(self, name: str, settings: Mapping[str, Any]) -> str:
        """Create an image of a container's files, with these settings and its labels; return the id."""
        path = f"/commit?container={quote(name, safe='')}&pause=0"
        _, body = self._ask("POST", path, dict(settings), timeout=COMMIT_S)
        return str(json.loads(body)["Id"])

    def _name_derived(self, created: str, base: Mapping[str, Any], reference: str) -> None:
        """Tag the image if it has the settings of its base; else remove it."""
        found = self._inspect_image(created) or {"Config": {}}
        changed = [
            key for key in INHERITED if (found["Config"].get(key) or []) != (base["Config"].get(key) or [])
        ]
        if changed:
            self.remove_image(created)
            raise RuntimeRefusedError(f"the result does not have the {', '.join(changed)} of its base")
        repository, _, tag = reference.rpartition(":")
        query = f"repo={quote(repository, safe='')}&tag={quote(tag, safe='')}"
        self._ask("POST", f"/images/{quote(created, safe=':')}/tag?{query}")


def run_argv(command: ImageCommand, image: str) -> tuple[str, ...]:
    """Return the ``docker run`` of a command."""
    options: list[str] = ["--label", f"{command.label}={command.name}", "--network", "host"]
    options += ["--user", f"{command.uid}:{command.gid}"]
    for mount in command.mounts:
        text = f"type=bind,source={mount.source},target={mount.target}"
        options += ["--mount", f"{text},readonly" if mount.read_only else text]
    for name, value in command.environment:
        options += ["--env", f"{name}={value}"]
    program, *arguments = command.argv
    return (
        "docker", "run", "--rm", "--name", command.name, *options, "--entrypoint", program, image, *arguments
    )  # fmt: skip


def registry_auth(credential: Credential) -> str:
    """Return the X-Registry-Auth header."""
    if credential.is_identity_token:
        fields = {"identitytoken": credential.password}
    else:
        fields = {"username": credential.user, "password": credential.password}
    text = json.dumps({**fields, "serveraddress": credential.server})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _container(base: Mapping[str, Any], image: DerivedImage) -> dict[str, Any]:
    """Return the container in which the program runs, as the API takes it."""
    mount = {"Type": "bind", "Source": str(image.directory), "Target": "/mnt", "ReadOnly": True}
    host = {
        "NetworkMode": "none",
        "Mounts": [mount],
        "Tmpfs": {"/tmp": ""},  # noqa: S108  (its content is not in the image)
    }
    argv = {"Entrypoint": list(image.program), "Cmd": list(image.arguments)}
    user = {"User": "0:0"} if base["Config"].get("User") else {}
    return {"Image": base["Id"], **argv, **user, "Labels": dict(image.labels), "HostConfig": host}


def _filters(**values: Sequence[str]) -> str:
    return quote(json.dumps(values), safe="")


IMAGES: Images = DockerImages()
