"""Memory of the Spark."""

from __future__ import annotations

from sparkfleet.onhost.collectors import basics


def memory() -> dict[str, int]:
    """Return MemTotal and MemAvailable in MiB."""
    values = {}
    for line in (basics.read_text("/proc/meminfo") or "").splitlines():
        key, _, rest = line.partition(":")
        values[key] = rest
    return {
        "total_mib": int(values["MemTotal"].split()[0]) // 1024,
        "available_mib": int(values["MemAvailable"].split()[0]) // 1024,
        "swap_total_mib": int(values.get("SwapTotal", "0 kB").split()[0]) // 1024,
        "swap_free_mib": int(values.get("SwapFree", "0 kB").split()[0]) // 1024,
    }
