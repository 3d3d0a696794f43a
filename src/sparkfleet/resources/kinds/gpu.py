"""Persistence mode, power limit and clocks of the GPU: set now, and at every boot by a unit."""

from __future__ import annotations

UNIT = "spark-gpu.service"
OPTIONS = {"persistence": "-pm", "power limit": "-pl", "clocks": "-lgc"}
"""Field -> option of nvidia-smi."""


def observe(host: ObservedHost, _: str, __: str = "") -> dict[str, str]:
    """Return what our unit sets at boot."""
    text = host.read("/etc/systemd/system/" + UNIT)
    if text is None:
        return {"is": "absent"}
    import re  # noqa: PLC0415  (5 ms, for Sparks whose GPU is set alone)

    found = dict(re.findall(r"^ExecStart=.*nvidia-smi (-\w+) (\S+)$", text, re.MULTILINE))
    observed = {name: found.get(option, "") for name, option in OPTIONS.items()}
    state = host.unit(UNIT)
    return {**observed, "unit": "%s %s" % (state["at boot"], state["now"])}


# --- Only what is above this line is sent with the probe. ---

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sparkfleet.contract.resources import Applied
from sparkfleet.resources import host_files, validators
from sparkfleet.resources.base import (
    MARK,
    Declaration,
    Host,
    ObservedHost,
    Resource,
    ResourceError,
    ResourceKind,
    Setting,
    Target,
    described,
    must,
)

SMI = ("/usr/bin/env", "nvidia-smi")


@dataclass(frozen=True)
class GpuSpec:
    """Settings of the GPU, set by nvidia-smi at every boot."""

    power_limit_w: int | None = described("nvidia-smi -pl.", None, ge=1)
    clocks_mhz: tuple[int, int] | None = described("Minimum and maximum: nvidia-smi -lgc.", None)
    persistence: bool | None = described("nvidia-smi -pm.", None)


class Gpu(ResourceKind):
    """Settings of the GPU."""

    name = "gpu"
    order = 100
    empty = "as before"
    whole_by = "is"
    units: ClassVar = {"power limit": " W", "clocks": " MHz"}
    settings = (Setting("gpu", GpuSpec, "Power limit, clocks, persistence mode.", merged=True),)

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return all settings as one resource."""
        spec = declaration.values.get("gpu")
        if spec is None:
            return
        fields = (
            ("persistence", "" if spec.persistence is None else str(int(spec.persistence))),
            ("power limit", str(spec.power_limit_w or "")),
            ("clocks", ",".join(str(one) for one in spec.clocks_mhz or ())),
        )
        if any(value for _, value in fields):
            fields = (*fields, ("unit", "enabled active"))  # type: ignore[assignment]
            yield Resource("gpu", "gpu", fields, where=declaration.where("gpu"))

    def show(self, name: str, value: str) -> str:
        """Return persistence mode as on or off."""
        if name == "persistence" and value:
            return "on" if value == "1" else "off"
        return super().show(name, value)

    def summary(self, resource: Resource) -> str:
        """Return what is set."""
        parts = (
            f"{name} {self.show(name, value)}" for name, value in resource.fields if value and name != "unit"
        )
        return ", ".join(parts)

    def check(self, host: Host, target: Target) -> None:
        """Refuse a Spark without nvidia-smi, and a unit that systemd does not accept."""
        must(host, (*SMI, "-L"))
        validators.check_unit(host, host.units / UNIT, unit_text(target.fields).encode())

    def snapshot(self, host: Host, target: Target) -> dict[str, Any]:
        """Return persistence mode and power limit of this moment."""
        del target
        import re  # noqa: PLC0415

        query = "--query-gpu=persistence_mode,power.limit"
        output = host.run((*SMI, query, "--format=csv,noheader,nounits")).out.split(",")
        mode, limit = (part.strip() for part in (*output, "", "")[:2])
        return {
            "persistence now": {"Enabled": "1", "Disabled": "0"}.get(mode, ""),
            "power limit now": f"{float(limit):g}" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", limit) else "",
        }

    def apply(self, host: Host, target: Target) -> None:
        """Set the GPU; the unit gets only what the GPU accepts. What is no longer declared is restored."""
        fields = target.fields
        _restore(
            host, [name for name in OPTIONS if target.live.get(name) and not fields[name]], target.before
        )
        accepted: list[str] = []
        for name, option in OPTIONS.items():
            if fields[name]:
                result = host.run((*SMI, option, fields[name]))
                if result.code:
                    _restore(host, accepted, target.before)
                    last = (result.text.splitlines() or ["no reason given"])[-1]
                    message = f"the GPU refuses {name} {fields[name]}: {last}"
                    raise ResourceError(message, "", "correct the value")
                accepted.append(name)
        host_files.write(host.units / UNIT, unit_text(fields).encode(), 0o644, host_files.effective_owner())
        host.run(("systemctl", "daemon-reload"), 180)
        must(host, ("systemctl", "enable", "--quiet", UNIT))
        must(host, ("systemctl", "restart", UNIT))

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Remove the unit, and restore the settings."""
        host.run(("systemctl", "disable", "--quiet", "--now", UNIT), 180)
        (host.units / UNIT).unlink(missing_ok=True)
        host.run(("systemctl", "daemon-reload"), 180)
        _restore(host, [name for name in OPTIONS if entry.applied.get(name)], entry.before)


def unit_text(fields: Mapping[str, str]) -> str:
    """Return the unit that sets the GPU at boot."""
    lines = [f"ExecStart={' '.join(SMI)} {OPTIONS[name]} {fields[name]}" for name in OPTIONS if fields[name]]
    return "\n".join(
        (
            MARK,
            "[Unit]",
            "Description=settings of the GPU",
            "After=nvidia-persistenced.service",
            "",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            *lines,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        )
    )


def _restore(host: Host, names: list[str], before: Mapping[str, Any]) -> None:
    """Restore settings, as far as it is known what they were."""
    for name in names:
        if name == "clocks":
            host.run((*SMI, "-rgc"))
        elif before.get(f"{name} now"):
            host.run((*SMI, OPTIONS[name], before[f"{name} now"]))


KIND = Gpu()
