"""``Runtime`` by the Docker Engine: the role of a container is its name."""

from __future__ import annotations

from pathlib import Path

from sparkfleet.contract.generation import LABEL_SERVICE, Generation
from sparkfleet.runtimes.base import (
    Instance,
    PortOwner,
    Role,
    Runtime,
    RuntimeRefusedError,
    RuntimeUnavailableError,
    Workload,
)
from sparkfleet.runtimes.docker.onhost import container, daemon
from sparkfleet.runtimes.docker.onhost.engine import DockerEngine, content_of
from sparkfleet.runtimes.docker.onhost.names import container_name
from sparkfleet.runtimes.docker.onhost.workload import workload_of

NAME = "docker"


class DockerRuntime(DockerEngine):
    """One dockerd as a runtime."""

    noun = "container"
    daemon = "dockerd"
    unavailable_code = "docker-unavailable"
    mark = f"label {LABEL_SERVICE}"
    check_command = "systemctl status docker; journalctl -u docker"

    def available(self) -> bool:
        """Return whether dockerd answers now; one that was stopped on purpose gets no request."""
        if daemon.is_stopping():
            return False
        try:
            self.ping()
        except RuntimeUnavailableError:
            return False
        return True

    def is_stopping(self) -> bool:
        """Return whether systemd holds dockerd down, or is about to."""
        return daemon.is_stopping()

    def daemon_identity(self) -> str:
        """Return what changes with every start of dockerd or containerd."""
        return daemon.identity()

    def workload(self, generation: Generation) -> Workload:
        """Return what a generation's ``docker create`` runs."""
        if generation.runtime != NAME:
            message = f"{generation.service} runs in {generation.runtime}, which these programs do not have"
            raise RuntimeRefusedError(message)
        return workload_of(generation)

    def missing(self, workload: Workload) -> str:
        """Return the image, if it is not on this Spark."""
        return "" if self.has_image(workload.image) else f"image {workload.image}"

    def program_command(self, artifact: str, interpreter: str, args: tuple[str, ...]) -> tuple[str, ...]:
        """Return a ``docker run`` of the image, under whatever name it is here; it is never pulled."""
        return (
            *("docker", "run", "--rm", "-i", "--pull", "never", "--network", "none"),
            *("--entrypoint", interpreter, self.name_of(artifact) or artifact, "-", *args),
        )

    def data_directory(self) -> Path:
        """Return where Docker writes."""
        return self.root()

    def holds(self, instance: Instance, owner: PortOwner, port: int) -> bool:
        """Return whether a process is in the container, or is dockerd's proxy of its published port."""
        may_be_proxy = not owner.pid or "docker-proxy" in owner.command
        return instance.has_process(owner.cgroup) or (may_be_proxy and port in instance.ports)

    def content_of(self, artifact: str) -> str:
        """Return a hash of the image's layers and settings; the id of one that is gone."""
        found = self._image(artifact)
        return content_of(found) if found else artifact

    def find(self, service: str, role: Role = Role.CURRENT) -> Instance | None:
        """Return the container of that name."""
        return self.inspect(container_name(service, role))

    def name(self, service: str, role: Role) -> str:
        """Return the container's name."""
        return container_name(service, role)

    def create(self, service: str, role: Role, workload: Workload) -> str:
        """Create the container; its image must be here already."""
        return self.create_container(container_name(service, role), workload.definition)

    def assign(self, instance: str, service: str, role: Role) -> None:
        """Rename the container."""
        self.rename(instance, container_name(service, role))

    def adopt(self, instance: str) -> None:
        """Set the restart policy to "no", so that only the unit starts it again."""
        found = self.inspect(instance)
        if found and container.restart_policy(found) not in {"no", ""}:
            self.never_restart(found.id)


DRIVER: Runtime = DockerRuntime()
