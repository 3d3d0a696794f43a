"""The faults of a lab, one entry each: description, script that applies it, script that repairs it."""

from __future__ import annotations

from sparkfleet_lab.fault import Fault
from sparkfleet_lab.initial_states import STATES

_STOP_DOCKER = "systemctl stop docker.socket docker.service"
_START_DOCKER = "systemctl reset-failed docker.service; systemctl start docker.socket docker.service"
"""reset-failed: faults in quick succession exceed systemd's limit of starts."""

_ADDRESSES_BACK = (
    'while read -r address name mtu; do grep -qs "$name" /etc/netplan/*.yaml || '
    '{ ip address replace "$address/24" dev "$name"; ip link set dev "$name" mtu "$mtu" || true; }; '
    "done < /etc/lab/nics"
)
"""Restores the address and MTU from Docker of links that netplan does not configure."""


def _full(directory: str, owner: str) -> str:
    """Return shell code that moves a directory's content to a file system of just its size and fills that."""
    return f"""
[ -e {directory} ] || touch /var/lib/lab-new-$(basename {directory})
mkdir -p {directory} /var/lib/lab-full && chown {owner} {directory}
size=$(($(du -sk {directory} | cut -f1) + 512))
mount -t tmpfs -o size=${{size}}k,mode=$(stat -c %a {directory}) lab /var/lib/lab-full
cp -a {directory}/. /var/lib/lab-full/
mount --move /var/lib/lab-full {directory}
dd if=/dev/zero of={directory}/.lab-fill bs=4k 2>/dev/null || true
"""


def _not_full(directory: str) -> str:
    """Return shell code that moves a directory back to its disk, with files that were written meanwhile."""
    return f"""
rm -f {directory}/.lab-fill
mkdir -p /var/lib/lab-keep && cp -a {directory}/. /var/lib/lab-keep/
umount {directory}
rsync -a --delete /var/lib/lab-keep/ {directory}/ && rm -rf /var/lib/lab-keep /var/lib/lab-full
new=/var/lib/lab-new-$(basename {directory})
if [ -e $new ]; then rm $new; rmdir --ignore-fail-on-non-empty {directory}; fi
"""


FAULTS = (
    Fault(
        "powered-off", "the machine is off: connection refused",
        lab="power off", repair_lab="power on",
    ),
    Fault("reboot", "the machine restarts, as by the power button", lab="power cycle"),
    Fault(
        "sshd-stopped", "sshd is stopped: a connection is closed before a greeting",
        "systemctl stop ssh", "systemctl start ssh",
    ),
    Fault(
        "ssh-hangs", "packets to port 22 are dropped: connections hang, those that are open too",
        "iptables -I INPUT -p tcp --dport 22 -j DROP", "iptables -D INPUT -p tcp --dport 22 -j DROP",
    ),
    Fault("ssh-cut", "every open SSH connection is cut", "pkill -KILL -f '^sshd: nvidia' || true"),
    Fault(
        "wrong-host-key", "sshd shows another host key than known_hosts has",
        "mkdir -p /var/lib/lab; mv /etc/ssh/ssh_host_ed25519_key* /var/lib/lab/\n"
        "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh",
        "mv /var/lib/lab/ssh_host_ed25519_key* /etc/ssh/; systemctl restart ssh",
    ),
    Fault(
        "banner", "the login shell prints text, and the result of a rollout, before every command",
        "sed -i '1i echo Welcome to DGX Spark!; echo '\\''{\"n\": 0, \"kind\": \"result\", "
        "\"result\": {\"outcome\": \"promoted\"}}'\\''  # lab' /home/nvidia/.bashrc",
        "sed -i '/# lab$/d' /home/nvidia/.bashrc",
    ),
    Fault(
        "sudo-refused", "sudo asks for a password",
        "mv /etc/sudoers.d/nvidia /etc/sudoers.d/nvidia.off",
        "mv /etc/sudoers.d/nvidia.off /etc/sudoers.d/nvidia",
    ),
    Fault(
        "sudo-asks", "sudo asks for a password, as on a Spark as delivered: it is nvidia",
        "mv /etc/sudoers.d/nvidia /etc/sudoers.d/nvidia.off; echo nvidia:nvidia | chpasswd",
        "mv /etc/sudoers.d/nvidia.off /etc/sudoers.d/nvidia; usermod --password '!' nvidia",
    ),
    Fault(
        "no-python3", "there is no python3",
        "mv /usr/bin/python3 /usr/bin/python3.off", "mv /usr/bin/python3.off /usr/bin/python3",
    ),
    Fault(
        "docker-stopped", "dockerd is stopped, and the containers with it",
        _STOP_DOCKER, _START_DOCKER,
    ),
    Fault(
        "dockerd-killed", "dockerd is killed; systemd starts it again",
        "systemctl kill -s KILL docker.service",
    ),
    Fault(
        "docker-hangs", "dockerd takes connections and never answers",
        "systemctl kill -s STOP docker.service", "systemctl kill -s CONT docker.service",
    ),
    Fault(
        "no-docker", "Docker is not installed",
        f"{_STOP_DOCKER}\n"
        "for f in /usr/bin/docker /usr/sbin/dockerd; do mv $f $f.off; done; rm -f /run/docker.sock",
        f"for f in /usr/bin/docker /usr/sbin/dockerd; do mv $f.off $f; done; {_START_DOCKER}",
    ),
    Fault(
        "docker-full", "dockerd has an empty directory of 64 MB: pulls end with no space left",
        f"{_STOP_DOCKER}; mount -t tmpfs -o size=64m lab /var/lib/docker; "
        f"{_START_DOCKER}",
        f"{_STOP_DOCKER}; umount /var/lib/docker; {_START_DOCKER}",
    ),
    Fault(
        "models-full", "the file system of the models (~/vllm) is full",
        _full("/home/nvidia/vllm", "nvidia:nvidia"), _not_full("/home/nvidia/vllm"),
    ),
    Fault(
        "state-full", "the file system of sparkfleet's state (/var/lib/sparkfleet) is full",
        _full("/var/lib/sparkfleet", "root:root"), _not_full("/var/lib/sparkfleet"),
    ),
    Fault(
        "low-memory", "the kernel reports 200 MiB of memory as available",
        "sed 's/^MemAvailable:.*/MemAvailable:     204800 kB/' /proc/meminfo > /run/lab-meminfo\n"
        "mount --bind /run/lab-meminfo /proc/meminfo",
        "umount /proc/meminfo",
    ),
    Fault(
        "reserved-memory", "the kernel counts memory reserved for Kexec HandOver (KHO) as contiguous memory",
        "{ sed '/^Cma/d' /proc/meminfo; printf 'CmaTotal: %7s 0 kB\\nCmaFree: %8s 940604 kB\\n'; } "
        "> /run/lab-meminfo-cma\nmount --bind /run/lab-meminfo-cma /proc/meminfo",
        "umount /proc/meminfo",
    ),
    Fault(
        "proprietary-driver", "the GPU driver has the proprietary kernel modules",
        "sed 's/Open Kernel Module for aarch64  580[.0-9]*/aarch64 Kernel Module  580.173.02/' "
        "/etc/lab/nvidia-version > /run/lab-nvidia-version\n"
        "mount --bind /run/lab-nvidia-version /proc/driver/nvidia/version",
        "umount /proc/driver/nvidia/version",
    ),
    Fault(
        "gpu-limited", "the GPU is busy at 18 W: its power supply negotiated too little",
        "echo 96 18.42 611 > /etc/lab/gpu-load", "rm -f /etc/lab/gpu-load",
    ),
    Fault(
        "dpkg-locked", "another process uses dpkg",
        "systemd-run -q --unit lab-dpkg python3 -c 'import fcntl, time\n"
        'file = open("/var/lib/dpkg/lock-frontend", "w"); fcntl.lockf(file, fcntl.LOCK_EX)\n'
        "open(\"/run/lab-dpkg\", \"w\").close(); time.sleep(10 ** 6)'\n"
        "until [ -e /run/lab-dpkg ]; do sleep 0.1; done",
        "systemctl stop lab-dpkg; rm -f /run/lab-dpkg",
    ),
    Fault(
        "gpu-gone", "nvidia-smi finds no driver",
        "touch /etc/lab/gpu-gone", "rm -f /etc/lab/gpu-gone",
    ),
    Fault(
        "rdma-regions", "two RDMA memory regions of an engine that ended stay registered",
        "printf 'dev rocep1s0f1 mrn %d mrlen 1073741824 pdn 3\\n' 7 8 > /run/lab-rdma-regions",
        "rm -f /run/lab-rdma-regions",
    ),
    Fault(
        "port-taken", "a process that is not ours listens on port 8000",
        "systemd-run -q --unit lab-port python3 -m http.server 8000 --directory /etc/lab\n"
        "until ss -Hltn sport = :8000 | grep -q LISTEN; do sleep 0.1; done",
        "systemctl stop lab-port",
    ),
    Fault(
        "foreign-netplan", "another tool's netplan file configures the fabric",
        "umask 077; printf 'network:\\n  version: 2\\n  ethernets:\\n    enP2p1s0f1np1:\\n      dhcp4: no\\n"
        "      addresses: [192.168.177.11/24]\\n' > /etc/netplan/40-cx7.yaml; systemctl daemon-reload",
        "rm -f /etc/netplan/40-cx7.yaml; systemctl daemon-reload",
    ),
    Fault(
        "cable-out", "the fabric's cable is unplugged: both twins lose their carrier",
        lab="cable down", repair_lab="cable up",
    ),
    Fault(
        "other-cage", "the fabric's cable is moved to the other cage",
        "lab-nics other-cage", f"lab-nics other-cage; {_ADDRESSES_BACK}",
    ),
    Fault(
        "small-mtu", "the switch passes no more than 1500 bytes to this Spark's cage",
        lab="cable mtu 1500", repair_lab="cable mtu 9000",
    ),
    Fault(
        "management-lost", "when links are reconfigured, the management link loses its address",
        "cat > /usr/local/bin/networkctl <<'END'\n#!/bin/sh\n/usr/bin/networkctl \"$@\"; s=$?\n"
        '[ "$1" != reload ] || ip -4 address flush dev eth0\nexit $s\nEND\n'
        "chmod 755 /usr/local/bin/networkctl",
        "rm -f /usr/local/bin/networkctl",
    ),
    *STATES,
    Fault("registry-down", "the registry is off", lab="power off", repair_lab="power on", role="registry"),
    Fault("hub-down", "the hub is off", lab="power off", repair_lab="power on", role="hub"),
    Fault(
        "hub-slow", "the hub sends 100 KB a second",
        lab='hub {"slow_bytes_per_s": 100000, "path": "/resolve/"}', repair_lab="hub {}", role="hub",
    ),
    Fault(
        "hub-breaks", "the hub closes the connection after 200 KB of a file",
        lab='hub {"break_after_bytes": 200000, "path": "/resolve/"}', repair_lab="hub {}", role="hub",
    ),
    Fault(
        "hub-corrupts", "the hub sends one wrong byte in every file",
        lab='hub {"corrupt": true, "path": "/resolve/"}', repair_lab="hub {}", role="hub",
    ),
    Fault(
        "hub-refuses", "the hub answers 503",
        lab='hub {"status": 503}', repair_lab="hub {}", role="hub",
    ),
)  # fmt: skip
"""In the order of ``sparkfleet lab break --list``."""
