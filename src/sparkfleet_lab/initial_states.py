"""Initial states of a Spark: manual changes, traces of other tools, and missing parts."""

from __future__ import annotations

from sparkfleet_lab.fault import Fault
from sparkfleet_lab.no_docker import REMOVE_DOCKER, RETURN_DOCKER

BACKUP = "/var/lib/lab/backup"
"""Where a state stores what it replaces."""


def _move_aside(*paths: str) -> str:
    """Return shell code that moves paths aside; missing ones are ignored."""
    return "".join(
        f"if [ -e {path} ]; then mkdir -p $(dirname {BACKUP}{path}); mv {path} {BACKUP}{path}; fi\n"
        for path in paths
    )


def _restore(*paths: str) -> str:
    """Return shell code that removes paths and restores those that were moved aside."""
    return "".join(
        f"rm -rf {path}; if [ -e {BACKUP}{path} ]; then mv {BACKUP}{path} {path}; fi\n" for path in paths
    )


HOME = "/home/nvidia"
VALVE = "/usr/local/bin/spark-valve"

_ENGINE_BY_HAND = """
docker image inspect vllm-node >/dev/null 2>&1 ||
  tar -c --files-from /dev/null | docker import - vllm-node >/dev/null
docker run -d --name vllm_node --restart unless-stopped --network host \\
  -v /usr:/usr:ro -v /bin:/bin:ro -v /lib:/lib:ro -v /lib64:/lib64:ro \\
  vllm-node /bin/sh -c 'sleep infinity; vllm serve' >/dev/null
"""
"""A container that resembles an engine, of an empty image."""

STATES = (
    Fault(
        "half-by-hand", "half prepared by hand: some directories, another valve, the group docker",
        _move_aside(VALVE, f"{HOME}/vllm", "/var/lib/sparkfleet")
        + f"""
install -d -m 0777 {HOME}/vllm
install -d -m 0700 /var/lib/sparkfleet
printf '#!/bin/sh\\nsync; echo 3 > /proc/sys/vm/drop_caches\\n' > {VALVE}
chmod 0755 {VALVE}
usermod -aG docker nvidia
""",
        _restore(VALVE, f"{HOME}/vllm", "/var/lib/sparkfleet") + "gpasswd -d nvidia docker >/dev/null\n",
    ),
    Fault(
        "wrong-owner", "directories of models and caches belong to root, and so does a file inside",
        _move_aside(f"{HOME}/vllm", f"{HOME}/vllm-compile-cache")
        + f"install -d -m 0700 {HOME}/vllm {HOME}/vllm-compile-cache\necho root > {HOME}/vllm/made-by-root\n",
        _restore(f"{HOME}/vllm", f"{HOME}/vllm-compile-cache"),
    ),
    Fault(
        "other-tool", "prepared by another tool: earlyoom, sudoers, netplan, a unit and a running container",
        _ENGINE_BY_HAND
        + """
umask 022
printf '#!/bin/sh\\nexec sleep infinity\\n' > /usr/bin/earlyoom && chmod 755 /usr/bin/earlyoom
printf '[Service]\\nExecStart=/usr/bin/earlyoom\\n' > /lib/systemd/system/earlyoom.service
printf '[Service]\\nExecStart=/usr/bin/docker start -a vllm_node\\n' > /etc/systemd/system/vllm.service
(
umask 077
printf 'nvidia ALL=(root) NOPASSWD: /usr/bin/tee /proc/sys/vm/drop_caches\\n' \\
  > /etc/sudoers.d/spark-vllm-docker
printf 'network:\\n  version: 2\\n  ethernets:\\n    enp1s0f1np1:\\n      mtu: 9000\\n' \\
  > /etc/netplan/98-spark-vllm-docker.yaml
)
systemctl daemon-reload && systemctl start earlyoom
""",
        """
docker rm -f vllm_node >/dev/null; docker rmi vllm-node >/dev/null
systemctl stop earlyoom
rm -f /usr/bin/earlyoom /lib/systemd/system/earlyoom.service /etc/systemd/system/vllm.service \\
  /etc/sudoers.d/spark-vllm-docker /etc/netplan/98-spark-vllm-docker.yaml
systemctl daemon-reload
""",
    ),
    Fault(
        "sudoers-broken", "a file in /etc/sudoers.d has a syntax error",
        "umask 227; echo 'nvidia ALL=(ALL NOPASSWD ALL' > /etc/sudoers.d/90-by-hand",
        "rm -f /etc/sudoers.d/90-by-hand",
    ),
    Fault(
        "etc-read-only", "/etc is mounted read-only",
        "mount --rbind /etc /etc; mount -o remount,ro,bind /etc", "umount -R -l /etc",
    ),
    Fault(
        "docker-removed", "Docker and the NVIDIA container toolkit are not installed; apt has both",
        REMOVE_DOCKER, RETURN_DOCKER,
    ),
)  # fmt: skip
