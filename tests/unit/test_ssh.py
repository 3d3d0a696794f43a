"""The transport of pyinfra's connections: sends at once, and wakes up seldom while it waits."""

from __future__ import annotations

import socket

from sparkfleet import ssh


def test_a_connection_sends_at_once_and_wakes_up_once_a_second() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()) as plain:
        assert not ssh.without_delay(plain).is_active()
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert plain.gettimeout() == ssh.WAKE_S == 1


def test_what_is_no_tcp_connection_is_taken_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert ssh.without_delay(ours).sock is ours
