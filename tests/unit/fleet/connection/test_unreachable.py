"""A failed connection is reported with its address, its cause and the next command."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from paramiko.ssh_exception import NoValidConnectionsError
from pyinfra.api.exceptions import ConnectError

from sparkfleet.fleet.connection.unreachable import address_of, connect_diagnostic

MESSAGES = {
    "SSH host key error (Host key for 10.0.0.9 does not match.)": (
        "its SSH host key differs from the one in known_hosts",
        "ssh-keygen -R '[10.0.0.9]:2222'",
        "ssh-host-key-changed",
    ),
    "SSH error (No host key for 10.0.0.9 found in known_hosts)": (
        "its SSH host key is not known",
        "compare",
        "ssh-host-key-unknown",
    ),
    "EOF error (EOF when reading a line)": (
        "its SSH host key is not known",
        "compare",
        "ssh-host-key-unknown",
    ),
    "SSH error (ChannelException(1, 'Administratively prohibited'))": (
        "its jump host refuses to forward the connection",
        "sudo grep -ri forwarding /etc/ssh/sshd_config*",
        "ssh-forwarding-denied",
    ),
    "SSH error (ChannelException(2, 'Connect failed'))": (
        "its jump host cannot connect to it",
        "from the jump host: ping 10.0.0.9",
        "ssh-unreachable",
    ),
    "Authentication error (username=nvidia) (Authentication failed.)": (
        "SSH refused the login",
        "ssh-copy-id -F /dev/null -p 2222 10.0.0.9",
        "ssh-login-refused",
    ),
    "Could not resolve hostname ([Errno -2] Name or service not known)": (
        "the name 10.0.0.9 could not be resolved",
        "hostname: ADDRESS",
        "ssh-name-unresolved",
    ),
    "SSH error (Error reading SSH protocol banner[Errno 104] Connection reset by peer)": (
        "closed the connection before an SSH banner",
        "systemctl status ssh",
        "ssh-unreachable",
    ),
    "Could not connect (timed out)": (
        "no answer: the connection timed out",
        "ping 10.0.0.9",
        "ssh-unreachable",
    ),
    "Could not connect ([Errno None] Unable to connect to port 2222 on 10.0.0.9)": (
        "SSH connection refused",
        "ssh -F /dev/null -p 2222 10.0.0.9 true",
        "ssh-unreachable",
    ),
    "EOF error ()": ("closed the connection before an SSH banner", "systemctl status ssh", "ssh-unreachable"),
    "SSH error (No existing session)": (
        "sent no SSH banner in time",
        "systemctl status ssh",
        "ssh-unreachable",
    ),
    "something new": ("something new", "ssh -F /dev/null -p 2222 10.0.0.9 true", "ssh-unreachable"),
}


@pytest.mark.provokes(
    "ssh-unreachable",
    "ssh-host-key-changed",
    "ssh-host-key-unknown",
    "ssh-login-refused",
    "ssh-name-unresolved",
)
@pytest.mark.parametrize("output", MESSAGES)
def test_each_cause_has_its_message_its_address_and_its_remedy(output: str) -> None:
    found, remedy, code = MESSAGES[output]
    data = {"ssh_hostname": "10.0.0.9", "ssh_port": 2222, "ssh_config_file": "/dev/null"}
    diagnostic = connect_diagnostic("spark-01", data, ConnectError(output))
    assert (diagnostic.location, diagnostic.code) == ("spark-01", code)
    assert found in diagnostic.message
    assert diagnostic.message.endswith("(10.0.0.9:2222)")
    assert remedy in diagnostic.hint


@pytest.mark.parametrize(
    ("number", "found", "remedy"),
    [
        (errno.ECONNREFUSED, "SSH connection refused (10.0.0.9:22)", "systemctl status ssh"),
        (errno.EHOSTUNREACH, "no answer: no route to the host (10.0.0.9:22)", "check that it is on"),
    ],
)
def test_a_host_that_does_not_answer_has_refused_nothing(number: int, found: str, remedy: str) -> None:
    """Paramiko has one text for both, and the reasons by address."""
    failed = NoValidConnectionsError({("10.0.0.9", 22): OSError(number, os.strerror(number))})
    error = ConnectError(f"Could not connect ({failed})")
    error.__context__ = failed
    diagnostic = connect_diagnostic("spark-01", {"ssh_hostname": "10.0.0.9", "ssh_port": 22}, error)
    assert diagnostic.message == found
    assert remedy in diagnostic.hint


def test_address_and_port_come_from_the_ssh_configuration_that_the_fleet_uses(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host spark-*\n  HostName 10.0.0.9\n  Port 2201\n")
    address = address_of("spark-01", {"ssh_config_file": str(config)})
    assert (address.text, address.known_name) == ("10.0.0.9:2201", "[10.0.0.9]:2201")
    assert address.ssh() == f"ssh -F {config} spark-01"


@pytest.mark.parametrize(("port", "known"), [(22, "fe80::1"), (2222, "[fe80::1]:2222")])
def test_an_ipv6_address_is_separated_from_its_port(port: int, known: str) -> None:
    address = address_of("spark-01", {"ssh_hostname": "fe80::1", "ssh_port": port})
    assert (address.text, address.known_name) == (f"[fe80::1]:{port}", known)


def test_what_the_host_file_says_goes_before_the_ssh_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  Port 2201\n")
    data = {"ssh_config_file": str(config), "ssh_hostname": "10.0.0.9", "ssh_port": 22, "ssh_user": "nvidia"}
    address = address_of("spark-01", data)
    assert address.text == "10.0.0.9:22"
    assert address.ssh() == f"ssh -F {config} -p 22 nvidia@10.0.0.9"


def test_a_configuration_that_cannot_be_read_leaves_the_name(tmp_path: Path) -> None:
    assert address_of("spark-01", {"ssh_config_file": str(tmp_path / "none")}).text == "spark-01:22"
