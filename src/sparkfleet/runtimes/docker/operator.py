"""The operator's side of the Docker runtime."""

from __future__ import annotations

from collections.abc import Sequence

from sparkfleet.contract.generation import Generation
from sparkfleet.runtimes.docker import compare, render
from sparkfleet.runtimes.docker.onhost import daemon
from sparkfleet.runtimes.observation import ContainerSeen, ImageSeen
from sparkfleet.runtimes.operator import DeclaredWorkload, OperatorRuntime, SettingChange


class Docker:
    """A service is a container, created by ``docker create``."""

    name = "docker"
    noun = "container"
    daemon_units: tuple[str, ...] = (daemon.UNIT,)
    formats: tuple[str, ...] = ("docker", "compose")

    def definition(self, workload: DeclaredWorkload, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the arguments of ``docker create`` after its name."""
        return (*render.create_options(workload), workload.image, *argv)

    def setting_changes(
        self, workload: DeclaredWorkload, seen: ContainerSeen | None, image: ImageSeen | None
    ) -> Sequence[SettingChange]:
        """Return the rows of the settings table that differ; of a new container its mounts."""
        return compare.changes(workload, seen, image)

    def render(self, form: str, services: Sequence[tuple[DeclaredWorkload, Generation]]) -> str:
        """Return shell commands or a compose file."""
        if form == "compose":
            return render.compose(services)
        return "\n".join(render.commands(generation) for _, generation in services)


RUNTIME: OperatorRuntime = Docker()
