from __future__ import annotations

import io
import socket
import ssl
import threading
from pathlib import Path

import paramiko
import pytest

from sparkfleet_lab.keys import certificates, ssh_key


def test_the_login_key_is_one_that_ssh_reads() -> None:
    key = ssh_key()
    read = paramiko.Ed25519Key.from_private_key(io.StringIO(key.private))
    assert key.public == f"ssh-ed25519 {read.get_base64()}"
    assert ssh_key().public != key.public


@pytest.mark.parametrize("name", ["nvcr.io", "10.1.2.3"])
def test_the_registrys_certificate_holds_for_its_names_and_addresses(tmp_path: Path, name: str) -> None:
    assert handshake(tmp_path, name) == "ok"


def test_the_registrys_certificate_does_not_hold_for_another_name(tmp_path: Path) -> None:
    assert "mismatch" in handshake(tmp_path, "example.com")


def handshake(tmp_path: Path, name: str) -> str:
    """Return "ok", or what a client says that trusts the authority and asks for ``name``."""
    made = certificates(("nvcr.io", "docker.io"), ("10.1.2.3",))
    (tmp_path / "key.pem").write_text(made.key)
    (tmp_path / "cert.pem").write_text(made.certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    near, far = socket.socketpair()

    def serve() -> None:
        with far:
            try:
                server.wrap_socket(far, server_side=True).close()
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client = ssl.create_default_context(cadata=made.authority)
        with near, client.wrap_socket(near, server_hostname=name):
            return "ok"
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        thread.join()
