"""A Spark that is fit to serve, as a preflight sees it; tests change one thing."""

from __future__ import annotations

import json
from typing import Any

from sparkfleet.probe.preflight import ObservedPreflight, read_preflight

OPEN_DRIVER = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build  (dvs-builder@U22)"
)
DISK = {"path": "/", "total": 4000 << 30, "free": 3000 << 30, "read_only": False}


def data(**changes: Any) -> dict[str, Any]:
    """Return an answer of the program that looks; ``preflight__gpu=...`` replaces a nested part."""
    response: dict[str, Any] = {
        "host": {"arch": "aarch64"},
        "machine": {
            "name": "spark-01",
            "kernel": "6.17.0-1032-nvidia",
            "texts": {
                "/etc/machine-id": "0123456789abcdef" * 2,
                "/proc/cmdline": "root=UUID=1 ro\n",
                "/proc/driver/nvidia/version": OPEN_DRIVER,
            },
            "errors": {},
            "cma": [65536, 60000],
        },
        "sudo": {"state": "ok"},
        "user": {"name": "n", "home": "/home/n", "uid": 1, "gid": 1, "group": "n", "groups": ["n"]},
        "memory": {
            "total_mib": 122573,
            "available_mib": 118000,
            "swap_total_mib": 16384,
            "swap_free_mib": 16384,
        },
        "disks": {name: dict(DISK) for name in ("models", "cache", "images", "state", "units", "programs")},
        "runtimes": {"docker": {"state": "ok", "containers": [], "images": {}}},
        "systemd": {"state": "ok", "units": {}},
        "state": {"files": {}, "rollout": ""},
        "paths": {},
        "weights": {"models": {}},
        "listeners": {},
        "toolkit": {"programs": ["nvidia-container-runtime-hook"], "cdi": []},
        "preflight": {
            "system": {
                "arch": "aarch64",
                "kernel": "6.14.0-1013-nvidia",
                "python": "3.12.3",
                "os": "Ubuntu 24.04.3 LTS",
                "dgx": {"DGX_SWBUILD_VERSION": "7.2.3", "DGX_OTA_VERSION": "7.6.0"},
                "product": "NVIDIA_DGX_Spark",
            },
            "gpu": {
                "count": 1,
                "name": "NVIDIA GB10",
                "driver": "580.95.05",
                "compute": "12.1",
                "cuda": "13.0",
            },
            "load": {"samples": [{"percent": 0.0, "watts": 4.5, "mhz": 208.0}]},
            "blocks": {"page_kib": 4, "free": [*range(1200, 0, -100), 1417, 782]},
            "nvidia": {
                "sources": ["/etc/apt/sources.list.d/dgx.sources"],
                "broken_sources": [],
                "runtime_mode": "auto",
            },
            "engine": {
                "state": "ok",
                "version": "28.3.3",
                "driver": "overlay2",
                "root": "/var/lib/docker",
                "runtimes": ["nvidia", "runc"],
                "containers": [],
            },
            "reach": {
                "https://nvcr.io/v2/": {"ok": True, "step": "http", "detail": "401", "ms": 80},
                "https://huggingface.co/": {"ok": True, "step": "http", "detail": "200", "ms": 90},
            },
            "footprints": {
                "netplan": {},
                "sudoers": {},
                "sudoers_errors": [],
                "units": {},
                "killers": {},
                "directories": [],
            },
            "profiles": {"waiting": []},
            "clock": {"now": 1.0, "took_s": 1.0, "synchronised": "yes"},
        },
    }
    for key, value in changes.items():
        outer, _, inner = key.partition("__")
        if inner:
            response[outer][inner] = value
        else:
            response[key] = value
    return response


def seen(**changes: Any) -> ObservedPreflight:
    found = read_preflight("spark-01", json.dumps(data(**changes)))
    assert isinstance(found, ObservedPreflight)
    return found
