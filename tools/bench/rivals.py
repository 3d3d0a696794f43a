"""The same declared state for alternative tools: Ansible, and pyinfra's own operations.

Both check the same state as ``sparkfleet plan`` and must find nothing to change: files, directories, image,
weights, container, unit. Each uses its fastest way (one ``find`` for all files
of a model, no fact gathering).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.fleets import ROOT, FleetDirectory
from tools.bench.measure import Command
from tools.bench.sparks import BIN, Sparks

from sparkfleet.contract.generation import Generation
from sparkfleet.desired_state import Host, Service
from sparkfleet.inventory import load_fleet
from sparkfleet.plan import host_changes, render_service
from sparkfleet.plan.operations import WriteFile
from sparkfleet.probe.observation import User
from sparkfleet.runtimes.docker import settings

VENV = ROOT / ".bench"
_USER = User("nvidia", "/home/nvidia", 1000, 1000, "nvidia")
CONTROL = "/tmp/sparkfleet-bench"  # noqa: S108  (the sockets of warm connections must have short paths)
_PURE = ("requests", "urllib3", "idna", "certifi", "charset_normalizer")


@dataclass(frozen=True)
class DesiredState:
    """The desired state of one Spark of a measurement, as plain data for other tools."""

    host: Host
    service: Service
    generation: Generation
    directories: tuple[render_service.Directory, ...]
    files: tuple[WriteFile, ...]

    @property
    def blobs(self) -> str:
        """Return the directory of the model's files."""
        return f"/home/nvidia/vllm/hub/models--{self.service.weights.repo.replace('/', '--')}/blobs"


def desired_state(fleet: FleetDirectory) -> DesiredState:
    """Return the desired state of the fleet's host files, which are all the same."""
    import os  # noqa: PLC0415

    before = Path.cwd()
    os.chdir(fleet.root)
    try:
        host = load_fleet(fleet.inventory).hosts[0]
    finally:
        os.chdir(before)
    service = host.services[0]
    record = render_service.generation(
        host, service, _USER, service.image.entrypoint if service.image else ()
    )
    content = record.unit.encode()
    path = f"{host_changes.UNIT_DIR}/{record.unit_name}"
    unit = WriteFile(path, "0644", "unit", record.unit_name, hashlib.sha256(content).hexdigest(), content)
    files = (*host_changes.managed_files(), unit)
    return DesiredState(host, service, record, render_service.directories(host, _USER), files)


def install(sparks: Sparks, report: Callable[[str], None]) -> None:
    """Create the virtual environment of Ansible; copy what its Docker modules require to the machines."""
    requirements_text = (Path(__file__).with_name("requirements.txt")).read_text()
    stamp = VENV / ".installed"
    if not stamp.exists() or stamp.read_text() != requirements_text:
        report(f"Ansible into {VENV.name} (takes a minute or two)")
        venv.create(VENV, with_pip=True)
        requirements = str(Path(__file__).with_name("requirements.txt"))
        subprocess.run([str(VENV / "bin" / "pip"), "install", "-q", "-r", requirements], check=True)
        stamp.write_text(requirements_text)
    packages = next((VENV / "lib").glob("python3*")) / "site-packages"
    for name in sparks.names:
        folder = sparks.sh(
            name, "python3 -c 'import sys; print(\"/usr/local/lib/python%d.%d\" % sys.version_info[:2])'"
        )
        sparks.sh(name, f"mkdir -p {folder}/dist-packages")
        for package in _PURE:
            target = f"{sparks.lab.container(name)}:{folder}/dist-packages/"
            sparks.docker.run("cp", str(packages / package), target)


def write_files(root: Path, state: DesiredState) -> dict[str, Path]:
    """Write the files that the other tools install; return them by their path on the Spark."""
    root.mkdir(parents=True, exist_ok=True)
    paths = {}
    for number, file in enumerate(state.files):
        path = root / f"{number}-{Path(file.path).name}"
        path.write_bytes(file.content)
        paths[file.path] = path
    return paths


def playbook(root: Path, state: DesiredState, as_default: bool = False) -> Path:
    """Write the playbook; return its path."""
    files = write_files(root / "files", state)
    path = root / ("as-it-comes.yml" if as_default else "site.yml")
    play = {"hosts": "all", "become": True, "gather_facts": as_default, "tasks": list(_tasks(state, files))}
    path.write_text(json.dumps([play], indent=1))  # JSON is YAML
    return path


def _tasks(state: DesiredState, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    directories = [
        {"path": _USER.expand(item.path), "mode": item.mode, "owner": item.user, "group": item.group}
        for item in state.directories
    ]
    copies = [{"src": str(files[file.path]), "dest": file.path, "mode": file.mode} for file in state.files]
    sizes = {file.path: file.size for file in state.service.weights.files}
    return [
        {
            "name": "Directories",
            "ansible.builtin.file": {
                "path": "{{ item.path }}", "state": "directory", "mode": "{{ item.mode }}",
                "owner": "{{ item.owner }}", "group": "{{ item.group }}",
            },
            "loop": directories,
        },
        {
            "name": "Programs and units",
            "ansible.builtin.copy": {
                "src": "{{ item.src }}", "dest": "{{ item.dest }}", "mode": "{{ item.mode }}",
                "owner": "root", "group": "root",
            },
            "loop": copies,
        },
        {
            "name": "Image",
            "community.docker.docker_image_pull": {
                "name": state.service.image_names[0], "pull": "not_present",
            },
        },
        {
            "name": "Files of the model",
            "ansible.builtin.find": {"paths": state.blobs},
            "register": "model",
        },
        {
            "name": "Model is complete",
            "ansible.builtin.assert": {
                "that": ["found == expected"], "quiet": True,
            },
            "vars": {
                "expected": sum(sizes.values()),
                "found": "{{ model.files | map(attribute='size') | map('int') | sum }}",
            },
        },
        {"name": "Container", "community.docker.docker_container": _container(state)},
        {
            "name": "Unit",
            "ansible.builtin.systemd_service": {
                "name": state.generation.unit_name, "enabled": True, "state": "started",
            },
        },
    ]  # fmt: skip


def _container(state: DesiredState) -> dict[str, Any]:
    record = state.generation
    args = list(record.definition)
    options: dict[str, list[str]] = {}
    while args[0].startswith("--"):
        options.setdefault(args[0], []).append(args[1])
        del args[:2]
    mounts = [dict(part.partition("=")[::2] for part in text.split(",")) for text in options["--mount"]]
    return {
        "name": record.service, "image": state.service.image_names[0], "command": args[1:],
        "state": "started",
        "image_name_mismatch": "ignore",  # by id: the name on the Spark has the tag too
        "network_mode": options["--network"][0], "ipc_mode": options["--ipc"][0], "restart_policy": "no",
        "env": dict(record.env), "log_driver": "json-file", "log_options": dict(settings.LOG_OPTIONS),
        "labels": dict(text.split("=", 1) for text in options["--label"]),
        "device_requests": [{"driver": "", "count": -1, "capabilities": [["gpu"]], "options": {}}],
        "mounts": [
            {"type": "bind", "source": m["source"], "target": m["target"], "read_only": "readonly" in m}
            for m in mounts
        ],
    }  # fmt: skip


def ansible(
    root: Path, fleet: FleetDirectory, config: Path, names: tuple[str, ...], as_default: bool = False
) -> Command:
    """Return the check of a playbook over a warm SSH connection, with a fork for each host and pipelining.

    ``as_default``: with default settings instead.
    """
    book = playbook(root, desired_state(fleet), as_default)
    inventory = root / f"hosts-{len(names)}-{config.stem}"
    (root / "ansible.cfg").write_text("")  # not the user's own
    inventory.write_text("".join(f"{name}\n" for name in names))
    env = {
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3", "ANSIBLE_HOME": str(root / "home"),
        "ANSIBLE_SSH_ARGS": f"-F {config} -C -o ControlMaster=auto -o ControlPersist=600s",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": CONTROL, "ANSIBLE_SSH_CONTROL_PATH": "%(directory)s/%%C",
    }  # fmt: skip
    if not as_default:
        env |= {"ANSIBLE_FORKS": str(max(5, len(names))), "ANSIBLE_PIPELINING": "True"}
    args = (str(VENV / "bin" / "ansible-playbook"), "-i", str(inventory), "--check", "--diff", str(book))
    return Command(args, root, tuple(env.items()), is_valid=_ansible_found_nothing)


def close_connections(config: Path, names: tuple[str, ...]) -> None:
    """End the warm connections."""
    for name in names:
        args = ["ssh", "-F", str(config), "-o", f"ControlPath={CONTROL}/%C", "-O", "exit", name]
        subprocess.run(args, capture_output=True, check=False)


def _ansible_found_nothing(text: str) -> bool:
    recap = text[text.rfind("PLAY RECAP") :].splitlines()[1:]
    rows = [row for row in recap if "ok=" in row]
    return bool(rows) and all(
        "changed=0" in row and "failed=0" in row and "unreachable=0" in row for row in rows
    )


_STOCK = """\
from pathlib import Path

from pyinfra import host
from pyinfra.facts.files import FindFiles
from pyinfra.operations import docker, files, systemd

STATE = {state!r}

for path, mode, user, group in STATE["directories"]:
    files.directory(name=path, path=path, mode=mode, user=user, group=group, _sudo=True)
for source, path, mode in STATE["files"]:
    files.put(name=path, src=source, dest=path, mode=mode, user="root", group="root", _sudo=True)
docker.image(name="Image", image=STATE["image"], _sudo=True)
found = host.get_fact(FindFiles, path=STATE["blobs"], _sudo=True)
if set(STATE["weights"]) - {{Path(path).name for path in found or ()}}:
    files.download(name="Weights", src="https://example.org/model", dest=STATE["blobs"])
docker.container(
    name="Container", container=STATE["name"], image=STATE["image"], command=STATE["command"],
    networks=["host"], env_vars=STATE["env"], _sudo=True,
)
systemd.service(name="Unit", service=STATE["unit"], running=True, enabled=True, _sudo=True)
"""


def stock(fleet: FleetDirectory) -> Command:
    """Return the dry run of a straightforward deploy with pyinfra's own operations."""
    state = desired_state(fleet)
    container = _container(state)
    data = {
        "directories": [(_USER.expand(d.path), d.mode, d.user, d.group) for d in state.directories],
        "files": [(str(path), to, "644") for to, path in write_files(fleet.root / "files", state).items()],
        "image": container["image"], "name": container["name"], "command": " ".join(container["command"][:2]),
        "env": [f"{name}={value}" for name, value in container["env"].items()],
        "blobs": state.blobs, "weights": [file.blob for file in state.service.weights.files],
        "unit": state.generation.unit_name,
    }  # fmt: skip
    modes = {file.path: file.mode for file in state.files}
    data["files"] = [(source, to, modes[to].lstrip("0")) for source, to, _ in data["files"]]
    (fleet.root / "stock.py").write_text(_STOCK.format(state=data))
    args = (str(BIN / "pyinfra"), str(fleet.inventory), "stock.py", "--dry")
    return Command(args, fleet.root, is_valid=_stock_found_nothing)


def _stock_found_nothing(text: str) -> bool:
    table = text.partition("Conditional Change")[2].partition("\n\n")[0].splitlines()
    rows = [row.split() for row in table if row.strip()]
    return bool(rows) and all(row[-2:] == ["-", "-"] for row in rows)


def bare(fleet: FleetDirectory) -> Command:
    """Return pyinfra running one command on each host and nothing else."""
    return Command((str(BIN / "pyinfra"), str(fleet.inventory), "exec", "-y", "--", "true"), fleet.root)
