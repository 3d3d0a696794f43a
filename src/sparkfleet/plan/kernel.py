"""Kernels and GPU drivers with which a start fails or is slow, for the plan and the preflight.

What is unknown is never a diagnostic here; the preflight has rows for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sparkfleet import engines
from sparkfleet.contract.diagnostic import Diagnostic, Severity, combine
from sparkfleet.desired_state import Host, Service
from sparkfleet.plan.model import Note, Step, warning
from sparkfleet.plan.preflight.cuda import MISMATCH, is_older, version
from sparkfleet.probe.machine import PROPRIETARY, ObservedMachine

OPEN_ONLY = (580, 173)
"""The first driver whose proprietary modules do not start a GB10 (Start9Labs/start-technologies#3693)."""
COUNTER_DRIFT_KIB = 16 << 10
"""The kernel counts free memory per core: a sum may be too high by 125 pages of each, 10 MiB on a Spark.
Kexec HandOver reserves 0.9 GiB and more."""
BEFORE_HANDOVER = (6, 17)
"""The kernel of DGX OS before 7.0, which needs no ``kho=off``."""


def obstacles(host: Host, service: Service, observed: ObservedMachine) -> Diagnostic | None:
    """Return why a service cannot start with this kernel and driver."""
    return combine(*(one for one in _of_service(host, service, observed) if one.severity is Severity.ERROR))


def warnings(host: Host, service: Service, observed: ObservedMachine) -> list[Note]:
    """Return what slows a service down, or may end it."""
    found = (one for one in _of_service(host, service, observed) if one.severity is Severity.WARNING)
    return [replace(warning(Step.SERVICE, "warning", one), of_this_host=True) for one in found]


def _of_service(host: Host, service: Service, observed: ObservedMachine) -> Iterator[Diagnostic]:
    if service.container.gpus != "all":
        return
    older = older_driver(host.name, service, observed)
    if older:
        yield older
    in_cluster = host.member is not None and host.member.service == service.name
    yield from (one for one in (driver_flavour(host.name, observed), reserved_memory(host, observed)) if one)
    slow = needless_option(host.name, observed) if in_cluster else None
    if slow:
        yield slow


def reserved_memory(host: Host, machine: ObservedMachine) -> Diagnostic | None:
    """Return that the kernel lends reserved memory as CMA: an error where a cluster needs RDMA.

    Much more free than total is possible only for that memory, whatever the kernel's version.
    """
    total, free = machine.cma_total_kib, machine.cma_free_kib
    if total is None or free is None or free <= total + COUNTER_DRIFT_KIB:
        return None
    needs_rdma = host.member is not None and not host.member.fabric.tcp
    effect = "NCCL cannot register memory for RDMA" if needs_rdma else "the GPU driver may get no memory"
    return Diagnostic(
        f"{host.name}: kernel",
        f"kernel {machine.kernel} counts memory reserved for Kexec HandOver (KHO) as CMA: "
        f"CmaFree {free} kB of CmaTotal {total} kB; {effect}",
        "CmaFree not above CmaTotal in /proc/meminfo",
        f"on {host.name}: sudo apt-get install nvidia-spark-grub-kho (boots with kho=off), then sudo reboot",
        severity=Severity.ERROR if needs_rdma else Severity.WARNING,
        code="kernel-memory-reserved",
    )


def handover(observed: ObservedMachine) -> str:
    """Return the value of the boot parameter ``kho``; "" without it, or if the parameters are unknown."""
    return next((one[4:] for one in reversed(observed.parameters) if one.startswith("kho=")), "")


def needless_option(host: str, observed: ObservedMachine) -> Diagnostic | None:
    """Return that ``kho=off`` is set for a kernel that does not need it (reported by one fleet)."""
    if handover(observed) != "off" or version(observed.kernel)[:2] != BEFORE_HANDOVER:
        return None
    return Diagnostic(
        f"{host}: kernel",
        f"kernel {observed.kernel} is booted with kho=off: 12.7 Gb/s between Sparks were reported for it",
        "kho=off with kernel 7.0 alone",
        f"on {host}: sudo apt-get remove nvidia-spark-grub-kho (or edit /etc/default/grub.d, then "
        "sudo update-grub), then sudo reboot",
        severity=Severity.WARNING,
        code="kernel-option-needless",
    )


def driver_flavour(host: str, observed: ObservedMachine) -> Diagnostic | None:
    """Return that the driver's modules are the proprietary ones, which do not support a GB10."""
    if observed.flavour != PROPRIETARY:
        return None
    branch = observed.driver.partition(".")[0] or "580"
    fails = version(observed.driver)[:2] >= OPEN_ONLY
    effect = "they do not start the GPU" if fails else "newer ones do not start the GPU"
    return Diagnostic(
        f"{host}: GPU driver",
        f"driver {observed.driver} has the proprietary kernel modules: {effect} of a Spark",
        '"Open Kernel Module" in /proc/driver/nvidia/version',
        f"on {host}: sudo apt-get install nvidia-driver-{branch}-open, then sudo reboot",
        severity=Severity.ERROR if fails else Severity.WARNING,
        code="driver-flavour",
    )


def older_driver(host: str, service: Service, observed: ObservedMachine) -> Diagnostic | None:
    """Return that the driver is older than the one that an image was built for, before it is pulled."""
    base = engines.get(service.engine).image_base(service.image) if service.image else None
    if base is None or not is_older(observed.driver, base.driver):
        return None
    return Diagnostic(
        f"{host}: GPU driver",
        f"driver {observed.driver} is older than {base.driver}, for which {service.engine_source} "
        f"(CUDA {base.cuda}) was built: it needs the forward compatibility that NVIDIA's entrypoint sets up",
        f"a driver from {base.driver} on",
        "leave the image's entrypoint as it is; if the start fails, use an older tag",
        severity=Severity.WARNING,
        code=MISMATCH,
    )
