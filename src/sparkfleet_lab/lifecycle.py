"""``up`` and ``down``: create a lab and remove it."""

from __future__ import annotations

import dataclasses
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab import images, keys, machines, services
from sparkfleet_lab.base import make_base
from sparkfleet_lab.build import build
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.engine_images import registry_with_engines
from sparkfleet_lab.names import IMAGES, LABEL, Lab
from sparkfleet_lab.networks import make_networks, make_ring
from sparkfleet_lab.state import Machine, State, read_state, write_state
from sparkfleet_lab.warm import make as make_warm

Report = Callable[[str], None]
RING = 3
MAX_SPARKS = 60
"""Limited by the address plan; memory runs out earlier (about 120 MB a machine)."""


def up(  # noqa: PLR0917
    docker: Docker,
    lab: Lab,
    sparks: int,
    report: Report,
    warm: bool = False,
    ring: bool = False,
    containerd: bool = False,
) -> State:
    """Return a lab with that many running machines; those that run already are not changed.

    The first start builds the images (minutes); later starts reuse them (seconds). ``warm``:
    machines that are created from now on have the engine images. ``ring``: three machines without a switch.
    ``containerd``: machines that are created from now on have Docker's containerd image store, and no images.
    """
    if not 0 < sparks <= MAX_SPARKS:
        raise SparkfleetError(
            Diagnostic(
                "--sparks",
                f"{sparks} Sparks",
                f"1 to {MAX_SPARKS}",
                "sparkfleet lab up --sparks 2",
                code="lab-argument-invalid",
            )
        )
    if ring and sparks != RING:
        raise SparkfleetError(
            Diagnostic(
                "--ring", f"{sparks} Sparks", f"{RING}", f"--sparks {RING}", code="lab-argument-invalid"
            )
        )
    docker.require()
    state = read_state(lab)
    if state is None:
        state = _create(docker, lab, report, ring=ring)
    else:
        _require_topology(lab, state, ring=ring)
        _require_complete(docker, lab, state)
    names = [f"spark-{number:02}" for number in range(1, sparks + 1)]
    existing = {machine.name for machine in state.machines}
    added = tuple(_machine(name, containerd=containerd) for name in names if name not in existing)
    if containerd and added and not state.containerd_image:
        image = _containerd_image(docker, state, report)
        state = dataclasses.replace(state, containerd_image=image)
    state = dataclasses.replace(
        state, machines=tuple(sorted((*state.machines, *added), key=lambda machine: machine.name))
    )
    write_state(lab, state)
    first = next((one for one in state.machines if not one.containerd), None)
    if warm and first and not state.warm_volume:
        _ensure(docker, lab, state, first)
        report("pulling the engine images once, for all machines")
        volume = make_warm(
            docker, lab, state, lab.container(first.name), machines.docker_volume(lab, first.name)
        )
        state = dataclasses.replace(state, warm_volume=volume)
        write_state(lab, state)
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda machine: _ensure(docker, lab, state, machine), state.machines))
    for role in (services.REGISTRY, services.HUB):
        services.wait_for(lab, state, role)
    if added:
        report(f"{len(added)} Spark{'s' if len(added) > 1 else ''} up: {', '.join(m.name for m in added)}")
    return state


def down(docker: Docker, lab: Lab, also_images: bool, report: Report) -> None:
    """Remove every container, network, volume and file of the lab, and report what was removed."""
    docker.require()
    missing = _remove_all(docker, lab)
    if lab.directory.exists():
        shutil.rmtree(lab.directory)
        if not any(lab.directory.parent.iterdir()):
            lab.directory.parent.rmdir()
    report(f"removed {', '.join(missing)} and {lab.directory}")
    images = docker.lines(
        "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={IMAGES}/*"
    )
    if also_images and images:
        docker.run("image", "rm", *images)
        report(f"removed {len(images)} images")
    elif images:
        report(f"kept {len(images)} images for the next time (sparkfleet lab down --images removes them)")


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _create(docker: Docker, lab: Lab, report: Report, *, ring: bool) -> State:
    """Return a lab without machines: images, networks, keys, registry and hub."""
    _remove_all(docker, lab)  # left by an interrupted start
    base = make_base(docker, report)
    spark_image = build(docker, images.spark(base), base.apt, report, "systemd, sshd and dockerd (1 minute)")
    registry_image, refs = registry_with_engines(docker, base, report)
    hub_image = build(docker, images.hub(base), base.apt, report, "the hub and its synthetic models")
    lan, fabric, twin = make_networks(docker, lab)
    state = State(
        lan=lan, fabric=fabric, twin=twin, spark_image=spark_image,
        privileges=machines.find_privileges(docker, spark_image), registry_port=free_port(),
        registry_image=registry_image, hub_image=hub_image, images=refs,
        ring=make_ring(docker, lab) if ring else (),
    )  # fmt: skip
    lab.directory.mkdir(parents=True, exist_ok=True)
    login = keys.ssh_key()
    private = lab.directory / "id_ed25519"
    private.write_text(login.private)
    private.chmod(0o600)
    (lab.directory / "id_ed25519.pub").write_text(f"{login.public} sparkfleet-lab\n")
    names = (*machines.REGISTRY_NAMES, "localhost")
    certificates = keys.certificates(names, ("127.0.0.1", state.registry_ip))
    (lab.directory / "ca.pem").write_text(certificates.authority)
    services.start_registry(docker, lab, state, certificates)
    services.start_hub(docker, lab, state)
    write_state(lab, state)
    return state


def _remove_all(docker: Docker, lab: Lab) -> list[str]:
    """Remove every container, volume and network of the lab; return how many of each."""
    mine = f"label={LABEL}={lab.prefix}"
    missing = []
    for kind, listing, removal in (
        ("containers", ("ps", "-aq"), ("rm", "-f", "-v")),
        ("volumes", ("volume", "ls", "-q"), ("volume", "rm", "-f")),
        ("networks", ("network", "ls", "-q"), ("network", "rm")),
    ):
        found = docker.lines(*listing, "--filter", mine)
        if found:
            docker.run(*removal, *found)
        missing.append(f"{len(found)} {kind}")
    return missing


def _require_complete(docker: Docker, lab: Lab, state: State) -> None:
    """Start registry and hub if they are stopped; fail if a part that machines need is missing."""
    networks = (state.lan, state.fabric, state.twin, *state.ring)
    missing = [one.name for one in networks if docker.inspect("network", one.name) is None]
    for role in (services.REGISTRY, services.HUB):
        container = docker.inspect("container", lab.container(role))
        if container is None:
            missing.append(lab.container(role))
        elif not container["State"]["Running"]:
            docker.run("start", lab.container(role))
    if missing:
        raise SparkfleetError(
            Diagnostic(
                str(lab.directory),
                f"parts of the lab are missing: {', '.join(missing)}",
                "everything that sparkfleet lab up created",
                "sparkfleet lab down; sparkfleet lab up",
                code="lab-not-up",
            )
        )


def _require_topology(lab: Lab, state: State, *, ring: bool) -> None:
    if bool(state.ring) != ring:
        found, expected = ("in a ring", "at a switch") if state.ring else ("at a switch", "in a ring")
        remedy = "sparkfleet lab down, then up again"
        raise SparkfleetError(
            Diagnostic(
                f"lab {lab.name}", f"its machines are {found}", expected, remedy, code="lab-argument-invalid"
            )
        )


def _containerd_image(docker: Docker, state: State, report: Report) -> str:
    apt = make_base(docker, report).apt
    newer = apt.with_newer
    found = docker.inspect("image", state.spark_image) or {}
    definition = images.containerd_spark(state.spark_image, str(found.get("Id")), debian=newer != apt)
    return build(docker, definition, newer, report, "a newer Docker with the containerd image store")


def _machine(name: str, *, containerd: bool) -> Machine:
    key = keys.ssh_key()
    number = int(name.rsplit("-", 1)[1])
    return Machine(name, number, free_port(), key.public, key.private, containerd)


def _ensure(docker: Docker, lab: Lab, state: State, machine: Machine) -> None:
    container = docker.inspect("container", lab.container(machine.name))
    if container is None:
        machines.remove_machine(docker, lab, machine.name)
        machines.start_machine(docker, lab, state, machine)
    elif not container["State"]["Running"]:
        docker.run("start", lab.container(machine.name))
    machines.wait_until_up(docker, lab, machine)
