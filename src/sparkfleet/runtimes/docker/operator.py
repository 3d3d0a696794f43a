"""The operator's side of the Docker runtime."""

from __future__ import annotations

from collections.abc import Sequence

from sparkfleet.contract import codec
from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.generation import Generation
from sparkfleet.runtimes.base import Role
from sparkfleet.runtimes.docker import compare, render
from sparkfleet.runtimes.docker.onhost import api
from sparkfleet.runtimes.docker.onhost.names import UNIT, container_name
from sparkfleet.runtimes.docker.probe_part import DockerPart
from sparkfleet.runtimes.errors import DENIED, DOWN, HANGS, MISSING
from sparkfleet.runtimes.observation import ObservedImage, ObservedInstance
from sparkfleet.runtimes.operator import (
    Collectors,
    DeclaredWorkload,
    ObservedRuntime,
    OperatorRuntime,
    SettingChange,
)

COLLECTORS = "sparkfleet.runtimes.docker.collectors"
REMEDIES = {
    MISSING: "install Docker (sudo apt-get install docker-ce, or docker.io), or declare "
    "`prepare: {docker: install}`; then run again",
    DOWN: "sudo systemctl start docker; if it fails: journalctl -u docker",
    HANGS: "journalctl -u docker; df -h /var/lib/docker (a restart of docker stops all engines)",
    DENIED: "let the login user use sudo, or add it to the group docker",
}


class Docker:
    """A service is a container, created by ``docker create``."""

    name = "docker"
    noun = "container"
    daemon_units: tuple[str, ...] = (UNIT,)
    formats: tuple[str, ...] = ("docker", "compose")
    collectors = Collectors(
        probe=("sparkfleet.runtimes.docker.onhost.api", f"{COLLECTORS}.probe"),
        preflight=(f"{COLLECTORS}.preflight",),
        storage=(f"{COLLECTORS}.storage",),
    )
    prune_command = "docker image prune"

    def definition(self, workload: DeclaredWorkload, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the arguments of ``docker create`` after its name."""
        return (*render.create_options(workload), workload.image, *argv)

    def program_artifact(self, generation: Generation) -> str:
        """Return the image."""
        return generation.image

    def role(self, instance: ObservedInstance) -> Role | None:
        """Return the role that the container's name has."""
        names = (role for role in Role if instance.name == container_name(instance.service, role))
        return next(names, None) if instance.service else None

    def instance_names(self, service: str) -> tuple[str, ...]:
        """Return the container's name in each role."""
        return tuple(container_name(service, role) for role in Role)

    def setting_changes(
        self,
        workload: DeclaredWorkload,
        image: ObservedImage | None,
        observed: ObservedInstance | None,
        seen_image: ObservedImage | None,
    ) -> Sequence[SettingChange]:
        """Return the rows of the settings table that differ; of a new container its mounts."""
        return compare.changes(workload, image, observed, seen_image)

    def read_response(self, part: object) -> ObservedRuntime:
        """Return containers and images."""
        found = codec.read(DockerPart, part, self.name)
        instances = tuple(one.observed() for one in found.containers)
        return ObservedRuntime(instances, found.images, registry_layers=found.data == api.CONTAINERD_DATA)

    def unavailable(self, host: str, state: str, error: str) -> Diagnostic:
        """Return why dockerd did not respond."""
        return Diagnostic(
            host,
            f"Docker {state}: {error}",
            "a Docker daemon that responds",
            REMEDIES.get(state, "docker info on the Spark shows more"),
            code="docker-unavailable",
        )

    def gpu_command(self, image: str) -> tuple[str, ...]:
        """Return a ``docker run`` of nvidia-smi; the image need not have a shell command for it."""
        script = "if command -v nvidia-smi >/dev/null; then nvidia-smi -L; else echo no nvidia-smi inside; fi"
        options = ("--rm", "--gpus", "all", "--network", "none", "--entrypoint", "sh")
        return ("docker", "run", *options, image, "-c", script)

    def remove_image_command(self, image: str) -> str:
        """Return ``docker image rm``."""
        return f"docker image rm --force {image}"

    def stop_command(self, instance: str) -> str:
        """Return ``docker stop``."""
        return f"docker stop {instance}"

    def disable_command(self, instance: str) -> str:
        """Return ``docker stop`` without a restart policy."""
        return f"docker update --restart=no {instance} && docker stop {instance}"

    def rename_command(self, instance: str, name: str) -> str:
        """Return ``docker rename``."""
        return f"docker rename {instance} {name}"

    def render(self, form: str, services: Sequence[tuple[DeclaredWorkload, Generation]]) -> str:
        """Return shell commands or a compose file."""
        if form == "compose":
            return render.compose(services)
        return "\n".join(render.commands(generation) for _, generation in services)


RUNTIME: OperatorRuntime = Docker()
