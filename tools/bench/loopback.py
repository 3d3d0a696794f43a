"""Hundreds of SSH hosts on this computer: one container, real sshd on 127.1.x.y, files of a converged Spark.

Each host is an address. Login, sudo and probe are real; the files are copied from a converged Spark of the
lab. Two parts cannot exist 200 times and are replayed: Docker's responses (by a socket with recorded ones)
and ``systemctl show``.

The cost of a probe on its Spark does not burden the controller, but these 200 hosts share its cores. So there
is a second measurement with a replayed probe: the login is real, ``sudo`` prints a recording.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.bench import fleets, sparks
from tools.bench.fleets import FleetDirectory
from tools.bench.sparks import Sparks

from sparkfleet.onhost.collectors import units
from sparkfleet_lab.content import Entry, tar_of
from sparkfleet_lab.names import LABEL

PORT = 47122
PER_SSHD = 16
"""Addresses that one sshd can listen on."""
_COPIED = (
    "usr/local/lib/sparkfleet usr/local/bin/spark-valve var/lib/sparkfleet home/nvidia "
    "$(cd / && ls -d etc/systemd/system/sparkfleet-*)"
)
_SHOW = f"systemctl show {units.SHOWN_PROPERTIES}"

_DOCKER = '''\
"""Docker's socket with recorded responses, and the engine's port, held by this process."""
import contextlib, json, os, re, socket
ANSWERS = {}
for path, text in json.load(open("/srv/docker.json")).items():
    if path.startswith("/containers/"):
        text = re.sub('"Pid": *[1-9][0-9]*', '"Pid":%d' % os.getpid(), text)
    ANSWERS[path.encode()] = text.encode()
engine = socket.create_server(("127.0.0.1", int(os.environ["ENGINE_PORT"])))
docker = socket.socket(socket.AF_UNIX)
docker.bind("/run/docker.sock")
docker.listen(200)
while True:
    client, _ = docker.accept()
    with client, contextlib.suppress(OSError):
        body = ANSWERS.get(client.recv(4096).split()[1])
        status = b"404 Not Found" if body is None else b"200 OK"
        head = b"HTTP/1.0 %s\\r\\nContent-Length: %d\\r\\n\\r\\n"
        client.sendall(head % (status, len(body or b"")) + (body or b""))
'''

_START = """\
set -eu
mkdir -p /run/sshd /run/systemd/system
ln -sf /run /var/run
usermod -p '*' nvidia
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
printf '#!/bin/sh\\nexec cat /srv/units\\n' > /usr/local/bin/systemctl
chmod 755 /usr/local/bin/systemctl
for file in /srv/sshd-*.conf; do /usr/sbin/sshd -r -f "$file" -E /srv/sshd.log; done
exec python3 -B /srv/docker.py
"""


def address(number: int) -> str:
    """Return the address of a host, counted from 1."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


@dataclass(frozen=True)
class Loopback:
    """The container and its hosts."""

    sparks: Sparks
    container: str
    host_key: str
    count: int
    lock: Path

    @property
    def key(self) -> Path:
        """Return the private key that logs in."""
        return self.sparks.lab.directory / "id_ed25519"

    def fleet(self, count: int) -> FleetDirectory:
        """Return a fleet of the first hosts, each declared to serve as the recorded Spark does."""
        root = self.sparks.work / f"loopback-{count}"
        known = self.sparks.work / "loopback.known_hosts"
        known.write_text(
            "".join(f"[{address(n)}]:{PORT} {self.host_key}\n" for n in range(1, self.count + 1))
        )
        data = {
            "ssh_config_file": "/dev/null",
            "ssh_key": str(self.key),
            "ssh_known_hosts_file": str(known),
            "ssh_strict_host_key_checking": "yes",
        }
        # All settings of the lab but those of its connection.
        text = self.sparks.group_data.replace("globals().update(_settings.connection)", "")
        text += "".join(f"{name} = {value!r}\n" for name, value in data.items())
        files = {f"host-{n:03}": fleets.host_file_at(n, address(n), PORT) for n in range(1, count + 1)}
        return fleets.make(root, files, text, self.lock)

    def ssh_config(self) -> Path:
        """Write an ssh_config for the system's ssh; return its path."""
        path = self.sparks.work / "loopback.ssh_config"
        path.write_text(
            f"Host 127.1.*\n  User nvidia\n  Port {PORT}\n  IdentityFile {self.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.sparks.work / 'loopback.known_hosts'}\n"
        )
        return path

    def play_back(self, recording: Path) -> None:
        """Replay this recording for every further probe."""
        stub = '#!/bin/sh\nexec /bin/sh -c "$4" "$5" cat /srv/answer\n'  # in the frame that was requested
        entries = (
            Entry("srv/answer", recording.read_bytes()),
            Entry("usr/local/bin/sudo", stub.encode(), 0o755),
        )
        self.sparks.docker.run("cp", "-", f"{self.container}:/", stdin=tar_of(entries))

    def cpu_s(self) -> float:
        """Return the CPU time of all hosts so far."""
        one, two = "/sys/fs/cgroup/cpuacct/cpuacct.usage", "/sys/fs/cgroup/cpu.stat"
        text = self.sparks.docker.run(
            "exec", self.container, "sh", "-c", f"cat {two} 2>/dev/null || cat {one}"
        )
        if text.isdigit():
            return int(text) / 1e9
        return int(text.split("usage_usec", 1)[1].split()[0]) / 1e6

    def logins(self) -> tuple[int, int]:
        """Return the number of connections and of remote commands so far."""
        log = self.sparks.docker.run("exec", self.container, "cat", "/srv/sshd.log").splitlines()
        return sum("Connection from" in text for text in log), sum(
            "Starting session:" in text for text in log
        )


def up(lab: Sparks, count: int, lock: Path, listening: int) -> Loopback:
    """Start the container: ``count`` hosts have addresses, the first ``listening`` of them an sshd."""
    name = lab.lab.container("hosts")
    first = lab.lab.container(lab.names[0])
    lab.docker.attempt("rm", "-f", "-v", name)
    lab.docker.run(
        "create", "--name", name, "--label", f"{LABEL}={lab.lab.prefix}", "--network", "host", "--init",
        "--env", f"ENGINE_PORT={fleets.PORT}",
        "--entrypoint", "/bin/sh", lab.state.spark_image, "/srv/start.sh",
    )  # fmt: skip
    command = ["docker", "exec", first, "sh", "-c", f"tar -C / -c {_COPIED}"]
    files = subprocess.run(command, check=True, capture_output=True).stdout
    lab.docker.run("cp", "-", f"{name}:/", stdin=files)
    shown = lab.sh(lab.names[0], f"{_SHOW} $(cd /etc/systemd/system && ls -d sparkfleet-*.service)")
    entries = [
        Entry("srv/docker.json", json.dumps(sparks.record_docker(lab)).encode()),
        Entry("srv/docker.py", _DOCKER.encode()),
        Entry("srv/start.sh", _START.encode()),
        Entry("srv/units", f"{shown}\n".encode()),
        *_sshd(listening),
    ]
    lab.docker.run("cp", "-", f"{name}:/", stdin=tar_of(tuple(entries)))
    lab.docker.run("start", name)
    ready = "for n in $(seq 100); do test -S /run/docker.sock && exit 0; sleep 0.1; done; exit 1"
    lab.docker.run("exec", name, "sh", "-c", ready)
    key = lab.docker.run("exec", name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
    return Loopback(lab, name, " ".join(key[:2]), count, lock)


def _sshd(count: int) -> list[Entry]:
    """Return the configuration of each sshd: the distribution's own, and its addresses."""
    entries = []
    for first in range(1, count + 1, PER_SSHD):
        listen = "".join(
            f"ListenAddress {address(n)}\n" for n in range(first, min(first + PER_SSHD, count + 1))
        )
        text = f"Port {PORT}\n{listen}PidFile none\nLogLevel VERBOSE\nMaxStartups 100\nUsePAM no\n"
        entries.append(Entry(f"srv/sshd-{first:03}.conf", (text + "Include /etc/ssh/sshd_config\n").encode()))
    return entries
