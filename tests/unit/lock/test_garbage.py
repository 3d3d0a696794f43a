"""A registry that answers anything at all: each answer is an error that names it; none is read for ever."""

from __future__ import annotations

import gzip
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import httpx
import pytest

from sparkfleet import engines
from sparkfleet.config import image
from sparkfleet.desired_state import Mirror
from sparkfleet.lock import images
from sparkfleet.lock import registry as registry_module
from sparkfleet.lock.errors import RegistryError
from sparkfleet.lock.registry import Registry

OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
BOMB = gzip.compress(b" " * (64 << 20))


def sized(body: bytes, head: bytes = JSON) -> list[bytes]:
    return [head + b"Content-Length: %d\r\n\r\n" % len(body) + body]


GARBAGE: dict[str, Iterable[bytes]] = {
    "no HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "nothing": [],
    "a login page": sized(b"<html>Please log in</html>", OK + b"Content-Type: text/html\r\n"),
    "an empty body": sized(b""),
    "null": sized(b"null"),
    "a list": sized(b"[]"),
    "half a document": sized(b'{"manifests": ['),
    "bytes": sized(bytes(range(256))),
    "a document of endless depth": sized(b"[" * 100_000),
    "half a body": [JSON + b"Content-Length: 1000\r\n\r\n{}"],
    "a wrong length": [JSON + b"Content-Length: many\r\n\r\n{}"],
    "a body without an end": itertools.chain(
        [CHUNKED], itertools.repeat(b"10000\r\n" + b" " * 65536 + b"\r\n")
    ),
    "a chunk that is none": [CHUNKED + b"zz\r\n"],
    "another encoding": sized(b"{}", JSON + b"Content-Encoding: gzip\r\n"),
    "a bomb": sized(BOMB, JSON + b"Content-Encoding: gzip\r\n"),
    "a redirect to itself": [b"HTTP/1.1 307 Again\r\nLocation: /v2/\r\nContent-Length: 0\r\n\r\n"],
    "a redirect to nowhere": [b"HTTP/1.1 307 Go\r\nLocation: gopher://\r\nContent-Length: 0\r\n\r\n"],
    "a challenge that is none": [
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: \xff\xfe\r\nContent-Length: 0\r\n\r\n"
    ],
    "an unknown status": [b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"],
    "too many requests": [b"HTTP/1.1 429 Slow\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n"],
}


@pytest.fixture
def serve() -> Iterator[Callable[[Iterable[bytes]], str]]:
    """Return a server that answers each connection with these parts; the result is its URL."""
    listeners: list[socket.socket] = []

    def response(listener: socket.socket, parts: Iterable[bytes]) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    for part in parts:
                        connection.sendall(part)

    def start(parts: Iterable[bytes]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=response, args=(listener, parts), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("parts", GARBAGE.values(), ids=GARBAGE)
def test_whatever_a_registry_answers_is_an_error_that_names_it(
    serve: Callable[[Iterable[bytes]], str], monkeypatch: pytest.MonkeyPatch, parts: Iterable[bytes]
) -> None:
    monkeypatch.setattr(registry_module, "TIMEOUT", httpx.Timeout(20))
    connection = Registry({"nvcr.io": Mirror("nvcr.io", serve(parts))}, lambda _: None)
    with pytest.raises(RegistryError) as error:
        images.resolve(image.parse("nvcr.io/nvidia/vllm:26.04-py3"), connection, engines.get("vllm"))
    connection.close()
    assert "nvcr.io" in error.value.diagnostic.line
    assert error.value.diagnostic.hint
