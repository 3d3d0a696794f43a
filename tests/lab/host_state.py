"""A Spark with a previous value for everything that a fleet may declare, and two declarations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.lab.machine import Machine

TOKENS = ("hf_firstTokenOfTheTest", "hf_secondTokenOfTheTest")
NGC_KEYS = ("nvapi-first-key", "nvapi-second-key")

_LOGIN = """python3 - <<'PYTHON'
import base64, json, os, pwd
path = "/root/.docker/config.json"
if os.path.exists(path):
    stored, info = json.load(open(path)), os.stat(path)
    for name, entry in stored.items():
        for value in entry.values():
            shown = value if isinstance(value, str) else base64.b64decode(value["auth"]).decode()
            print(name, shown, pwd.getpwuid(info.st_uid).pw_name, oct(info.st_mode)[-3:])
PYTHON
"""

MANUAL_STATE = r"""
set -e
useradd --create-home worker
install -d -o root -m 0711 /srv/shared && touch /srv/shared/old
echo 'export BY=hand' > /etc/profile.d/by-hand.sh && chmod 0600 /etc/profile.d/by-hand.sh
printf '# by hand\n/swapfile none swap sw 0 0\ntmpfs /mnt/x tmpfs noauto 0 0\n' > /etc/fstab
for name in aaaaaaaaaaaa bbbbbbbbbbbb not-ours; do
  install -d -o nvidia /home/nvidia/vllm-compile-cache/$name
  touch -d '-40 days' /home/nvidia/vllm-compile-cache/$name/file
done
touch -d '-40 days' /home/nvidia/vllm-compile-cache/aaaaaaaaaaaa
# Packages of the lab alone, and a source that has them.
make() {
  mkdir -p /srv/apt/$1/DEBIAN
  printf '%s\n' "Package: $1" "Depends: $2" 'Version: 1' 'Architecture: all' 'Description: of the lab' \
    'Maintainer: lab <lab@example.org>' > /srv/apt/$1/DEBIAN/control
}
make lab-helper ''
make lab-tool lab-helper
make lab-driver ''
make earlyoom ''
sed -i '/^Depends: $/d' /srv/apt/*/DEBIAN/control
mkdir -p /srv/apt/earlyoom/lib/systemd/system
printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
  > /srv/apt/earlyoom/lib/systemd/system/earlyoom.service
cd /srv/apt/earlyoom/DEBIAN
printf '#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable --now earlyoom\n' > postinst
printf '#!/bin/sh\nset -e\nsystemctl disable --now earlyoom\n' > prerm
chmod 0755 postinst prerm
cd /srv/apt
for name in lab-helper lab-tool lab-driver earlyoom; do dpkg-deb --build $name . >/dev/null; done
for deb in *.deb; do
  dpkg-deb -f $deb; echo "Filename: ./$deb"; echo "Size: $(stat -c %s $deb)"
  echo "SHA256: $(sha256sum $deb | cut -d' ' -f1)"; echo
done > Packages
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/apt ./' > /etc/apt/sources.list
dpkg -i lab-driver_1_all.deb >/dev/null
# A GPU that accepts settings and records its commands.
mkdir -p /etc/lab-gpu && echo Disabled > /etc/lab-gpu/pm && echo 140 > /etc/lab-gpu/pl
cat > /usr/local/sbin/nvidia-smi <<'SMI'
#!/bin/sh
case "$1" in
-pm) [ "$2" = 1 ] && v=Enabled || v=Disabled; echo $v > /etc/lab-gpu/pm; echo "$@" >> /srv/gpu-commands ;;
-pl) [ "${2%%.*}" -le 240 ] || { echo "Provided power limit $2 W is not a valid power limit"; exit 2; }
  echo "$2" > /etc/lab-gpu/pl; echo "$@" >> /srv/gpu-commands ;;
-lgc|-rgc) echo "$@" >> /srv/gpu-commands ;;
--query-gpu=persistence_mode,power.limit) echo "$(cat /etc/lab-gpu/pm), $(cat /etc/lab-gpu/pl)" ;;
*) exec /usr/local/bin/nvidia-smi "$@" ;;
esac
SMI
chmod 0755 /usr/local/sbin/nvidia-smi
# A credential helper that stores secrets in a file.
cat > /usr/local/bin/docker-credential-labkeep <<'HELPER'
#!/usr/bin/env python3
import json, os, sys
path, request = "/root/.labkeep.json", sys.stdin.read()
stored = json.load(open(path)) if os.path.exists(path) else {}
if sys.argv[1] == "store":
    stored[json.loads(request)["ServerURL"]] = json.loads(request)
elif sys.argv[1] == "get":
    if request.strip() not in stored:
        sys.exit("credentials not found in native keychain")
    print(json.dumps(stored[request.strip()]))
else:
    stored.pop(request.strip(), None)
os.umask(0o077)
json.dump(stored, open(path, "w")) if stored else os.path.exists(path) and os.unlink(path)
HELPER
chmod 0755 /usr/local/bin/docker-credential-labkeep
"""


def first_declaration() -> dict[str, Any]:
    """Return ``prepare:`` of the first run, for the fleet and for the host."""
    return {
        "group_data": {
            "docker_users": ["@login"],
            "valve_users": ["worker"],
            "sysctls": {"net.core.somaxconn": 1},
            "files": {"/etc/motd": {"content": "of the fleet\n"}},
            "hold": ["lab-driver*"],
            **_linux_swap_off(),
            "compile_cache_retention": {"max_age_days": 30},
            "keep_hf_token": True,
        },
        "host": {
            "directories": {
                "/srv/made/deep": {"owner": "@login", "mode": "0750"},
                "/srv/shared": {"owner": "worker", "mode": "0755"},
            },
            "files": {"/etc/profile.d/by-hand.sh": {"content": "export BY=fleet\n"}},
            "sysctls": {"net.core.somaxconn": 1234},
            "packages": ["lab-tool"],
            "earlyoom": "install",
            "gpu": {"persistence": True, "power_limit_w": 100},
            "logins": {"nvcr.io": {"password": "env:NGC"}},
        },
    }


def second_declaration() -> dict[str, Any]:
    """Return ``prepare:`` of the host for the second run."""
    return {
        "directories": {
            "/srv/made/deep": {"owner": "worker", "mode": "0700"},
            "/srv/shared": {"owner": "@login", "chown_contents_max": 10},
        },
        "files": {"/etc/motd": {"content": "of the fleet, again\n"}},
        "sysctls": {"net.core.somaxconn": 2345, "net.ipv4.tcp_keepalive_time": "3600"},
        "packages": ["lab-helper"],
        "earlyoom": "forbid",
        "gpu": {"power_limit_w": 120, "clocks_mhz": [300, 2000]},
        "logins": {"nvcr.io": {"password": "env:NGC", "helper": "labkeep"}},
    }


def _linux_swap_off() -> dict[str, Any]:
    """Return the policy for Linux swap, unless this machine has swap, which its lab machines share."""
    return {} if len(Path("/proc/swaps").read_text().splitlines()) > 1 else {"swap": "off"}


REJECTED: dict[str, Any] = {
    "files": {
        "/etc/sudoers.d/broken": "worker ALL=(ALL NOPASSWD: ALL\n",
        "/etc/systemd/system/broken.service": "[Service]\nExecStart=sleep\nRestartt=always\n",
        "/etc/sysctl.d/80-broken.conf": "net.core.no_such_setting = 1\n",
    },
    "prepare": {
        "sysctls": {"net.core.somaxconn": "many"},
        "packages": ["lab-nothing"],
        "gpu": {"power_limit_w": 999},
        "logins": {"nvcr.io": {"password": "env:NGC", "helper": "nowhere"}},
    },
    "messages": [
        "visudo refuses it: /etc/sudoers.d/broken:1",
        "systemd refuses it: /etc/systemd/system/broken.service",
        "there is no setting net.core.no_such_setting",
        "the kernel refuses net.core.somaxconn = many",
        "Unable to locate package lab-nothing",
        "docker-credential-nowhere is not on the Spark",
        "nothing was changed",
    ],
}
"""Declarations that the system rejects, and the message for each."""

_COMMANDS = {
    "docker group": "getent group docker | cut -d: -f4",
    "docker without a new login": "su nvidia -c 'docker ps >/dev/null 2>&1 && echo yes || echo no'",
    "valve": "su worker -c 'sudo -n /usr/local/bin/spark-valve >/dev/null 2>&1 && echo yes || echo no'",
    "anything else with sudo": "su worker -c 'sudo -n true 2>/dev/null && echo yes || echo no'",
    "somaxconn": "cat /proc/sys/net/core/somaxconn",
    "keepalive": "cat /proc/sys/net/ipv4/tcp_keepalive_time",
    "sysctl file": "grep -v '^#' /etc/sysctl.d/90-sparkfleet.conf 2>/dev/null | paste -sd '|'",
    "made": "stat -c '%U %a' /srv/made/deep 2>/dev/null",
    "shared": "stat -c '%U:%G %a,' /srv/shared | tr '\\n' ' '; stat -c 'old %U' /srv/shared/old",
    "motd": "cat /etc/motd 2>/dev/null",
    "profile": "cat /etc/profile.d/by-hand.sh | tr '\\n' ' '; stat -c %a /etc/profile.d/by-hand.sh",
    "fstab": "paste -sd '|' /etc/fstab",
    "caches": "ls /home/nvidia/vllm-compile-cache | paste -sd ' '",
    "token": "f=/home/nvidia/.cache/huggingface/token; echo $(cat $f && stat -c '%U %a' $f) 2>/dev/null",
    "login": _LOGIN,
    "stored by the helper": "cat /root/.labkeep.json 2>/dev/null | grep -o 'nvapi-[a-z-]*'",
    "held": "apt-mark showhold",
    "installed": "dpkg-query -W -f='${Package} ${db:Status-Abbrev}\\n' 'lab-*' earlyoom 2>/dev/null "
    "| grep 'i ' | cut -d' ' -f1 | paste -sd ' '",
    "earlyoom": "echo $(systemctl is-active earlyoom; systemctl is-enabled earlyoom 2>/dev/null)",
    "GPU": "echo $(cat /etc/lab-gpu/pm /etc/lab-gpu/pl)",
    "GPU at boot": "grep -o 'smi -.*' /etc/systemd/system/spark-gpu.service 2>/dev/null "
    "| cut -c5- | paste -sd ' '",
}


def report_state(machine: Machine) -> dict[str, str]:
    """Return what the tests declare, as the machine's own commands report it."""
    return {name: machine.sh(command, check=False) for name, command in _COMMANDS.items()}
