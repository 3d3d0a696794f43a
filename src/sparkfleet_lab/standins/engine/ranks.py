"""Several nodes as one engine, by vLLM's own ``mp``: ranks connect to the master and end with each other.

As with the real engine, ranks with different arguments wait for each other forever, without a message.
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


def join(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
    """Return when all nodes have connected; after that the engine ends when one of them does."""
    if (args.nnodes or 1) < 2:  # noqa: PLR2004 - one node is no group
        return
    log.core(
        f"world_size={args.nnodes} rank={args.node_rank} local_rank=0 "
        f"distributed_init_method=tcp://{args.master_addr}:{args.master_port} backend=nccl",
        "parallel_state.py:1906",
    )
    for name in _INTERFACES:
        for interface in filter(None, environ.get(name, "").split(",")):
            if not Path("/sys/class/net", interface).is_dir():
                log.die_in_core(f"RuntimeError: Unable to find address for: {interface}")
    peers = _lead(args) if args.node_rank == 0 else [_follow(args)]
    log.core(f"All {args.nnodes} ranks have joined", "parallel_state.py:2010")
    for peer in peers:
        threading.Thread(target=_watch, args=(peer,), daemon=True).start()


def _common_args(argv: Sequence[str]) -> list[str]:
    """Return the arguments that must be the same on all ranks."""
    return [
        arg
        for previous, arg in zip(("", *argv), argv, strict=False)
        if not arg.startswith(_OWN) and previous != "--node-rank"
    ]


def _lead(args: argparse.Namespace) -> list[socket.socket]:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((args.master_addr, args.master_port))
    except OSError as error:
        log.die_in_core(
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
            f"address. port: {args.master_port}, useIpv6: false, code: -{error.errno}, message: "
            f"{error.strerror}"
        )
    listener.listen()
    joined: dict[int, socket.socket] = {}
    rejected = []  # ranks with other arguments get no response, so that they wait
    while len(joined) < args.nnodes - 1:
        peer, _ = listener.accept()
        greeting = json.loads(peer.makefile().readline() or "{}")
        if greeting.get("args") == _common_args(sys.argv):
            joined[int(greeting["rank"])] = peer
        else:
            rejected.append(peer)
    for peer in joined.values():
        peer.sendall(b"go\n")
    return list(joined.values())


def _follow(args: argparse.Namespace) -> socket.socket:
    while True:
        try:
            peer = socket.create_connection((args.master_addr, args.master_port), 5)
        except OSError:
            time.sleep(_POLL_S)
            continue
        peer.settimeout(None)
        peer.sendall(json.dumps({"rank": args.node_rank, "args": _common_args(sys.argv)}).encode() + b"\n")
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
