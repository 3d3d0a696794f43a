"""Rows on the machine itself: sudo, architecture, system, GPU, driver, memory, swap, clock."""

from __future__ import annotations

from collections.abc import Iterator

from sparkfleet.desired_state import Host, ImageRef
from sparkfleet.plan.preflight import cuda
from sparkfleet.plan.preflight.model import Check, failed, incomplete, of, warned
from sparkfleet.plan.units import MIB_IN_GIB
from sparkfleet.probe.answer import sudo_diagnostic
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.preflight import Clock, Gpu, PreflightSeen, System, Unread

ARCH = "aarch64"
DGX_OS = 7
"""Major release that a Spark ships with."""
GB10 = "12.1"
"""Compute capability."""
SKEW_WARN_S = 5
SKEW_FAIL_S = 300
"""From this skew on, certificates and tokens fail."""
SWAP_USED_MIB = 1024
"""More used swap than this slows the engine down."""


def rows(host: Host, seen: PreflightSeen, skew_s: float, unsure_s: float) -> Iterator[Check]:
    """Yield the rows; ``skew_s`` is the Spark's clock against the operator's, known to ``unsure_s``."""
    yield _sudo(host, seen)
    yield from _system(seen.system)
    yield from _gpu(seen.gpu)
    yield from _drivers(host, seen)
    yield from _memory(seen)
    yield _clock(seen.clock, skew_s, unsure_s)


def _sudo(host: Host, seen: PreflightSeen) -> Check:
    if seen.sudo is None:
        return Check("sudo", "the login user may use sudo")
    return of("sudo", sudo_diagnostic(host.name, seen.sudo.error))


def _system(seen: System | Unread) -> Iterator[Check]:
    if isinstance(seen, Unread):
        yield incomplete("system", seen.error)
        return
    if seen.arch == ARCH:
        yield Check("architecture", seen.arch)
    else:
        expected = f"{ARCH}: images of Sparks are arm64"
        yield failed("architecture", seen.arch, expected, code="architecture-unsupported")
    release = seen.dgx.get("DGX_SWBUILD_VERSION", "")
    major = next(iter(cuda.version(release)), 0)
    found = f"DGX OS {release} ({seen.os})" if release else f"{seen.os}, and no /etc/dgx-release"
    if major >= DGX_OS:
        yield Check("system", found)
    else:
        hint = "sudo apt-get update && sudo apt-get dist-upgrade" if release else ""
        yield warned("system", found, f"DGX OS {DGX_OS} or later", hint, code="os-outdated")
    yield Check("kernel", seen.kernel)


def _gpu(seen: Gpu | Unread) -> Iterator[Check]:
    if isinstance(seen, Unread):
        hint = "nvidia-smi; sudo dmesg | grep -i nvrm; after an update of the driver: sudo reboot"
        yield failed("GPU", seen.error, "a GPU that the driver reports", hint, code="gpu-unresponsive")
        return
    found = f"{seen.name}, compute capability {seen.compute}, driver {seen.driver}"
    if seen.compute == GB10:
        yield Check("GPU", found)
    else:
        yield warned("GPU", found, f"a GB10 (compute capability {GB10})", code="gpu-unexpected")


def _drivers(host: Host, seen: PreflightSeen) -> Iterator[Check]:
    if isinstance(seen.gpu, Unread):
        return  # the row of the GPU reports it
    for image in dict.fromkeys(service.image for service in host.services):
        env = _variables(image, seen.observed)
        known = cuda.of_image(env, image.tag) or image.cuda
        yield cuda.fit(f"driver for {image.display}", seen.gpu.driver, seen.gpu.cuda, known, env)


def _variables(image: ImageRef, observed: object) -> dict[str, str]:
    seen = observed.images.get(image.pull_ref) if isinstance(observed, Observed) else None
    return dict(pair.partition("=")[::2] for pair in seen.env) if seen else {}


def _memory(seen: PreflightSeen) -> Iterator[Check]:
    memory = seen.memory
    if isinstance(memory, Unread):
        yield incomplete("memory", memory.error)
        return
    available, total = (value / MIB_IN_GIB for value in (memory.available_mib, memory.total_mib))
    yield Check("memory", f"{available:.1f} of {total:.1f} GiB available")
    used = memory.swap_total_mib - memory.swap_free_mib
    found = f"{used / MIB_IN_GIB:.1f} of {memory.swap_total_mib / MIB_IN_GIB:.1f} GiB used"
    if used <= SWAP_USED_MIB:
        yield Check("swap", found if memory.swap_total_mib else "none")
    else:
        hint = "free memory, then: sudo swapoff -a && sudo swapon -a"
        yield warned("swap", found, "almost no swap in use", hint, code="swap-in-use")


def _clock(seen: Clock | Unread, skew_s: float, unsure_s: float) -> Check:
    if isinstance(seen, Unread):
        return incomplete("clock", seen.error)
    found = f"{skew_s:+.1f} s against this machine's (± {unsure_s:.1f} s)"
    found += ", synchronised" if seen.synchronised else ""
    away = max(0.0, abs(skew_s) - unsure_s)
    if away < SKEW_WARN_S:
        return Check("clock", found)
    end = failed if away >= SKEW_FAIL_S else warned
    return end(
        "clock", found, f"less than {SKEW_WARN_S} s", "sudo timedatectl set-ntp true", code="clock-skew"
    )
