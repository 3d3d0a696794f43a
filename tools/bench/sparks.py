"""A separate lab: converged Sparks that log connections and commands."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.bench import fleets
from tools.bench.fleets import ROOT, FleetDirectory

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet_lab import lifecycle
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State, read_state, ssh_config

BIN = ROOT / ".venv" / "bin"

GROUP_DATA = """\
from pathlib import Path as _Path

import sparkfleet_lab.settings as _lab
from sparkfleet_lab.names import Lab as _Lab

_settings = _lab.settings(_Lab(_Path({checkout!r}), {name!r}))
sparkfleet = _settings.sparkfleet
globals().update(_settings.connection)
"""

_SSHD = "LogLevel VERBOSE\nMaxStartups 100\n"

_RECORD_DOCKER = """
import http.client, json, socket
class Docker(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")
answers = {}
def get(path):
    docker = Docker("localhost")
    docker.request("GET", path)
    answers[path] = docker.getresponse().read().decode()
    return json.loads(answers[path])
get("/version")
for row in get("/containers/json?all=1"):
    get("/images/%s/json" % get("/containers/%s/json" % row["Id"])["Image"])
for image in get("/images/json"):
    for reference in image.get("RepoDigests") or ():
        get("/images/%s/json" % reference)
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Sparks:
    """The lab's machines and the fleet that declares them."""

    lab: Lab
    state: State
    docker: Docker
    work: Path

    @property
    def names(self) -> tuple[str, ...]:
        """Return the machines' names."""
        return tuple(machine.name for machine in self.state.machines)

    @property
    def group_data(self) -> str:
        """Return the connection settings of the machines, for a fleet's group_data."""
        return GROUP_DATA.format(checkout=str(self.lab.checkout), name=self.lab.name)

    def sh(self, name: str, command: str, stdin: bytes | None = None) -> str:
        """Return the output of a shell command on a machine, run without SSH."""
        interactive = ("-i",) if stdin is not None else ()
        return self.docker.run(
            "exec", *interactive, self.lab.container(name), "sh", "-c", command, stdin=stdin
        )

    def fleet(self, count: int, lock: Path | None = None) -> FleetDirectory:
        """Return a fleet of the first machines."""
        files = {name: fleets.serving_host_file() for name in self.names[:count]}
        return fleets.make(self.work / f"sparks-{count}", files, self.group_data, lock)

    def logins(self) -> tuple[int, int]:
        """Return the number of connections and of remote commands on all machines so far."""
        log = "journalctl -q -u ssh -o cat"
        count_lines = f"{log} | grep -c '^Connection from '; {log} | grep -c '^Starting session: '"
        counts = [self.sh(name, f"{count_lines} || true").split() for name in self.names]
        return sum(int(pair[0]) for pair in counts), sum(int(pair[1]) for pair in counts)

    def docker_responses(self, name: str) -> str:
        """Return, as JSON by path, the responses of a machine's Docker to the requests of a probe."""
        return self.sh(name, "python3 -", _RECORD_DOCKER.encode())

    def ssh_config_with(self, ports: dict[int, int], path: Path) -> Path:
        """Write an ssh_config that reaches the machines through other ports; return its path."""
        known = path.with_suffix(".known_hosts")
        text = ssh_config(self.lab, self.state).replace(str(self.lab.directory / "known_hosts"), str(known))
        hosts = ""
        for machine in self.state.machines:
            text = text.replace(f"Port {machine.ssh_port}\n", f"Port {ports[machine.ssh_port]}\n")
            hosts += f"[127.0.0.1]:{ports[machine.ssh_port]} {machine.host_key}\n"
        path.write_text(text)
        known.write_text(hosts)
        return path


def up(count: int, work: Path, report: Callable[[str], None]) -> Sparks:
    """Return a lab of that many machines that serve as declared; an existing one is replaced if it cannot
    be converged.
    """
    docker = Docker()
    lab = Lab(ROOT, os.environ.get("SPARKFLEET_LAB", "bench"))
    before = read_state(lab)
    try:
        return _converged(docker, lab, count, work, report)
    except (RuntimeError, SparkfleetError) as error:
        if before is None:
            raise
        report(f"the existing lab cannot be converged and is replaced: {str(error).splitlines()[0]}")
    lifecycle.down(docker, lab, also_images=False, report=report)
    return _converged(docker, lab, count, work, report)


def _converged(docker: Docker, lab: Lab, count: int, work: Path, report: Callable[[str], None]) -> Sparks:
    state = lifecycle.up(docker, lab, count, report, warm=True)
    sparks = Sparks(lab, state, docker, work)
    for name in sparks.names:
        sparks.sh(name, "cat > /etc/ssh/sshd_config.d/00-bench.conf; systemctl restart ssh", _SSHD.encode())
    report(f"{count} Sparks: pin, converge")
    whole = sparks.fleet(count)
    project(whole, "sparkfleet", "lock", str(whole.inventory))
    project(whole, "pyinfra", str(whole.inventory), "deploys/serve.py", "-y")
    project(whole, "sparkfleet", "plan", str(whole.inventory))
    return sparks


def project(fleet: FleetDirectory, *args: str) -> str:
    """Run a command of the project in a fleet's directory; return what it printed, raise when it fails."""
    done = subprocess.run(
        [str(BIN / args[0]), *args[1:]],
        cwd=fleet.root,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(args)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def record_probe(sparks: Sparks, fleet: FleetDirectory) -> str:
    """Return a converged machine's response to the probe over SSH."""
    from sparkfleet.inventory import load_fleet  # noqa: PLC0415  (the project's own probe)
    from sparkfleet.plan.compute import probe_request  # noqa: PLC0415
    from sparkfleet.probe import frame  # noqa: PLC0415
    from sparkfleet.probe.command import probe_command  # noqa: PLC0415

    before = Path.cwd()
    os.chdir(fleet.root)
    try:
        host = load_fleet(fleet.inventory).hosts[0]
    finally:
        os.chdir(before)
    nonce = frame.new_nonce()
    args = ["ssh", "-F", str(sparks.lab.ssh_config), host.name, probe_command(probe_request(host), nonce)]
    done = subprocess.run(args, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    found = frame.find(done.stdout.split("\n"), nonce)
    if found is None:
        raise RuntimeError(f"no response of the probe: {done.stdout}{done.stderr}")
    return f"{found.text}\n"


def record_docker(sparks: Sparks) -> dict[str, str]:
    """Return Docker's recorded responses by path."""
    found: dict[str, str] = json.loads(sparks.docker_responses(sparks.names[0]))
    return found
