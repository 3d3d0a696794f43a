"""Rows on the machine itself: sudo, architecture, system, GPU, driver, memory, swap, clock."""

from __future__ import annotations

from collections.abc import Iterator

from sparkfleet.config.resolved import Host, ImageRef
from sparkfleet.plan.preflight import cuda
from sparkfleet.plan.preflight.model import Check, Verdict, unread
from sparkfleet.probe.observed import Observed, sudo_diagnostic
from sparkfleet.probe.preflight import Clock, Gpu, PreflightSeen, System, Unread

ARCH = "aarch64"
DGX_OS = 7
"""Major release that a Spark ships with."""
GB10 = "12.1"
"""Compute capability."""
SKEW_WARN_S = 5
SKEW_FAIL_S = 300
"""From this skew on, certificates and tokens fail."""
MIB_IN_GIB = 1024
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
        return Check("sudo", Verdict.OK, "the login user may use sudo")
    diagnostic = sudo_diagnostic(host.name, seen.sudo.error)
    return Check("sudo", Verdict.FAIL, diagnostic.message, diagnostic.expected, diagnostic.hint)


def _system(seen: System | Unread) -> Iterator[Check]:
    if isinstance(seen, Unread):
        yield unread("system", seen.error)
        return
    arch = Verdict.OK if seen.arch == ARCH else Verdict.FAIL
    yield Check(
        "architecture", arch, seen.arch, "" if arch is Verdict.OK else f"{ARCH}: images of Sparks are arm64"
    )
    release = seen.dgx.get("DGX_SWBUILD_VERSION", "")
    major = next(iter(cuda.version(release)), 0)
    found = f"DGX OS {release} ({seen.os})" if release else f"{seen.os}, and no /etc/dgx-release"
    if major >= DGX_OS:
        yield Check("system", Verdict.OK, found)
    else:
        remedy = "sudo apt-get update && sudo apt-get dist-upgrade" if release else ""
        yield Check("system", Verdict.WARN, found, f"DGX OS {DGX_OS} or later", remedy)
    yield Check("kernel", Verdict.OK, seen.kernel)


def _gpu(seen: Gpu | Unread) -> Iterator[Check]:
    if isinstance(seen, Unread):
        remedy = "nvidia-smi; sudo dmesg | grep -i nvrm; after an update of the driver: sudo reboot"
        yield Check("GPU", Verdict.FAIL, seen.error, "a GPU that the driver reports", remedy)
        return
    found = f"{seen.name}, compute capability {seen.compute}, driver {seen.driver}"
    if seen.compute == GB10:
        yield Check("GPU", Verdict.OK, found)
    else:
        yield Check("GPU", Verdict.WARN, found, f"a GB10 (compute capability {GB10})")


def _drivers(host: Host, seen: PreflightSeen) -> Iterator[Check]:
    if isinstance(seen.gpu, Unread):
        return  # the row of the GPU reports it
    for image in dict.fromkeys(service.image for service in host.services):
        env = _variables(image, seen.observed)
        known = cuda.of_image(env, image.tag) or image.cuda
        fit = cuda.fit(seen.gpu.driver, seen.gpu.cuda, known, env)
        yield Check(f"driver for {image.display}", fit.state, fit.text, fit.expected, fit.remedy)


def _variables(image: ImageRef, observed: object) -> dict[str, str]:
    seen = observed.images.get(image.pull_ref) if isinstance(observed, Observed) else None
    return dict(pair.partition("=")[::2] for pair in seen.env) if seen else {}


def _memory(seen: PreflightSeen) -> Iterator[Check]:
    memory = seen.memory
    if isinstance(memory, Unread):
        yield unread("memory", memory.error)
        return
    available, total = (value / MIB_IN_GIB for value in (memory.available_mib, memory.total_mib))
    yield Check("memory", Verdict.OK, f"{available:.1f} of {total:.1f} GiB available")
    used = memory.swap_total_mib - memory.swap_free_mib
    found = f"{used / MIB_IN_GIB:.1f} of {memory.swap_total_mib / MIB_IN_GIB:.1f} GiB used"
    if used <= SWAP_USED_MIB:
        yield Check("swap", Verdict.OK, found if memory.swap_total_mib else "none")
    else:
        remedy = "free memory, then: sudo swapoff -a && sudo swapon -a"
        yield Check("swap", Verdict.WARN, found, "almost no swap in use", remedy)


def _clock(seen: Clock | Unread, skew_s: float, unsure_s: float) -> Check:
    if isinstance(seen, Unread):
        return unread("clock", seen.error)
    found = f"{skew_s:+.1f} s against this machine's (± {unsure_s:.1f} s)"
    found += ", synchronised" if seen.synchronised else ""
    away = max(0.0, abs(skew_s) - unsure_s)
    if away < SKEW_WARN_S:
        return Check("clock", Verdict.OK, found)
    state = Verdict.FAIL if away >= SKEW_FAIL_S else Verdict.WARN
    return Check("clock", state, found, f"less than {SKEW_WARN_S} s", "sudo timedatectl set-ntp true")
