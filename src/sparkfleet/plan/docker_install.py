"""Installation of Docker and the NVIDIA container toolkit, where declared and missing.

Images and containers of a host without Docker are unknown, so its services are planned after the
installation: by a second probe in the same run, whose plan is shown before it is executed.
"""

from __future__ import annotations

from collections.abc import Iterator

from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.desired_state import Host
from sparkfleet.plan import blockers
from sparkfleet.plan.model import ChangeSet, Note, Scope, Step
from sparkfleet.plan.operations import InstallPackages, PackageChange
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.packages import Packages

SUBJECT = "docker"
ENGINE, TOOLKIT = "docker", "toolkit"


def may_install(host: Host) -> tuple[str, ...]:
    """Return what a run may install on this Spark."""
    if host.prepare.docker != "install":
        return ()
    return (ENGINE, TOOLKIT) if _wants_gpu(host) else (ENGINE,)


def _wants_gpu(host: Host) -> bool:
    return not host.services or any(blockers.needs_toolkit(service) for service in host.services)


def change_set(host: Host, observed: Observed, *, engine_there: bool) -> ChangeSet | None:
    """Return the installation that must precede the rest of the plan; None without one."""
    allowed = may_install(host)
    missing = (not engine_there and ENGINE in allowed) or (not observed.toolkit and TOOLKIT in allowed)
    if not missing:
        return None
    packages = observed.packages or Packages((), error="apt was not queried")
    install = InstallPackages(
        tuple(PackageChange(name, old, new) for name, old, new in packages.install), restart=engine_there
    )
    return ChangeSet(
        SUBJECT,
        (install,),
        "Docker and the NVIDIA container toolkit",
        tuple(_planned_later(host)),
        combine(_unavailable(host, packages), _in_use(host, observed)),
        scope=Scope.HOST,
    )


def _planned_later(host: Host) -> Iterator[Note]:
    remark = "planned in the same run, when Docker and the toolkit are installed"
    if host.prepare.resources:
        yield Note(Step.HOST, "later", "declared state of the host", remark=remark)
    for service in host.services:
        yield Note(Step.IMAGE, "later", service.name, remark=remark)


def _unavailable(host: Host, packages: Packages) -> Diagnostic | None:
    where = f"{host.name}: packages"
    if packages.missing:
        names = " and ".join(packages.missing)
        return Diagnostic(
            where,
            f"apt does not know {names}",
            "package sources that provide it",
            f"on {host.name}: sudo apt-get update; if that does not help, add the source of its maker "
            "(docs.docker.com/engine/install, docs.nvidia.com/datacenter/cloud-native)",
            code="apt-package-unavailable",
        )
    if packages.error:
        remedy = f"on {host.name}: sudo apt-get --fix-broken install; then run again"
        return Diagnostic(
            where, packages.error, "packages that apt can install", remedy, code="apt-package-unavailable"
        )
    if packages.remove:
        return Diagnostic(
            where,
            f"apt would remove {', '.join(packages.remove)} for {', '.join(packages.requested)}",
            "an installation that removes no package",
            f"on {host.name}: sudo apt-get install {' '.join(packages.requested)}, if you agree with that",
            code="apt-conflict",
        )
    return None


def _in_use(host: Host, observed: Observed) -> Diagnostic | None:
    own = (container for container in observed.instances if container.runtime == ENGINE)
    running = [container.name for container in own if container.running]
    if not running:
        return None
    return Diagnostic(
        f"{host.name}: docker",
        f"a restart of Docker would stop {', '.join(running)}",
        "no running container: Docker must be restarted to see the toolkit",
        f"on {host.name}: docker stop {' '.join(running)}; then run again",
        code="docker-restart-blocked",
    )
