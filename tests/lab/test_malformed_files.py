"""Malformed files are all reported at once, with line and remedy, before any host is contacted.

Every host file names a socket of the test as its host, which counts connections.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from sparkfleet_lab.names import Lab
from tests.lab.fleet import FleetDirectory, Outcome
from tests.lab.serving_fleet import RECIPE, nano

LOCK = "inventories/lab/fleet.lock"


class MalformedFile(NamedTuple):
    """A host file (``PORT`` stands for the test's socket) and its messages: line, finding, remedy."""

    text: str
    messages: tuple[tuple[int, str, str], ...]


WRONG = {
    "unknown-keys": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT, user_name: x}\nserv: gpt-oss-20b\n",
        (
            (1, "unknown key 'ssh.user_name'", "did you mean 'user'?"),
            (2, "unknown key 'serv'", "did you mean 'serve'?"),
        ),
    ),
    "unknown-recipe": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve:\n  - gpt-oss-20\n",
        ((3, "unknown recipe 'gpt-oss-20'", "did you mean 'gpt-oss-20b'?"),),
    ),
    "wrong-types": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve:\n  recipe: gpt-oss-20b\n  port: '8000'\n"
        "  env: {NICE: [1]}\n  gate: {expect: 204, timeot: 5m}\nreserve_gib: twelve\n",
        (
            (4, "'serve.port' is '8000'", "write it without quotes"),
            (5, "'serve.env.NICE' is a list", "expected: a string, a number"),
            (6, "unknown key 'serve.gate.timeot'", "did you mean 'timeout'?"),
            (6, "'serve.gate.expect' is the number 204", 'put it in quotes: "204"'),
            (7, "'reserve_gib' is 'twelve'", "expected: a number"),
        ),
    ),
    "not-yaml": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve: {recipe: gpt-oss-20b\n",
        ((3, "invalid YAML", "this line and the one before"),),
    ),
    "a-tab": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve:\n\trecipe: gpt-oss-20b\n",
        ((3, "indented with a tab", "indent with spaces"),),
    ),
    "a-list": MalformedFile(
        "- gpt-oss-20b\n", ((1, "the file is a list", "start the file with `serve: RECIPE`"),)
    ),
    "twice": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve: gpt-oss-20b\nserve: gpt-oss-20b\n",
        ((3, "duplicate key 'serve', first set in line 2", "remove one"),),
    ),
    "no-image": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve:\n  recipe: gpt-oss-20b\n  image: vllm/vllm-openai\n",
        ((4, "has neither tag nor digest", "registry/name:tag"),),
    ),
    "own-flags": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve:\n  recipe: gpt-oss-20b\n"
        "  flags:\n    port: 8001\n    api-key: abc\n  env: {HF_TOKEN: hf_abc}\n",
        (
            (5, "flag 'port' is set by sparkfleet", "the field 'port:'"),
            (6, "flag 'api-key' would put a secret", "a gateway with keys of its own"),
            (7, "variable 'HF_TOKEN' would put a secret", "hf_token"),
        ),
    ),
    "two-services": MalformedFile(
        "ssh: {hostname: 127.0.0.1, port: PORT}\nserve:\n  - recipe: gpt-oss-20b\n    port: 8000\n"
        f"  - recipe: {RECIPE}\n    port: 8000\n",
        ((6, "port 8000 is already used by the service 'gpt-oss-20b'", "change or remove 'port:'"),),
    ),
}
COMMANDS = {
    "check": ("sparkfleet", "check", "inventories/lab.py"),
    "plan": ("sparkfleet", "plan", "inventories/lab.py"),
    "plan --json": ("sparkfleet", "plan", "inventories/lab.py", "--json"),
    "dry run": ("pyinfra", "inventories/lab.py", "deploys/serve.py", "--dry"),
    "run": ("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y"),
}


class Listener:
    """Ports that count connections and answer none."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def port(self) -> int:
        """Return another port with a listening socket."""
        created = socket.create_server(("127.0.0.1", 0))
        created.setblocking(False)
        self.sockets.append(created)
        number: int = created.getsockname()[1]
        return number

    def connections(self) -> int:
        """Return how many connections there were since the last call, and close them."""
        count = 0
        for listening in self.sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    listening.accept()[0].close()
                    count += 1
        return count

    def close(self) -> None:
        """Stop listening."""
        for listening in self.sockets:
            listening.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with contextlib.closing(Listener()) as created:
        yield created


@pytest.fixture(scope="module")
def pins(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lock file of a fleet of one good host."""
    fleet = FleetDirectory(tmp_path_factory.mktemp("pins") / "checkout", lab)
    fleet.host("good", nano())
    fleet.lock()
    return (fleet.root / LOCK).read_text()


@pytest.fixture
def reachable(fleet: FleetDirectory, listener: Listener, pins: str) -> FleetDirectory:
    """A fleet of one good host whose SSH port is the listener's; everything is pinned."""
    fleet.host("good", {"ssh": {"hostname": "127.0.0.1", "port": listener.port()}, **nano()})
    (fleet.root / LOCK).write_text(pins)
    return fleet


@pytest.fixture
def malformed(reachable: FleetDirectory, listener: Listener) -> FleetDirectory:
    """The same, with ten more hosts whose files are malformed."""
    for name, malformed_file in WRONG.items():
        reachable.host(name, malformed_file.text.replace("PORT", str(listener.port())))
    return reachable


@pytest.mark.parametrize("command", COMMANDS)
def test_all_errors_of_ten_malformed_host_files_are_reported_at_once_and_no_host_is_contacted(
    malformed: FleetDirectory, listener: Listener, command: str
) -> None:
    outcome = malformed.command(*COMMANDS[command]).expect(1)
    for name, malformed_file in WRONG.items():
        for line, found, remedy in malformed_file.messages:
            paragraph = paragraph_of(outcome, f"inventories/lab/{name}.yaml:{line}: ", found)
            assert remedy in paragraph, paragraph
    assert listener.connections() == 0


def paragraph_of(outcome: Outcome, where: str, found: str) -> str:
    """Return the paragraph that begins with this location and has this text."""
    lines = outcome.err.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(where) and found in line:
            return "\n".join(lines[number : number + 3])
    raise AssertionError(f"{where}... {found} is missing:\n{outcome.text}")


def test_a_fleet_without_errors_is_contacted(reachable: FleetDirectory, listener: Listener) -> None:
    assert reachable.command(*COMMANDS["check"]).code == 0
    assert listener.connections() == 0
    process = reachable.start(*COMMANDS["plan"])
    while process.poll() is None and not listener.connections():
        pass
    process.kill()
    process.communicate()
    assert process.returncode < 0  # it was still connected to the host


OTHER = {
    "group data": ("group_data/lab.py", "sparkfleet = {'reserve_gb': 3, 'gate': {'timeout': 'soon'}}\n"),
    "group data, not Python": ("group_data/lab.py", "sparkfleet = {'reserve_gib': 3\n"),
    "group data, an undefined name": ("group_data/lab.py", "sparkfleet = settings\n"),
    "lock": (LOCK, "{not: [a, lock\n"),
    "lock of a later version": (LOCK, '{"version": 99}\n'),
    "a recipe": ("inventories/lab/recipes/mine.yaml", "recipe: mine\nmodle: a/b\n"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("name", OTHER)
def test_other_malformed_files_are_reported_without_a_traceback_before_any_host_is_contacted(
    reachable: FleetDirectory, listener: Listener, name: str, command: str
) -> None:
    path, text = OTHER[name]
    (reachable.root / path).parent.mkdir(exist_ok=True)
    (reachable.root / path).write_text(text)
    outcome = reachable.command(*COMMANDS[command]).expect(1)
    assert path in outcome.err
    assert "internal error:" not in outcome.err
    assert listener.connections() == 0
