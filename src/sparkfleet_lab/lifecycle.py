"""``up`` and ``down``: from nothing to a lab, and back to nothing."""

from __future__ import annotations

import dataclasses
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.errors import SparkfleetError
from sparkfleet_lab import images, keys, machines, services
from sparkfleet_lab.base import make_base
from sparkfleet_lab.build import build
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.engine_images import registry_with_engines
from sparkfleet_lab.names import IMAGES, LABEL, Lab
from sparkfleet_lab.networks import make_networks, make_ring
from sparkfleet_lab.state import Machine, State, read_state, write_state
from sparkfleet_lab.warm import make as make_warm

Say = Callable[[str], None]
RING = 3
MOST_SPARKS = 60
"""As many as addresses were set aside for; memory ends earlier (about 120 MB a machine)."""


def up(  # noqa: PLR0917
    docker: Docker, lab: Lab, sparks: int, say: Say, warm: bool = False, ring: bool = False
) -> State:
    """Return a lab with that many machines, each up; what is up already stays as it is.

    The first start builds the images (minutes); later starts reuse them (seconds). ``warm``:
    machines that are made from now on have the engine images. ``ring``: three machines without a switch.
    """
    if not 0 < sparks <= MOST_SPARKS:
        raise SparkfleetError(
            Diagnostic(
                "--sparks",
                f"{sparks} Sparks",
                f"1 to {MOST_SPARKS}",
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
        state = _begin(docker, lab, say, ring=ring)
    else:
        _require_wired(lab, state, ring=ring)
        _require_whole(docker, lab, state)
    names = [f"spark-{number:02}" for number in range(1, sparks + 1)]
    there = {machine.name for machine in state.machines}
    fresh = tuple(_machine(name) for name in names if name not in there)
    state = dataclasses.replace(
        state, machines=tuple(sorted((*state.machines, *fresh), key=lambda machine: machine.name))
    )
    write_state(lab, state)
    if warm and not state.warm_volume:
        first = state.machines[0]
        _ensure(docker, lab, state, first)
        say("pulling the engine images once, for all machines")
        volume = make_warm(
            docker, lab, state, lab.container(first.name), machines.docker_volume(lab, first.name)
        )
        state = dataclasses.replace(state, warm_volume=volume)
        write_state(lab, state)
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda machine: _ensure(docker, lab, state, machine), state.machines))
    for role in (services.REGISTRY, services.HUB):
        services.wait_for(lab, state, role)
    if fresh:
        say(f"{len(fresh)} Spark{'s' if len(fresh) > 1 else ''} up: {', '.join(m.name for m in fresh)}")
    return state


def down(docker: Docker, lab: Lab, also_images: bool, say: Say) -> None:
    """Remove every container, network, volume and file of the lab, and say what went."""
    docker.require()
    gone = _sweep(docker, lab)
    if lab.directory.exists():
        shutil.rmtree(lab.directory)
        if not any(lab.directory.parent.iterdir()):
            lab.directory.parent.rmdir()
    say(f"removed {', '.join(gone)} and {lab.directory}")
    images = docker.lines(
        "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={IMAGES}/*"
    )
    if also_images and images:
        docker.run("image", "rm", *images)
        say(f"removed {len(images)} images")
    elif images:
        say(f"kept {len(images)} images for the next time (sparkfleet lab down --images removes them)")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _begin(docker: Docker, lab: Lab, say: Say, *, ring: bool) -> State:
    """Return a lab without machines: images, networks, keys, registry and hub."""
    _sweep(docker, lab)  # what an interrupted start left behind
    base = make_base(docker, say)
    spark_image = build(docker, images.spark(base), base.apt, say, "systemd, sshd and dockerd (1 minute)")
    registry_image, refs = registry_with_engines(docker, base, say)
    hub_image = build(docker, images.hub(base), base.apt, say, "the hub and its made-up models")
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


def _sweep(docker: Docker, lab: Lab) -> list[str]:
    """Remove every container, volume and network of the lab; return how many of each."""
    mine = f"label={LABEL}={lab.prefix}"
    gone = []
    for kind, listing, removal in (
        ("containers", ("ps", "-aq"), ("rm", "-f", "-v")),
        ("volumes", ("volume", "ls", "-q"), ("volume", "rm", "-f")),
        ("networks", ("network", "ls", "-q"), ("network", "rm")),
    ):
        found = docker.lines(*listing, "--filter", mine)
        if found:
            docker.run(*removal, *found)
        gone.append(f"{len(found)} {kind}")
    return gone


def _require_whole(docker: Docker, lab: Lab, state: State) -> None:
    """Start registry and hub if they are stopped; an error when a part that machines need is gone."""
    networks = (state.lan, state.fabric, state.twin, *state.ring)
    gone = [one.name for one in networks if docker.inspect("network", one.name) is None]
    for role in (services.REGISTRY, services.HUB):
        seen = docker.inspect("container", lab.container(role))
        if seen is None:
            gone.append(lab.container(role))
        elif not seen["State"]["Running"]:
            docker.run("start", lab.container(role))
    if gone:
        raise SparkfleetError(
            Diagnostic(
                str(lab.directory),
                f"parts of the lab are gone: {', '.join(gone)}",
                "all that sparkfleet lab up made",
                "sparkfleet lab down; sparkfleet lab up",
                code="lab-not-up",
            )
        )


def _require_wired(lab: Lab, state: State, *, ring: bool) -> None:
    if bool(state.ring) != ring:
        found, expected = ("in a ring", "at a switch") if state.ring else ("at a switch", "in a ring")
        remedy = "sparkfleet lab down, then up again"
        raise SparkfleetError(
            Diagnostic(
                f"lab {lab.name}", f"its machines are {found}", expected, remedy, code="lab-argument-invalid"
            )
        )


def _machine(name: str) -> Machine:
    key = keys.ssh_key()
    return Machine(name, int(name.rsplit("-", 1)[1]), free_port(), key.public, key.private)


def _ensure(docker: Docker, lab: Lab, state: State, machine: Machine) -> None:
    seen = docker.inspect("container", lab.container(machine.name))
    if seen is None:
        machines.remove_machine(docker, lab, machine.name)
        machines.start_machine(docker, lab, state, machine)
    elif not seen["State"]["Running"]:
        docker.run("start", lab.container(machine.name))
    machines.wait_until_up(docker, lab, machine)
