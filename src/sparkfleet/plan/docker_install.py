"""Docker and the NVIDIA container toolkit where they are declared and not there: packages first, the rest
after.

What a Spark without Docker has of images and containers nobody can tell, so what its services need is planned
when Docker is there: by a second look in the same run, shown before it is acted upon.
"""

from __future__ import annotations

from sparkfleet.config.resolved import Host
from sparkfleet.contract.diagnostic import Diagnostic, combine
from sparkfleet.plan.model import Change, Entry, Sign, Step, Verb
from sparkfleet.probe.observed import Observed
from sparkfleet.probe.packages import Packages

SUBJECT = "docker"
ENGINE, TOOLKIT = "docker", "toolkit"


def may_install(host: Host) -> tuple[str, ...]:
    """Return what a run may install on this Spark."""
    if host.prepare.docker != "install":
        return ()
    return (ENGINE, TOOLKIT) if _wants_gpu(host) else (ENGINE,)


def _wants_gpu(host: Host) -> bool:
    return not host.services or any(service.container.gpus == "all" for service in host.services)


def entry(host: Host, seen: Observed, *, engine_there: bool) -> Entry | None:
    """Return what is installed before all else can be planned; None when nothing is to be."""
    allowed = may_install(host)
    missing = (not engine_there and ENGINE in allowed) or (not seen.toolkit and TOOLKIT in allowed)
    if not missing:
        return None
    packages = seen.packages or Packages((), error="apt was not asked")
    changes = [
        Change(Step.DOCKER, Sign.CHANGE if old else Sign.ADD, "package", name, old=old, new=new)
        for name, old, new in packages.install
    ]
    begun = ("running", "restarted") if engine_there else ("", "started")
    note = "after the toolkit, so that it offers GPUs"
    changes.append(
        Change(Step.DOCKER, Sign.CHANGE if engine_there else Sign.ADD, "service", "docker", *begun, note)
    )
    later = "planned in the same run, when Docker and the toolkit are there"
    if host.prepare.items:
        changes.append(
            Change(Step.HOST, Sign.NOTE, "later", "what is declared of the Spark itself", note=later)
        )
    changes += [Change(Step.IMAGE, Sign.NOTE, "later", service.name, note=later) for service in host.services]
    return Entry(
        SUBJECT,
        Verb.PREPARE,
        tuple(changes),
        title="Docker and the NVIDIA container toolkit",
        blocked=combine(_not_to_be_had(host, packages), _in_use(host, seen)),
    )


def _not_to_be_had(host: Host, packages: Packages) -> Diagnostic | None:
    where = f"{host.name}: packages"
    if packages.missing:
        names = " and ".join(packages.missing)
        return Diagnostic(
            where,
            f"apt does not know {names}",
            "package sources that have it",
            f"on {host.name}: sudo apt-get update; if that does not help, add the source of its maker "
            "(docs.docker.com/engine/install, docs.nvidia.com/datacenter/cloud-native)",
        )
    if packages.error:
        remedy = f"on {host.name}: sudo apt-get --fix-broken install; then run again"
        return Diagnostic(where, packages.error, "packages that apt can install", remedy)
    if packages.remove:
        return Diagnostic(
            where,
            f"apt would remove {', '.join(packages.remove)} for {', '.join(packages.wanted)}",
            "nothing to be removed",
            f"on {host.name}: sudo apt-get install {' '.join(packages.wanted)}, if you agree with that",
        )
    return None


def _in_use(host: Host, seen: Observed) -> Diagnostic | None:
    running = [container.name for container in seen.containers if container.running]
    if not running:
        return None
    return Diagnostic(
        f"{host.name}: docker",
        f"a restart of Docker would stop {', '.join(running)}",
        "a moment when nothing runs: Docker offers GPUs only when the toolkit was there first",
        f"on {host.name}: docker stop {' '.join(running)}; then run again",
    )


def words(changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Return the packages of an entry as apt-get takes them: in just the versions that were shown."""
    return tuple(f"{change.key}={change.new}" for change in changes if change.field == "package")
