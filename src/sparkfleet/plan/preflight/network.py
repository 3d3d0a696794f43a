"""Rows on the network: from the Spark to its registries, to the hub, and to other Sparks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host
from sparkfleet.plan.fabric import blockers
from sparkfleet.plan.fabric.addresses import rails
from sparkfleet.plan.preflight.model import Check, failed, incomplete, of, warned
from sparkfleet.probe.preflight import ObservedPreflight, Reached, Unread, WaitingProfile

HUB = "https://huggingface.co"
DOCKER_HUB = "registry-1.docker.io"
"""The registry of docker.io."""
_REMEDIES = {
    "dns": "resolvectl status; a name server for the management link",
    "connect": "ip route; curl -v {url}; a firewall or a proxy between?",
    "time": "ip route; curl -v {url}; a firewall or a proxy between?",
    "tls": "curl -v {url}; the certificate authority of a proxy: /usr/local/share/ca-certificates, then "
    "sudo update-ca-certificates",
    "http": "curl -v {url}",
}


def urls(host: Host) -> Mapping[str, str]:
    """Return the URLs to test from the Spark with their names; none if offline is declared."""
    if host.prepare.offline or not host.services:
        return {}
    images = (service.image for service in host.services)
    names = dict.fromkeys(image.repository.split("/", 1)[0] for image in images if image)
    registries = {
        f"https://{DOCKER_HUB if name == 'docker.io' else name}/v2/": f"registry {name}" for name in names
    }
    return {**registries, f"{(host.hf_endpoint or HUB).rstrip('/')}/": "hub"}


def rows(host: Host, observed: ObservedPreflight) -> Iterator[Check]:
    """Yield a row for the links of a cluster's member, and one for each URL."""
    yield from _links(host, observed)
    if host.prepare.offline:
        yield Check("network", "declared offline: registries and hub are not contacted")
        return
    for url, what in urls(host).items():
        if isinstance(observed.reach, Unread):
            yield incomplete(what, observed.reach.error)
        else:
            yield _row(what, url, observed.reach.get(url, Reached(False, "time", "not tested")))


def profile_rows(host: Host, observed: ObservedPreflight) -> Iterator[Check]:
    """Yield a row for each profile of NetworkManager that asks for an address on a QSFP cage in vain."""
    if isinstance(observed.profiles, Unread):
        yield incomplete("NetworkManager", observed.profiles.error)
        return
    for one in observed.profiles.waiting:
        found = f"{one.name!r} asks for an address by DHCP on {one.link}, and gets none"
        expected = "no DHCP on a QSFP cage: nobody answers there, and NetworkManager tries again every 45 s"
        yield warned(
            "NetworkManager", found, expected, _profile_remedy(host, one), code="network-profile-waits"
        )


def _profile_remedy(host: Host, profile: WaitingProfile) -> str:
    if host.member:
        return "pyinfra INVENTORY deploys/fabric.py gives the link its address"
    if PurePosixPath(profile.path).name.startswith("netplan-"):
        return (
            f"on {host.name}: set `dhcp4: false` for {profile.link} in its file in /etc/netplan, then: "
            "sudo netplan generate && sudo nmcli connection reload"
        )
    return (
        f"on {host.name}: sudo nmcli connection modify {profile.uuid} ipv4.method disabled ipv6.method "
        f"disabled && sudo nmcli connection up {profile.uuid}"
    )


def _links(host: Host, observed: ObservedPreflight) -> Iterator[Check]:
    name = "fabric links"
    if host.member is None:
        return
    fabric = None if isinstance(observed.state, Diagnostic) else observed.state.fabric
    if fabric is None:
        yield incomplete(name, "they could not be read")
        return
    found = rails(host.member, fabric)
    missing = blockers.no_cable(host.name, host.member, fabric, found)
    yield of(name, missing) if missing else Check(name, ", ".join(rail.link.name for rail in found))


def _row(what: str, url: str, reached: Reached) -> Check:
    if reached.ok:
        return Check(what, f"{url} answers {reached.detail} in {reached.ms} ms")
    hint = f"{_REMEDIES[reached.step].format(url=url)}; or declare `prepare: {{offline: true}}`"
    return failed(what, f"{url}: {reached.detail}", "a response", hint, code="network-unreachable")
