"""Requests to an engine that serves HTTPS, over loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.onhost.machine.host import Spark
from sparkfleet.onhost.machine.system import HttpRequest
from sparkfleet_lab.keys import certificates

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=["whole", "drips", "no handshake"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Return how a server with a certificate for another name answers, and its port."""
    made = certificates(("engine.example",), ())
    for name, content in (("crt", made.certificate), ("key", made.key)):
        (tmp_path / name).write_text(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            if request.param == "no handshake":
                with connection:
                    over.wait(30)
                return
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(65536)
                parts = [RESPONSE] if request.param == "whole" else [RESPONSE[:20], *([b"x"] * 1000)]
                for part in parts:
                    secure.sendall(part)
                    if over.wait(0.02 if len(part) == 1 else 0):
                        return

    threading.Thread(target=serve, daemon=True).start()
    yield request.param, int(listener.getsockname()[1])
    over.set()
    listener.close()


def test_an_engine_with_any_certificate_is_asked_over_tls_within_the_time(engine: tuple[str, int]) -> None:
    how, port = engine
    began = time.monotonic()
    response = Spark().http(HttpRequest(port, "GET", "/", 5.0 if how == "whole" else 0.3, tls=True))
    if how == "whole":
        assert (response.status, response.body) == (200, "ok")
    else:
        assert (response.status, response.timed_out) == (0, True)
        assert time.monotonic() - began < 5


def test_an_engine_without_tls_is_an_error(tmp_path: Path) -> None:
    del tmp_path
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        response = Spark().http(HttpRequest(listener.getsockname()[1], "GET", "/", 5, tls=True))
    assert response.status == 0
    assert response.error
