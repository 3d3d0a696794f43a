"""Why a host is unreachable: the address, the cause and the remedy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paramiko import SSHConfig
from paramiko.ssh_exception import ConfigParseError, NoValidConnectionsError

from sparkfleet.contract.diagnostic import Diagnostic

DEFAULT_PORT = 22


@dataclass(frozen=True)
class Address:
    """How a Spark is reached: pyinfra's host data, completed from the SSH configuration."""

    host: str
    """Argument of ``ssh``: the address in the host file, or the Spark's name."""
    hostname: str
    port: int
    has_port: bool = False
    """Whether the port is set in the host file rather than in the SSH configuration."""
    user: str = ""
    config_file: str = ""
    known_hosts_file: str = ""
    key: str = ""

    @property
    def text(self) -> str:
        """Return ``address:port``, for IPv6 ``[address]:port``."""
        return f"[{self.hostname}]:{self.port}" if ":" in self.hostname else f"{self.hostname}:{self.port}"

    @property
    def known_name(self) -> str:
        """Return the Spark's name in known_hosts."""
        return self.hostname if self.port == DEFAULT_PORT else f"[{self.hostname}]:{self.port}"

    def ssh(self, command: str = "ssh") -> str:
        """Return the command line that connects as pyinfra does."""
        argv = [command]
        argv += ["-F", self.config_file] if self.config_file else []
        argv += (
            ["-o", f"UserKnownHostsFile={self.known_hosts_file}"]
            if self.known_hosts_file and not self.config_file
            else []
        )
        argv += ["-i", self.key] if self.key else []
        argv += ["-p", str(self.port)] if self.has_port else []
        return shlex.join([*argv, f"{self.user}@{self.host}" if self.user else self.host])


def address_of(name: str, data: Mapping[str, Any]) -> Address:
    """Return the address of a Spark by its name and pyinfra's host data."""
    host = str(data.get("ssh_hostname") or name)
    config_file = str(data.get("ssh_config_file") or "")
    known = _configured(host, config_file)
    return Address(
        host=host,
        hostname=known.get("hostname", host),
        port=int(data.get("ssh_port") or known.get("port") or DEFAULT_PORT),
        has_port=bool(data.get("ssh_port")),
        user=str(data.get("ssh_user") or ""),
        config_file=config_file,
        known_hosts_file=str(data.get("ssh_known_hosts_file") or ""),
        key=str(data.get("ssh_key") or ""),
    )


def _configured(host: str, config_file: str) -> Mapping[str, str]:
    path = Path(config_file or "~/.ssh/config").expanduser()
    try:
        return dict(SSHConfig.from_path(str(path)).lookup(host))
    except (OSError, UnicodeDecodeError, ConfigParseError):
        return {}


def _cause(found: str, hint: str, expected: str = "", *, code: str = "ssh-unreachable") -> Diagnostic:
    return Diagnostic("", found, expected, hint, code=code)


_CAUSES: Mapping[str, Diagnostic] = {
    r"does not match": _cause(
        "its SSH host key differs from the one in known_hosts",
        "compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the Spark's own console; "
        "if it is right: {forget}; {ssh} true",
        "the host key that was accepted before",
        code="ssh-host-key-changed",
    ),
    # Without a terminal, pyinfra's question about the key ends with the latter.
    r"No host key for|not found in known_hosts|EOF when reading a line": _cause(
        "its SSH host key is not known",
        "{ssh} true, and compare the key that it asks about",
        "a host key in known_hosts",
        code="ssh-host-key-unknown",
    ),
    r"Administratively prohibited": _cause(
        "its jump host refuses to forward the connection",
        "on the jump host: sudo grep -ri forwarding /etc/ssh/sshd_config*; then: {ssh} true",
        "AllowTcpForwarding yes (the default) on the jump host",
        code="ssh-forwarding-denied",
    ),
    r"Connect failed": _cause(
        "its jump host cannot connect to it",
        "from the jump host: ping {hostname}; then: {ssh} true",
        "an SSH server on port {port}",
    ),
    r"Authentication error|[Nn]o authentication methods|not a valid .*private key": _cause(
        "SSH refused the login",
        "{copy_id}; or set `ssh: {{user: ..., key: ...}}` in the host file",
        "a login by key",
        code="ssh-login-refused",
    ),
    r"resolve hostname": _cause(
        "the name {hostname} could not be resolved",
        "set `ssh: {{hostname: ADDRESS}}` in the host file",
        "an address",
        code="ssh-name-unresolved",
    ),
    r"protocol banner|EOF error|[Cc]onnection reset": _cause(
        "the server closed the connection before an SSH banner",
        "on the Spark's own console: systemctl status ssh; then: {ssh} true",
        "an SSH server",
    ),
    r"No existing session": _cause(
        "the server accepted the connection but sent no SSH banner in time",
        "on the Spark's own console: systemctl status ssh; uptime; then: {ssh} true",
        "an SSH server",
    ),
    r"timed? ?out": _cause(
        "no answer: the connection timed out",
        "check that it is on and connected: ping {hostname}; then: {ssh} true",
    ),
    r"No route|unreachable|Host is down": _cause(
        "no answer: no route to the host",
        "check that it is on and connected: ping {hostname}; then: {ssh} true",
    ),
    r"refused|Unable to connect to port": _cause(
        "SSH connection refused",
        "check that it is on, then on its own console: systemctl status ssh; then from here: {ssh} true",
        "an SSH server on port {port}",
    ),
}
"""Regular expression for the messages of pyinfra and paramiko -> template; the first match is used."""


def _texts(error: Exception) -> Iterator[str]:
    """Yield the texts of an error; paramiko has those of single addresses in an attribute."""
    yield from map(str, error.args)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, NoValidConnectionsError):
        yield from dict.fromkeys(str(one) for one in cause.errors.values())


def connect_diagnostic(name: str, data: Mapping[str, Any], error: Exception) -> Diagnostic:
    """Return why a connection failed, with the address and the next command."""
    address = address_of(name, data)
    text = " ".join(_texts(error)) or type(error).__name__
    forget = shlex.join(
        ["ssh-keygen", *(["-f", address.known_hosts_file] if address.known_hosts_file else ()), "-R"]
    )
    parts = {
        "hostname": address.hostname,
        "port": str(address.port),
        "ssh": address.ssh(),
        "copy_id": address.ssh("ssh-copy-id"),
        "forget": f"{forget} {shlex.quote(address.known_name)}",
    }
    for pattern, cause in _CAUSES.items():
        if re.search(pattern, text):
            return replace(
                cause,
                location=name,
                message=f"{cause.message.format(**parts)} ({address.text})",
                expected=cause.expected.format(**parts),
                hint=cause.hint.format(**parts),
            )
    return Diagnostic(name, f"{text} ({address.text})", hint=f"{address.ssh()} true", code="ssh-unreachable")
