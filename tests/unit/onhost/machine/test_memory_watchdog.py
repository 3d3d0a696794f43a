"""The memory watchdog is a process of its own: what holds our interpreter does not hold it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.onhost.machine import host
from sparkfleet.onhost.machine.host import Spark
from sparkfleet.onhost.machine.memory import MemoryWatchdog
from sparkfleet.runtimes.base import Instance
from tests.unit.onhost.world import World

ENOUGH, LOW = "MemAvailable: 8000000 kB\n", "MemTotal: 9000000 kB\nMemAvailable: 102400 kB\n"
ANY = ":"
"""In the text of every /proc/PID/cgroup, as an instance's id is in that of its processes."""


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def meminfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(ENOUGH)
    monkeypatch.setattr(host, "MEMINFO", str(path))
    return path


HELD = """
import re, sys
from sparkfleet.onhost.machine import host
from sparkfleet.onhost.machine.memory import MemoryWatchdog
from sparkfleet.runtimes.base import Instance
host.MEMINFO, pid = sys.argv[1], int(sys.argv[2])
spark, engine = host.Spark(), Instance(":", "nano", True, pid)
MemoryWatchdog(spark, 2048, lambda: spark.kill_now(spark.runtime("docker"), engine)).start(engine)
print("held", flush=True)
re.match("(a|a)+b", "a" * 60)  # for centuries; the interpreter runs nothing else meanwhile
"""


def test_a_program_whose_interpreter_is_held_still_has_its_engine_killed(
    engine: subprocess.Popen[bytes], meminfo: Path
) -> None:
    meminfo.write_text(f"MemTotal: 9000000 kB\n{ENOUGH}")
    argv = [sys.executable, "-c", HELD, str(meminfo), str(engine.pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "held\n"
            replace(meminfo, LOW)
            assert engine.wait(30) == -signal.SIGKILL
            assert program.poll() is None
        finally:
            program.kill()


def replace(meminfo: Path, text: str) -> None:
    """Change the file as a whole, as the kernel does."""
    beside = meminfo.with_name("new")
    beside.write_text(text)
    beside.replace(meminfo)


def test_a_kill_is_reported_with_the_memory_of_that_moment(
    engine: subprocess.Popen[bytes], meminfo: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "watch_memory", Spark().watch_memory)
    replace(meminfo, LOW)
    watchdog = MemoryWatchdog(world, 2048, lambda: pytest.fail("the thread saw enough memory"))
    stop = watchdog.start(Instance(ANY, "nano", running=True, pid=engine.pid))
    assert engine.wait(30) == -signal.SIGKILL
    assert "fell to 100 MiB" in str(watchdog.diagnostic("nano"))
    stop()
    assert watchdog.struck == 100


def test_a_process_of_another_instance_is_not_killed_and_enough_memory_is_no_report(
    engine: subprocess.Popen[bytes], meminfo: Path
) -> None:
    for text, id_ in ((LOW, "b" * 64), (ENOUGH, ANY)):
        replace(meminfo, text)
        watching = Spark().watch_memory(2048, Instance(id_, "nano", running=True, pid=engine.pid))
        watching.stop()
        assert engine.poll() is None
        assert (watching.low_mib() is None) == (text == ENOUGH)


def test_it_ends_with_the_program_that_started_it(engine: subprocess.Popen[bytes], meminfo: Path) -> None:
    code = HELD.replace("re.match", "os.kill(os.getpid(), 9) #").replace("re, sys", "os, sys")
    argv = [sys.executable, "-c", code, str(meminfo), str(engine.pid)]
    meminfo.write_text(f"MemTotal: 9000000 kB\n{ENOUGH}")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        out, _ = program.communicate(timeout=30)  # until the last process has closed stderr
    assert (out, program.returncode, engine.poll()) == (b"held\n", -signal.SIGKILL, None)


def test_without_memory_for_a_process_the_thread_watches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", fails)
    monkeypatch.setattr(world, "watch_memory", Spark().watch_memory)
    kills: list[int] = []
    world.other_memory_mib = 200_000
    watchdog = MemoryWatchdog(world, 2048, lambda: kills.append(1))
    stop = watchdog.start(Instance(ANY, "nano", running=True, pid=1))
    world.sleep(3)
    stop()
    assert kills
    assert watchdog.struck == 0
