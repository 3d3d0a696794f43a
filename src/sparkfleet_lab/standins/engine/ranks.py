"""Several nodes as one engine, by vLLM's own way (``mp``): ranks meet at the master's address, end together.

As with the real engine, ranks with different arguments wait for each other for ever, without a message.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import log

_OWN = ("--node-rank", "--headless")
"""Flags in which ranks differ."""
_INTERFACES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
_POLL_S = 0.2


def join(said: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
    """Return when all nodes are there; from then on the engine ends when one of them does."""
    if (said.nnodes or 1) < 2:  # noqa: PLR2004 - one node is no group
        return
    log.core(
        f"world_size={said.nnodes} rank={said.node_rank} local_rank=0 "
        f"distributed_init_method=tcp://{said.master_addr}:{said.master_port} backend=nccl",
        "parallel_state.py:1906",
    )
    for name in _INTERFACES:
        for interface in filter(None, environ.get(name, "").split(",")):
            if not Path("/sys/class/net", interface).is_dir():
                log.die_in_core(f"RuntimeError: Unable to find address for: {interface}")
    peers = _lead(said) if said.node_rank == 0 else [_follow(said)]
    log.core(f"All {said.nnodes} ranks have joined", "parallel_state.py:2010")
    for peer in peers:
        threading.Thread(target=_watch, args=(peer,), daemon=True).start()


def _words(argv: Sequence[str]) -> list[str]:
    """Return what must be the same on all ranks: the words, without the rank's own."""
    return [
        word
        for before, word in zip(("", *argv), argv, strict=False)
        if not word.startswith(_OWN) and before != "--node-rank"
    ]


def _lead(said: argparse.Namespace) -> list[socket.socket]:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((said.master_addr, said.master_port))
    except OSError as error:
        log.die_in_core(
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
            f"address. port: {said.master_port}, useIpv6: false, code: -{error.errno}, message: "
            f"{error.strerror}"
        )
    listener.listen()
    joined: dict[int, socket.socket] = {}
    strangers = []  # ranks with other arguments: never answered, so that they wait
    while len(joined) < said.nnodes - 1:
        peer, _ = listener.accept()
        greeting = json.loads(peer.makefile().readline() or "{}")
        if greeting.get("words") == _words(sys.argv):
            joined[int(greeting["rank"])] = peer
        else:
            strangers.append(peer)
    for peer in joined.values():
        peer.sendall(b"go\n")
    return list(joined.values())


def _follow(said: argparse.Namespace) -> socket.socket:
    while True:
        try:
            peer = socket.create_connection((said.master_addr, said.master_port), 5)
        except OSError:
            time.sleep(_POLL_S)
            continue
        peer.settimeout(None)
        peer.sendall(json.dumps({"rank": said.node_rank, "words": _words(sys.argv)}).encode() + b"\n")
        if peer.recv(8) == b"go\n":
            return peer
        time.sleep(_POLL_S)


def _watch(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while peer.recv(64):
            pass
    final = "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer"
    log.core(log.trace(final).rstrip(), "core.py:1145", "ERROR")
    os._exit(1)
