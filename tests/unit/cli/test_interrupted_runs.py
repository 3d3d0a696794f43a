"""Ctrl-C: every command and deploy that connects to hosts, at every moment that it has.

Each runs in a process of its own, on Sparks that stop to respond at a remote command.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparkfleet import exit_codes, fleet_directory
from sparkfleet.exit_codes import Code
from tests.unit.cli.test_exit_codes import CONNECTING
from tests.unit.config.fleet_files import FleetFiles
from tests.unit.remote_sparks import USER_COMMAND, Script

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[3]
INVENTORY = "from sparkfleet.inventory import load\n\nsparks = load(__file__)\n"
NANO = "{recipe: gpt-oss-20b, name: nano}"
USER_DEPLOY = f"""
from pyinfra.operations import server
server.shell(name="mine", commands=["{USER_COMMAND}"])
"""


@dataclass(frozen=True)
class Moment:
    """A remote command that does not end, and what the message says of it."""

    word: str
    named: str = ""
    """Hosts, each with its phase; "": no host is being changed."""
    count: int = 1
    states: Mapping[str, str] | None = None
    hosts: int = 1
    """How many hosts are at the command."""
    fleet: str = "one"
    """Which of FLEETS."""
    host: str = ""
    """The only host that is there; "": each is."""


ONE = {"spark-01": f"serve: {NANO}\n"}
PAIR = "hosts: [spark-01, spark-02]\nexecutor: mp\n" + f"serve: {NANO}\n"
FLEETS: Mapping[str, Mapping[str, str]] = {
    "one": ONE,
    "two": {**ONE, "spark-02": f"serve: {NANO}\n"},
    "user": {**ONE, "user_deploy.py": USER_DEPLOY},
    "pair": {"spark-01": "{}\n", "spark-02": "{}\n", "clusters/pair": PAIR},
}
CONVERGED, DRIFTED, IN_PROGRESS = ({"spark-01": one} for one in ("converged", "drifted", "in-progress"))
PROBE = Moment("probe")
READ = Moment("other")
"""Files that the hosts keep are read."""
STALE = Moment("probe", count=2)
"""The second probe, right before the first change."""
SCRIPT = Moment("script", "spark-01 (host)")
USER = Moment(USER_COMMAND, "spark-01 (user_deploy.py | mine)", fleet="user")
COPY = "spark-01 (sends to spark-02), spark-02"
"""Where an image is copied; before, the first host has exported it."""
FETCH = (Moment("login", "spark-01"), Moment("stage", "spark-01"), Moment("stage-follow", "spark-01"))
EARLIER = Moment("follow", "spark-01 (rollout nano-0123abcd)", states=IN_PROGRESS)
RUN = (
    PROBE,
    STALE,
    USER,
    SCRIPT,
    *FETCH,
    Moment("run-program", "spark-01 (nano check)"),
    Moment("rollout", "spark-01 (nano check)"),
    Moment("follow", "spark-01 (nano begin)", 2),
    Moment("follow", "spark-01 (nano load)", 3),
    Moment("follow", "spark-01 (nano gate)", 4),
    Moment("follow", "spark-01 (nano promote)", 5),
    Moment("repair", "spark-01 (nano)", states=DRIFTED),
    Moment("stage-follow", "spark-01, spark-02", states=CONVERGED, fleet="two"),
    Moment("stage-follow", COPY, states=CONVERGED, fleet="two", host="spark-02"),
)
LINKS = (
    Moment("fabric", "spark-01 (fabric), spark-02 (fabric)", hosts=2, fleet="pair"),
    Moment("fabric-follow", "spark-01 (fabric), spark-02 (fabric)", hosts=2, fleet="pair"),
)
MOMENTS: Mapping[str, tuple[Moment, ...]] = {
    "plan": (PROBE,),
    "status": (PROBE,),
    "prune": (PROBE,),
    "rollback.py": (READ,),
    "history": (READ,),
    "rollback": (READ,),
    **dict.fromkeys(("stop", "stop.py", "start", "start.py", "restart", "restart.py"), (PROBE,)),
    "fabric": (Moment("probe", hosts=2, fleet="pair"),),
    "apply": RUN,
    "serve.py": (*RUN, EARLIER, *LINKS),
    "prepare.py": (PROBE, STALE, EARLIER, USER, SCRIPT),
    "stage.py": (PROBE, STALE, EARLIER, USER, SCRIPT, *FETCH),
    "fabric.py": (PROBE, STALE, EARLIER, SCRIPT, *LINKS),
    "verify.py": (
        PROBE,
        EARLIER,
        *(Moment(one.word, one.named, states=CONVERGED) for one in FETCH),
    ),
}
"""By command, or deploy with .py."""
CASES = [(name, moment) for name, moments in MOMENTS.items() for moment in moments]


def test_every_command_and_deploy_that_connects_has_moments() -> None:
    deploys = {f"{name}.py" for name in exit_codes.DEPLOYS}
    # init logs in, logs and ask print lines: they change no host and use a channel of their own.
    assert MOMENTS.keys() == deploys | CONNECTING.keys() - {"init", "logs", "ask"}


def argv(files: FleetFiles, name: str) -> list[str]:
    if name.endswith(".py"):
        deploy = fleet_directory.deploy(name.removesuffix(".py"))
        return [str(BIN / "pyinfra"), str(files.inventory), str(deploy), "-y"]
    confirmed = {key: ["-y"] for key in ("apply", "stop", "start", "restart")}
    more = {**confirmed, "fabric": ["pair"], "rollback": ["spark-01", "-y"]}.get(name, [])
    return [str(BIN / "sparkfleet"), name, *(["bench"] * (name == "fabric")), str(files.inventory), *more]


@pytest.fixture
def start(
    fleet: Callable[..., FleetFiles], tmp_path: Path
) -> Iterator[Callable[[str, Moment], subprocess.Popen[str]]]:
    """Start a command on such Sparks; return when they do not respond any more."""
    started: list[subprocess.Popen[str]] = []

    def begin(name: str, moment: Moment) -> subprocess.Popen[str]:
        texts = {
            path if path.endswith(".py") else f"{path}.yaml": text
            for path, text in FLEETS[moment.fleet].items()
        }
        files = fleet({**texts, "inventories/lab.py": INVENTORY})
        (files.root / "config.py").write_text((ROOT / "config.py").read_text())
        files.pin()
        read, write = os.pipe()
        script = Script(moment.states or {}, moment.word, moment.count, moment.host, write)
        hooks = tmp_path / "hooks"
        hooks.mkdir()
        process = subprocess.Popen(
            argv(files, name),
            cwd=files.root,
            env={**os.environ, **script.environment(hooks)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(write,),
        )
        started.append(process)
        os.close(write)
        arrived = b""
        while len(arrived) < moment.hosts and (byte := os.read(read, 1)):
            arrived += byte
        os.close(read)
        if len(arrived) < moment.hosts:  # it ended before
            pytest.fail("".join(process.communicate()))
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


Start = Callable[[str, Moment], subprocess.Popen[str]]


@pytest.mark.parametrize(
    ("name", "moment"),
    CASES,
    ids=[f"{name}-{one.word}-{one.count}-{one.fleet}{one.host}" for name, one in CASES],
)
def test_ctrl_c_ends_with_its_code_and_names_the_hosts_where_something_continues(
    start: Start, name: str, moment: Moment
) -> None:
    process = start(name, moment)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == Code.INTERRUPTED, out + err
    assert "Traceback" not in out + err
    named = f"what has begun continues on {moment.named}; run again to follow it to its end"
    assert err.splitlines()[-1] == f"interrupted: {named if moment.named else 'no host was being changed'}"


@pytest.mark.parametrize("name", ["apply", "serve.py"])
def test_ctrl_c_at_the_prompt(fleet: Callable[..., FleetFiles], tmp_path: Path, name: str) -> None:
    files = fleet({"spark-01.yaml": ONE["spark-01"], "inventories/lab.py": INVENTORY})
    (files.root / "config.py").write_text((ROOT / "config.py").read_text())
    files.pin()
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [one for one in argv(files, name) if one != "-y"],
        cwd=files.root,
        env={**os.environ, **Script().environment(hooks)},
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        out = b""
        while b"[y/N]" not in out and (part := os.read(process.stdout.fileno(), 4096)):
            out += part
        process.send_signal(signal.SIGINT)
        out += process.stdout.read()
    os.close(terminal)
    os.close(end)
    assert process.returncode == Code.INTERRUPTED, out.decode()
    assert out.decode().splitlines()[-1] == "interrupted: no host was being changed"
    assert b"Traceback" not in out


LATE = """
import ctypes, os, signal, time
from gevent import monkey
monkey.patch_all()
import gevent
from sparkfleet import interrupts
interrupts.end_on_interrupt()
interrupts.wake_event_loop()
last = gevent.get_hub().loop.prepare(ref=False)
last.priority = -2  # after gevent has looked for signals, before it waits
last.start(ctypes.CDLL(None).kill, os.getpid(), signal.SIGINT)
time.sleep(30)
"""
WRITING = """
import signal, sys
from sparkfleet import interrupts, terminal
write = terminal._Descriptor.write
def interrupted(self, data):
    terminal._Descriptor.write = write
    signal.raise_signal(signal.SIGINT)
    return write(self, data)
terminal.tolerate_output_errors()
interrupts.end_on_interrupt()
terminal._Descriptor.write = interrupted
print("a line", file=sys.stderr)
"""


@pytest.mark.parametrize("program", [LATE, WRITING], ids=["right before it waits", "while it writes"])
def test_ctrl_c_at_an_unlucky_moment_of_the_program_itself(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (
        Code.INTERRUPTED,
        ["interrupted: no host was being changed"],
    )
