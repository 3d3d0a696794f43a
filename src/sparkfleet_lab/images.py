"""The definitions of the lab's own images: the Spark, the registry, and the hub with its models."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from importlib import resources
from pathlib import Path

from sparkfleet_lab.apt import TESTING
from sparkfleet_lab.base import Base
from sparkfleet_lab.build import Definition
from sparkfleet_lab.content import Entry, digest, tree
from sparkfleet_lab.standins.hub_models import make_models

SPARK_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "libpam-systemd",
    "openssh-server",
    "sudo",
    "iproute2",
    "iptables",
    "iputils-ping",
    "netplan.io",
    "python3",
    "python3-yaml",
    "rsync",
    "curl",
    "procps",
    "kmod",
    "ca-certificates",
    "docker.io",
    "ethtool",
    "less",
)
USER = "nvidia"
UID = 1000

_SPARK_SCRIPT = f"""
userdel -r ubuntu 2>/dev/null || true
useradd --create-home --uid {UID} --shell /bin/bash --groups adm,sudo {USER}
install -d -o {USER} -g {USER} -m 700 /home/{USER}/.ssh
systemctl set-default multi-user.target
systemctl enable ssh.service docker.service lab-nics.service lab-trust.service \\
  lab-docker.service lab-driver.service
systemctl mask getty.target console-getty.service systemd-logind.service systemd-firstboot.service \\
  systemd-udev-trigger.service systemd-modules-load.service apt-daily.timer apt-daily-upgrade.timer \\
  e2scrub_all.timer e2scrub_reap.service dpkg-db-backup.timer fstrim.timer ssh.socket
rm -f /etc/ssh/ssh_host_* /etc/motd /etc/update-motd.d/*
: > /etc/machine-id
rm -rf /var/lib/docker/* /var/lib/containerd/*
"""


_SPARK_CHANGES = ('CMD ["/sbin/init"]', "ENV container=docker", "ENV LC_ALL=C.UTF-8", "WORKDIR /")
_CONTAINERD_SETTINGS = {
    "features": {"containerd-snapshotter": True},
    "runtimes": {"nvidia": {"path": "runc", "runtimeArgs": []}},
}
_DOCKER_29 = "[Service]\nEnvironment=DOCKER_MIN_API_VERSION=1.44\n"
"""What Docker 29 has and 28 lacks: it refuses older versions of the API."""
_NEWER_SCRIPT = """
version=$(dockerd --version | sed 's/[^0-9]*\\([0-9]*\\).*/\\1/')
if [ "$version" -lt 28 ]; then
  echo "Docker $version has no containerd image store; expected a package source with Docker 28 or later"
  exit 1
fi
rm -rf /var/lib/docker/* /var/lib/containerd/*
"""


def spark(base: Base) -> Definition:
    """Return the image of a machine: systemd, sshd, dockerd, and stand-ins for a Spark's programs."""
    return Definition(
        name="spark",
        base=base.image,
        base_id=base.id,
        packages=SPARK_PACKAGES,
        files=tree(Path(str(resources.files("sparkfleet_lab") / "rootfs"))),
        script=_SPARK_SCRIPT,
        changes=_SPARK_CHANGES,
    )


def containerd_spark(spark_image: str, image_id: str, *, debian: bool) -> Definition:
    """Return the image of a machine whose Docker has its images in containerd's store, as Docker 29 does."""
    settings = json.dumps(_CONTAINERD_SETTINGS).encode()
    return Definition(
        name="spark-containerd",
        base=spark_image,
        base_id=image_id,
        packages=("-t", TESTING, "docker.io", "docker-cli", "containerd") if debian else ("docker.io",),
        files=(
            Entry("etc/docker/daemon.json", settings),
            Entry("etc/systemd/system/docker.service.d/lab.conf", _DOCKER_29.encode()),
        ),
        script=_NEWER_SCRIPT,
        changes=_SPARK_CHANGES,
    )


def registry(base: Base) -> Definition:
    """Return the image that the registry runs in."""
    return Definition(
        name="registry",
        base=base.image,
        base_id=base.id,
        packages=("docker-registry",),
        changes=("WORKDIR /",),
    )


def hub(base: Base) -> Definition:
    """Return the image of the hub: its program and the synthetic models, written when the image is built."""
    standins = Path(str(resources.files("sparkfleet_lab") / "standins"))
    sources = (path for path in sorted((standins / "hub").iterdir()) if path.suffix == ".py")
    return Definition(
        name="hub",
        base=base.image,
        base_id=base.id,
        packages=(),
        files=tuple(Entry(f"opt/lab/hub/{path.name}", path.read_bytes()) for path in sources),
        late_files=_models,
        key=digest(*((standins / name).read_bytes() for name in ("hub_models.py", "tiny_model.py"))),
        changes=(
            "WORKDIR /opt/lab",
            'CMD ["python3", "-B", "-m", "hub", "--root", "/srv/hub", "--port", "80"]',
        ),
    )


def _models() -> tuple[Entry, ...]:
    with tempfile.TemporaryDirectory(prefix="sparkfleet-hub-") as scratch:
        make_models(Path(scratch))
        return tuple(
            dataclasses.replace(entry, path=f"srv/hub/{entry.path}", mode=0o644)
            for entry in tree(Path(scratch))
        )
