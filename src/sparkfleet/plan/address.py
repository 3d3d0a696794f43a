"""Where a service answers, as far as the declaration says it."""

from __future__ import annotations

from sparkfleet import engines
from sparkfleet.desired_state import Host, Service


def service_url(host: Host, service: Service) -> str:
    """Return the URL of a service's API; "" for a rank that serves none.

    The address is that of the SSH connection: a name of ssh_config, which other programs may not resolve, is
    shown as declared.
    """
    if host.member is not None and host.member.rank and host.member.service == service.name:
        return ""
    hostname = str(dict(host.ssh).get("ssh_hostname") or host.name)
    if hostname.startswith("@"):  # pyinfra's name of this machine
        hostname = "127.0.0.1"
    secure = engines.on_host(service.engine).uses_tls([f"--{name}" for name, _ in service.flags])
    shown = f"[{hostname}]" if ":" in hostname else hostname
    return f"http{'s' if secure else ''}://{shown}:{service.port}/v1"
