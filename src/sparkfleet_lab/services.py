"""Servers that the machines use: a registry under the real registries' names, and the hub."""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet_lab.content import Entry, tar_of
from sparkfleet_lab.docker import Docker
from sparkfleet_lab.keys import Certificates
from sparkfleet_lab.names import LABEL, Lab
from sparkfleet_lab.state import State

REGISTRY = "registry"
HUB = "hub"
START_SECONDS = 20

_CONFIG = """\
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: /srv/registry}
  delete: {enabled: true}
http:
  addr: 0.0.0.0:443
  tls: {certificate: /etc/lab/registry.pem, key: /etc/lab/registry.key}
"""


def start_registry(docker: Docker, lab: Lab, state: State, certificates: Certificates) -> None:
    """Start the registry, with what was pushed into its image."""
    container = lab.container(REGISTRY)
    docker.run(
        "create", "--name", container, "--hostname", REGISTRY,
        *_common(lab, state, REGISTRY, state.registry_ip),
        "-p", f"127.0.0.1:{state.registry_port}:443",
        state.registry_image, "docker-registry", "serve", "/etc/lab/registry.yml",
    )  # fmt: skip
    files = (
        Entry("etc/lab/registry.yml", _CONFIG.encode()),
        Entry("etc/lab/registry.pem", certificates.certificate.encode()),
        Entry("etc/lab/registry.key", certificates.key.encode(), 0o600),
    )
    docker.run("cp", "-", f"{container}:/", stdin=tar_of(files))
    docker.run("start", container)


def start_hub(docker: Docker, lab: Lab, state: State) -> None:
    """Start the hub."""
    docker.run(
        "run", "-d", "--name", lab.container(HUB), "--hostname", HUB,
        *_common(lab, state, HUB, state.lan.address(3)), state.hub_image,
    )  # fmt: skip


def wait_for(lab: Lab, state: State, role: str) -> None:
    """Return when the registry or the hub answers."""
    if role == REGISTRY:
        _wait(f"{state.registry_url}/v2/", ssl.create_default_context(cafile=str(lab.directory / "ca.pem")))
    else:
        _wait(f"{state.hub_url}/__lab__/counters")


def _wait(url: str, trust: ssl.SSLContext | None = None) -> None:
    """Return when the URL responds; any HTTP status counts."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=2, context=trust).close()  # noqa: S310  (a URL of the lab's own)
        except urllib.error.HTTPError:
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SparkfleetError(
                    Diagnostic(
                        url,
                        f"no answer: {error}",
                        "registry and hub of the lab",
                        "sparkfleet lab status",
                        code="lab-failed",
                    )
                ) from None
            time.sleep(0.1)
        else:
            return


def _common(lab: Lab, state: State, role: str, address: str) -> tuple[str, ...]:
    return (
        "--label", f"{LABEL}={lab.prefix}", "--label", f"{LABEL}.role={role}", "--stop-timeout", "1",
        "--network", state.lan.name, "--ip", address,
    )  # fmt: skip
