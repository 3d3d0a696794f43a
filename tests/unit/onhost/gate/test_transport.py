"""NET/IB and NET/Socket in the messages of NCCL."""

from __future__ import annotations

import pytest

from sparkfleet.onhost.gate.transport import RDMA, TCP, UNKNOWN, transport

IB = [
    "spark-01:77:77 [0] NCCL INFO Bootstrap: Using enp1s0f1np1:192.168.176.1<0>",
    "(Worker_TP0 pid=77) spark-01:77:77 [0] NCCL INFO NET/IB : Using [0]rocep1s0f1:1/RoCE [RO]; OOB e1",
    "spark-01:77:77 [0] NCCL INFO Using network IB",
    "spark-01:77:80 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/IB/0",
]
SOCKET = [
    "spark-01:77:77 [0] NCCL INFO NET/IB : No device found.",
    "spark-01:77:77 [0] NCCL INFO NET/Socket : Using [0]enp1s0f1np1:192.168.176.1<0>",
    "spark-01:77:77 [0] NCCL INFO Using network Socket",
    "spark-01:77:80 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/Socket/0",
]


def test_rdma_and_silent_tcp_are_distinguished_by_a_line_of_the_log() -> None:
    assert transport(IB).kind == RDMA
    assert transport(SOCKET).kind == TCP
    assert transport(SOCKET).line == SOCKET[2]


@pytest.mark.parametrize("number", range(1, 4))
def test_any_one_of_the_lines_is_enough(number: int) -> None:
    assert transport([IB[number]]).kind == RDMA
    assert transport([SOCKET[number]]).kind == TCP


def test_what_was_chosen_counts_more_than_what_was_found() -> None:
    assert transport([SOCKET[1], *IB]).kind == RDMA


def test_one_rank_over_tcp_is_tcp() -> None:
    assert transport([*IB, SOCKET[3]]).kind == TCP


def test_a_log_that_does_not_say_is_unknown() -> None:
    assert transport(["INFO 11-21 Starting vLLM", "NCCL INFO cudaDriverVersion 13000"]).kind == UNKNOWN
