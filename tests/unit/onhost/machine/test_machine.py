"""Reading the Spark itself: memory, ports, cgroups; waiting for memory; the valve."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sparkfleet.contract import command
from sparkfleet.onhost.machine import memory, valve
from sparkfleet.onhost.machine.host import Spark, listening_inodes, parse_memory
from sparkfleet.onhost.machine.system import CommandResult, HttpRequest, Memory
from tests.unit.onhost.world import TOTAL_MIB, Engine, World, generation

MEMINFO = """\
MemTotal:       125513728 kB
MemFree:         2097152 kB
MemAvailable:   104857600 kB
Buffers:          524288 kB
Cached:         83886080 kB
Shmem:           1048576 kB
SReclaimable:    2097152 kB
"""
PRESSURE = "some avg10=1.00 avg60=0 avg300=0 total=1\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=3\n"


def test_memory_is_read_in_mib_with_pressure_where_there_is_any() -> None:
    seen = parse_memory(MEMINFO, PRESSURE)
    assert (seen.total, seen.available, seen.free, seen.pressure) == (122572, 102400, 2048, 0.25)
    assert parse_memory(MEMINFO).pressure is None


def test_shared_memory_is_no_page_cache_that_could_be_given_back() -> None:
    assert parse_memory(MEMINFO).cache == (83886080 + 524288 + 2097152 - 1048576) // 1024


def test_listeners_are_distinguished_from_connections_on_the_same_port() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n"
        "   1: 0100007F:1F40 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n"
        "   2: 00000000:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0\n"
    )
    assert listening_inodes(table, 8000) == {"111"}


def test_the_listener_on_a_port_is_found() -> None:
    spark = Spark()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        found = spark.port_owners(listener.getsockname()[1])
    assert [(owner.pid, Path(sys.executable).name in owner.command) for owner in found] == [
        (os.getpid(), True)
    ]


def test_no_answer_and_no_listener_are_distinguished() -> None:
    spark = Spark()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        slow = spark.http(HttpRequest(port, "GET", "/", 0.05))
    closed = spark.http(HttpRequest(port, "GET", "/", 5))
    assert (slow.status, slow.timed_out) == (0, True)
    assert (closed.status, closed.timed_out) == (0, False)
    assert "refused" in closed.error


def test_a_missing_command_is_an_answer_and_no_crash() -> None:
    assert Spark().run(("surely-no-such-command",)).code == 127


def test_a_command_without_an_end_is_cut_off() -> None:
    assert Spark().run(("sleep", "30"), timeout_s=0.05).code == 124


def test_background_calls_start_at_once_and_end_on_request() -> None:
    called = threading.Event()
    stop = Spark().every(30, called.set)
    assert called.wait(10)
    stop()


def test_the_memory_watchdog_goes_on_killing_and_keeps_the_first_reason(world: World) -> None:
    world.engines["img:1"] = Engine(memory_mib=121_000)
    world.add("nano", generation())
    kills: list[int] = []
    watchdog = memory.MemoryWatchdog(world, 2048, lambda: kills.append(1))
    watchdog.sample()
    world.other_memory_mib = 0
    watchdog.sample()
    assert len(kills) == 2
    assert "MemAvailable fell to 0 MiB" in str(watchdog.diagnostic("nano"))
    assert watchdog.csv().count("\n") == 3


def test_memory_above_the_minimum_kills_no_engine(world: World) -> None:
    watchdog = memory.MemoryWatchdog(world, 2048, lambda: pytest.fail("killed"))
    watchdog.sample()
    assert watchdog.diagnostic("nano") is None


def test_memory_that_comes_late_is_waited_for(world: World) -> None:
    world.other_memory_mib = 100_000

    def less() -> None:
        world.other_memory_mib = max(4_000, world.other_memory_mib - 10_000)

    world.on_tick.append(less)
    assert memory.wait_until_freed(world, 100_000).available >= 100_000


def test_memory_that_begins_to_come_after_a_pause_is_waited_for(world: World) -> None:
    world.other_memory_mib = 100_000
    began = world.clock

    def less() -> None:
        if world.clock - began > 20:
            world.other_memory_mib = 4_000

    world.on_tick.append(less)
    assert memory.wait_until_freed(world, 100_000).available >= 100_000


def test_memory_that_never_comes_is_not_waited_for_for_ever(world: World) -> None:
    world.other_memory_mib = 100_000
    before = world.clock
    assert memory.wait_until_freed(world, 100_000).available == 22_000
    assert world.clock - before <= 90


def test_without_a_required_amount_the_wait_ends_when_no_more_memory_is_freed(world: World) -> None:
    before = world.clock
    memory.wait_until_freed(world, 0)
    assert world.clock - before <= 2


def test_the_valve_says_what_it_gave_back(world: World) -> None:
    world.cache_mib = 50_000
    flush = valve.flush(world)
    assert flush.given_back == 50_000
    assert "50000 MiB" in flush.text


def test_the_valve_leaves_a_small_cache_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cache_mib = 100
    monkeypatch.setattr(world, "drop_caches", lambda: pytest.fail("dropped"))
    assert valve.flush(world).given_back == 0


def test_a_valve_that_may_not_flush_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cache_mib = 50_000
    monkeypatch.setattr(world, "drop_caches", lambda: "/proc/sys/vm/drop_caches: Read-only file system")
    assert "Read-only" in valve.flush(world).text


def test_pressure_is_in_the_trace_only_where_the_kernel_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = memory.MemoryWatchdog(world, 1, lambda: None)
    monkeypatch.setattr(world, "memory", lambda: Memory(10, 5, 1, 0, 12.5))
    watchdog.sample()
    assert watchdog.csv().splitlines()[1].endswith(",5,1,12.5,")


BUDDYINFO = """\
Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3
Node 0, zone   Normal  11291   3731   1865   2854   2047   1213   2628   2079    850      0      1
"""


@pytest.mark.parametrize(
    ("page", "large"),
    [(4096, (3 + 1) * 4), (65536, (1 + 850) * 16 + 1 * 32 + (3 + 1) * 64)],
)
def test_free_memory_in_large_blocks_is_counted_in_every_zone_and_page_size(page: int, large: int) -> None:
    found = parse_memory("MemTotal: 4096 kB\nMemAvailable: 2048 kB\n", "", BUDDYINFO, page).large_free
    assert found == large


def test_without_buddyinfo_the_size_of_free_blocks_is_unknown() -> None:
    assert parse_memory("MemTotal: 4096 kB\nMemAvailable: 2048 kB\n").large_free is None


@pytest.mark.parametrize(("large", "compacted"), [(500, 1), (60_000, 0), (None, 0)])
def test_fragmented_memory_is_compacted_before_a_start(
    world: World, large: int | None, compacted: int
) -> None:
    world.large_free = large
    text = valve.before_start(world)
    assert world.compacted == compacted
    assert ("500 of 118000 MiB free in large blocks; compacted" in text) == bool(compacted)


def test_a_flush_beside_a_serving_engine_does_not_compact(world: World) -> None:
    world.large_free = 500
    valve.flush(world)
    assert world.compacted == 0


def test_little_free_memory_is_not_called_fragmented(world: World) -> None:
    world.other_memory_mib, world.large_free = TOTAL_MIB - 3_000, 0
    assert not valve.is_fragmented(world.memory())


def test_memory_that_rises_past_the_required_amount_is_waited_for_to_its_end(world: World) -> None:
    world.other_memory_mib = 100_000

    def less() -> None:
        world.other_memory_mib = max(4_000, world.other_memory_mib - 10_000)

    world.on_tick.append(less)
    assert memory.wait_until_freed(world, 30_000).available == TOTAL_MIB - 4_000


def test_a_wait_for_memory_ends_when_another_rank_has_failed(world: World) -> None:
    def check() -> None:
        if world.clock > began + 3:
            raise InterruptedError

    began, world.other_memory_mib = world.clock, 100_000
    world.on_tick.append(lambda: setattr(world, "other_memory_mib", world.other_memory_mib - 300))
    with pytest.raises(InterruptedError):
        memory.wait_until_freed(world, 90_000, check)
    assert world.clock - began < 6


def test_a_command_that_sigkill_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU driver that hangs keeps nvidia-smi in the kernel: a rollout must still start the last engine."""
    hung: list[subprocess.Popen[str]] = []

    def kill(process: subprocess.Popen[str]) -> None:
        hung.append(process)

    monkeypatch.setattr(subprocess.Popen, "kill", kill)
    monkeypatch.setattr(command, "ENDS_S", 0.1)
    try:
        result = Spark().run(("sleep", "1000"), 0.1)
    finally:
        for process in hung:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert (result.code, result.err) == (124, "sleep 1000: no end after 0 s")


def test_a_command_that_cannot_be_executed_is_a_result(tmp_path: Path) -> None:
    (tmp_path / "rdma").write_text("")
    assert Spark().run((str(tmp_path / "rdma"),)).code == 126
    assert Spark().run(("sh", "-c", "echo out; echo err >&2; exit 3")) == CommandResult(3, "out\n", "err\n")
