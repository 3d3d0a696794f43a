"""Rows on the machine itself: sudo, architecture, system, GPU, driver, memory, swap, clock."""

from __future__ import annotations

from collections.abc import Iterator

from sparkfleet import engines
from sparkfleet.desired_state import Host, ImageRef
from sparkfleet.onhost.machine import valve
from sparkfleet.plan import kernel
from sparkfleet.plan.preflight import cuda
from sparkfleet.plan.preflight.model import Check, failed, incomplete, of, warned
from sparkfleet.probe.machine import CMDLINE, DRIVER, KERNEL, MEMINFO, OPEN, ObservedMachine
from sparkfleet.probe.observation import Observed
from sparkfleet.probe.preflight import Blocks, Clock, Gpu, Load, Nvidia, ObservedPreflight, System, Unread
from sparkfleet.probe.response import sudo_diagnostic
from sparkfleet.units import MIB_IN_GIB, size

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
BUSY_PERCENT, LIMITED_W, LIMITED_MHZ = 90, 30, 1000
"""A GB10 that is busy takes 45 W or more at 2400 MHz; one whose power supply negotiated too little takes 14
to 30 W at 500 to 850 MHz, until it was without power (Blackwellboy/model-serving-minefield#55,
github.com/parallelArchitect/spark-gpu-throttle-check). A hung kernel takes as little, at a full clock
(eugr/spark-vllm-docker#260)."""


def rows(host: Host, observed: ObservedPreflight, skew_s: float, unsure_s: float) -> Iterator[Check]:
    """Yield the rows; ``skew_s`` is the Spark's clock against the operator's, known to ``unsure_s``."""
    yield _sudo(host, observed)
    yield from _system(observed.system)
    yield _sources(observed.nvidia)
    yield from _kernel(host, observed.machine)
    yield from _gpu(observed.gpu)
    yield _flavour(host, observed.machine)
    yield from _drivers(host, observed)
    yield _load(observed.load)
    yield from _memory(observed)
    yield _blocks(observed.blocks)
    yield _clock(observed.clock, skew_s, unsure_s)


def _sudo(host: Host, observed: ObservedPreflight) -> Check:
    if observed.sudo is None:
        return Check("sudo", "the login user may use sudo")
    return of("sudo", sudo_diagnostic(host.name, observed.sudo.error))


def _system(observed: System | Unread) -> Iterator[Check]:
    if isinstance(observed, Unread):
        yield incomplete("system", observed.error)
        return
    if observed.arch == ARCH:
        yield Check("architecture", observed.arch)
    else:
        expected = f"{ARCH}: images of Sparks are arm64"
        yield failed("architecture", observed.arch, expected, code="architecture-unsupported")
    yield _release(observed)


def _release(observed: System) -> Check:
    """Return the check of DGX OS: of the last OTA update, not of the factory image."""
    image, update = (observed.dgx.get(name, "") for name in ("DGX_SWBUILD_VERSION", "DGX_OTA_VERSION"))
    release = update or image
    major = next(iter(cuda.version(release)), 0)
    found = (
        f"DGX OS {release} ({observed.os}"
        if release
        else f"{observed.os}, and no version in /etc/dgx-release"
    )
    if release:
        found += f"; factory image {image})" if update and image and update != image else ")"
    if major >= DGX_OS:
        return Check("system", found)
    hint = "sudo apt-get update && sudo apt-get dist-upgrade" if release else ""
    return warned("system", found, f"DGX OS {DGX_OS} or later", hint, code="os-outdated")


def _sources(observed: Nvidia | Unread) -> Check:
    name = "package sources"
    if isinstance(observed, Unread):
        return incomplete(name, observed.error, "sudo apt-get update")
    if not observed.broken_sources:
        return Check(name, ", ".join(observed.sources) or "none of NVIDIA's")
    files = " ".join(observed.broken_sources)
    return warned(
        name,
        f"{files}: the path /baseos/8/ has been reported to answer 404, which ends every apt-get update",
        "/baseos/ubuntu/noble/ in the address",
        f"sudo sed -i s,/baseos/8/,/baseos/, {files} && sudo apt-get update",
        code="package-source-missing",
    )


def _kernel(host: Host, machine: ObservedMachine) -> Iterator[Check]:
    """Yield the rows on the kernel and on the memory that it reserves."""
    option, unread = kernel.needless_option(host.name, machine), machine.reason(CMDLINE)
    if not machine.kernel:
        yield incomplete("kernel", machine.reason(KERNEL) or "unknown")
    elif option:
        yield of("kernel", option)
    elif unread:
        yield incomplete("kernel", f"{machine.kernel}; its boot parameters: {unread}", f"cat {CMDLINE}")
    else:
        value = kernel.handover(machine)
        yield Check("kernel", machine.kernel + (f", kho={value}" if value else ""))
    name, reserved = "kernel memory", kernel.reserved_memory(host, machine)
    if reserved:
        yield of(name, reserved)
    elif machine.cma_total_kib is None or machine.cma_free_kib is None:
        found = machine.reason(MEMINFO) or "the kernel does not report contiguous memory (CMA)"
        yield incomplete(name, found, f"grep Cma {MEMINFO}")
    else:
        yield Check(name, f"CmaFree {machine.cma_free_kib} kB of CmaTotal {machine.cma_total_kib} kB")


def _flavour(host: Host, observed: ObservedMachine) -> Check:
    name, hint = "GPU driver", f"cat {DRIVER}"
    wrong, unread = kernel.driver_flavour(host.name, observed), observed.reason(DRIVER)
    if wrong:
        return of(name, wrong)
    if observed.flavour != OPEN:
        found = "no NVIDIA driver is loaded, or it does not show its version"
        return incomplete(name, unread or found, hint)
    return Check(name, f"{observed.driver}, open kernel modules")


def _load(load: Load | Unread) -> Check:
    name = "GPU power"
    if isinstance(load, Unread):
        return incomplete(name, load.error, "nvidia-smi --query-gpu=utilization.gpu,power.draw --format=csv")
    known = [
        (one.percent, one.watts) for one in load.samples if one.percent is not None and one.watts is not None
    ]
    if not known or len(known) < len(load.samples):
        return incomplete(name, "nvidia-smi reports no utilization or power", "nvidia-smi -q -d POWER")
    (percent, watts), mhz = known[-1], load.samples[-1].mhz
    clock = "" if mhz is None else f" at {mhz:.0f} MHz"
    found = f"{watts:.1f} W{clock}, {percent:.0f} % busy"
    if not all(busy >= BUSY_PERCENT and power <= LIMITED_W for busy, power in known):
        return Check(name, found)
    expected = f"more than {LIMITED_W} W while busy"
    if mhz is not None and mhz < LIMITED_MHZ:
        found += ": its power supply limits it"
        hint = (
            "shut the Spark down and unplug the power supply at both ends for a minute (a reboot does not "
            "help); if it stays, ask for a replacement"
        )
    else:
        found += ": a hung engine, or a power limit"
        hint = (
            "request an answer; without one, restart the service; if answers are only slow, unplug the power "
            "supply at both ends for a minute"
        )
    return warned(name, found, expected, hint, code="gpu-power-limited")


def _blocks(blocks: Blocks | Unread) -> Check:
    name = "free memory blocks"
    if isinstance(blocks, Unread) or not blocks.free:
        error = blocks.error if isinstance(blocks, Unread) else "the kernel reports none"
        return incomplete(name, error, "cat /proc/buddyinfo")
    free = [(blocks.page_kib << (order + 10), count) for order, count in enumerate(blocks.free)]
    smallest = min(valve.LARGE_BLOCK, free[-1][0])
    total = sum(one * count for one, count in free)
    large = sum(one * count for one, count in free if one >= smallest)
    found = f"{size(large)} of {size(total)} free memory in blocks of {size(smallest)} or more"
    if total >> 20 < valve.FRAGMENTED_MIB or large >= valve.FRAGMENTED_SHARE * total:
        return Check(name, found)
    return warned(
        name,
        f"{found}: the memory is fragmented, and the GPU driver may get none (NV_ERR_NO_MEMORY)",
        f"{valve.FRAGMENTED_SHARE:.0%} or more in large blocks",
        "before the next start: echo 1 | sudo tee /proc/sys/vm/compact_memory; if it stays: sudo reboot",
        code="memory-fragmented",
    )


def _gpu(observed: Gpu | Unread) -> Iterator[Check]:
    if isinstance(observed, Unread):
        hint = "nvidia-smi; sudo dmesg | grep -i nvrm; after an update of the driver: sudo reboot"
        yield failed("GPU", observed.error, "a GPU that the driver reports", hint, code="gpu-unresponsive")
        return
    found = f"{observed.name}, compute capability {observed.compute}, driver {observed.driver}"
    if observed.compute == GB10:
        yield Check("GPU", found)
    else:
        yield warned("GPU", found, f"a GB10 (compute capability {GB10})", code="gpu-unexpected")


def _drivers(host: Host, observed: ObservedPreflight) -> Iterator[Check]:
    if isinstance(observed.gpu, Unread):
        return  # the row of the GPU reports it
    used = ((one.image, one.engine) for one in host.services if one.image)
    for image, engine in dict.fromkeys(used):
        env = _variables(image, observed.state)
        base = engines.get(engine).image_base(image)
        known = cuda.of_image(env, image.tag) or image.cuda or (base.cuda if base else "")
        needed = env.get("CUDA_DRIVER_VERSION", "") or (base.driver if base else "")
        name = f"driver for {image.display}"
        yield cuda.fit(name, observed.gpu.driver, observed.gpu.cuda, known, env, needed=needed)


def _variables(image: ImageRef, observed: object) -> dict[str, str]:
    observed = observed.images.get(image.pull_ref) if isinstance(observed, Observed) else None
    return dict(pair.partition("=")[::2] for pair in observed.env) if observed else {}


def _memory(observed: ObservedPreflight) -> Iterator[Check]:
    memory = observed.memory
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


def _clock(observed: Clock | Unread, skew_s: float, unsure_s: float) -> Check:
    if isinstance(observed, Unread):
        return incomplete("clock", observed.error)
    found = f"{skew_s:+.1f} s against this machine's (± {unsure_s:.1f} s)"
    found += ", synchronised" if observed.synchronised else ""
    away = max(0.0, abs(skew_s) - unsure_s)
    if away < SKEW_WARN_S:
        return Check("clock", found)
    end = failed if away >= SKEW_FAIL_S else warned
    return end(
        "clock", found, f"less than {SKEW_WARN_S} s", "sudo timedatectl set-ntp true", code="clock-skew"
    )
