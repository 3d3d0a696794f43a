"""Several engines as one, by vLLM's own way: they meet, they end together, and a stranger waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.standins.conftest import READY, Engine, Start, free_port

JOINED = "All 2 ranks have joined"


@pytest.fixture
def pair(engine: Start, tiny: Path) -> Callable[..., tuple[Engine, Engine]]:
    """Start a worker, then the head; ``more`` are words of the worker alone."""
    port = str(free_port())

    def start(*more: str) -> tuple[Engine, Engine]:
        served = free_port()
        args = (str(tiny), "--served-model-name", "tiny", "--nnodes", "2", "--master-addr", "127.0.0.1")
        both = (*args, "--master-port", port, "--distributed-executor-backend", "mp")
        worker = engine(*both, "--node-rank", "1", "--headless", *more, port=served)
        return engine(*both, "--node-rank", "0", port=served), worker

    return start


def test_the_head_serves_when_every_rank_has_joined(pair: Callable[..., tuple[Engine, Engine]]) -> None:
    head, worker = pair()
    worker.until(JOINED)
    head.until(JOINED)
    head.until(READY)
    assert "204" in str(head.chat("What is 12*17?"))


@pytest.mark.parametrize("lost", [0, 1])
def test_when_one_rank_ends_the_other_does(pair: Callable[..., tuple[Engine, Engine]], lost: int) -> None:
    both = pair()
    both[0].until(READY)
    both[1].until(JOINED)
    both[lost].process.kill()
    assert both[1 - lost].ended() == 1
    assert "Connection closed by peer" in both[1 - lost].log


def test_a_rank_with_other_arguments_waits_without_a_message(
    pair: Callable[..., tuple[Engine, Engine]],
) -> None:
    head, worker = pair("--max-num-seqs", "2")
    head.until("world_size=2 rank=0")
    worker.until("world_size=2 rank=1")
    time.sleep(1)
    assert JOINED not in head.log + worker.log
    assert head.process.poll() is None


def test_an_interface_that_is_not_there_ends_the_start(engine: Start, tiny: Path) -> None:
    args = (str(tiny), "--nnodes", "2", "--node-rank", "0", "--master-addr", "127.0.0.1")
    one = engine(*args, "--master-port", str(free_port()), NCCL_SOCKET_IFNAME="lo,enp9s9")
    assert one.ended() == 1
    assert "Unable to find address for: enp9s9" in one.log
