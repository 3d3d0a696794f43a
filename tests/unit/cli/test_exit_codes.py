"""Exit codes of every command and deploy, by the table that the documentation is generated from."""

from __future__ import annotations

import ast
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest

from sparkfleet import exit_codes, fleet_directory, interrupts
from sparkfleet.cli import COMMANDS, cli, main
from sparkfleet.exit_codes import Code
from sparkfleet.fleet.run import command_line
from tests.unit.config.fleet_files import FleetFiles

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
INVENTORY = "from sparkfleet.inventory import load\n\nsparks = load(__file__)\n"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; return exit code and stderr."""

    def call(*args: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sparkfleet", *args])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return call


def leaves(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command without subcommands, with its words."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in COMMANDS if command is cli else command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, *path, name)


LEAVES = dict(leaves(cli))
every_command = pytest.mark.parametrize("path", LEAVES, ids=" ".join)
CONNECTING = {
    name: COMMANDS[name][0]
    for name in COMMANDS
    if "before_connections" in Path(str(sys.modules[COMMANDS[name][0]].__file__)).read_text()
}
"""Commands that connect to hosts; init asks before it does, fabric needs a cluster."""
ASKING = {"apply", "stop", "start", "restart", "rollback"}
"""Those that ask before changes."""
assert {"plan", "status", "prune"} | ASKING <= CONNECTING.keys()


def test_every_command_and_every_deploy_has_its_codes_in_the_table() -> None:
    assert list(exit_codes.COMMANDS) == list(COMMANDS)
    assert sorted(exit_codes.DEPLOYS) == sorted(path.stem for path in (ROOT / "deploys").glob("*.py"))
    for codes in (*exit_codes.COMMANDS.values(), *exit_codes.DEPLOYS.values()):
        assert {Code.OK, Code.ERROR} <= codes.keys() <= exit_codes.MEANINGS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_the_codes_of_the_table(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    found = re.search(r"Exit codes?: (.*?)(?:\n\n|$)", command.help or "", re.DOTALL)
    if found:
        mentioned = {Code(int(code)) for code in re.findall(r"\b\d+\b", found[1])}
        assert mentioned <= exit_codes.COMMANDS[name].keys()
        assert mentioned >= exit_codes.COMMANDS[name].keys() - {Code.ERROR}


def test_no_command_ends_with_a_number_of_its_own() -> None:
    for module, _ in COMMANDS.values():
        tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "sys.exit":
                numbers = [node for node in ast.walk(call) if isinstance(node, ast.Constant)]
                assert not any(type(node.value) is int for node in numbers), ast.unparse(call)


@every_command
def test_a_wrong_command_line(run: Run, path: tuple[str, ...]) -> None:
    assert run(*path, "--no-such-option")[0] == Code.COMMAND_LINE


@every_command
def test_an_interrupted_command(run: Run, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(LEAVES[path], "make_context", interrupted)
    code, err = run(*path)
    assert (code, err.strip()) == (Code.INTERRUPTED, interrupts.message())


@every_command
def test_an_internal_error(run: Run, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.delenv("SPARKFLEET_DEBUG", raising=False)
    monkeypatch.setattr(LEAVES[path], "make_context", broken)
    code, err = run(*path)
    assert (code, "Traceback" in err) == (Code.ERROR, False)


@pytest.mark.provokes("socks-support-missing")
def test_a_package_for_socks_that_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> NoReturn:
        raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")

    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setattr(LEAVES["lock",], "make_context", missing)
    code, err = run("lock")
    assert (code, err.startswith("HTTPS_PROXY: a SOCKS proxy needs")) == (Code.ERROR, True)


def arguments(path: tuple[str, ...], inventory: str) -> list[str] | None:
    """Return a command line with this inventory, None for a command without one."""
    names = [one.name for one in LEAVES[path].params if isinstance(one, click.Argument)]
    if "inventory" not in names:
        return None
    more = {"inventory": inventory, "directory": "mirror", "cluster": "pair", "host": "spark-01"}
    values = [more.get(str(name), str(name)) for name in names]
    return [*path, *values]


@every_command
def test_an_inventory_that_does_not_exist(
    run: Run, fleet: Callable[..., FleetFiles], path: tuple[str, ...]
) -> None:
    fleet({})
    argv = arguments(path, "inventories/none.py")
    if argv is not None:
        code, err = run(*argv)
        assert code == Code.ERROR, err
        assert "inventories/none.py" in err


@pytest.mark.parametrize("option", ["--limit", "--exclude"])
@pytest.mark.parametrize("inventory_exists", [True, False])
def test_a_deploy_with_a_host_or_an_inventory_that_does_not_exist_is_refused_by_config(
    fleet: Callable[..., FleetFiles], monkeypatch: pytest.MonkeyPatch, option: str, inventory_exists: bool
) -> None:
    files = fleet({"spark-01.yaml": "serve: gpt-oss-20b\n"})
    if inventory_exists:
        (files.root / files.inventory).write_text("")
    for deploy in exit_codes.DEPLOYS:
        argv = ["pyinfra", str(files.inventory), f"deploys/{deploy}.py", "-y", option, "spark-1"]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stop:
            command_line.configure()
        assert stop.value.code == Code.ERROR


WITH_LIMIT = [path for path, leaf in LEAVES.items() if any(one.name == "limit" for one in leaf.params)]


@pytest.mark.parametrize("path", WITH_LIMIT, ids=" ".join)
def test_a_limit_that_matches_no_host_is_an_error_of_every_command_that_has_one(
    fleet: Callable[..., FleetFiles], path: tuple[str, ...]
) -> None:
    files = fleet({"spark-01.yaml": "serve: gpt-oss-20b\n", "inventories/lab.py": INVENTORY})
    files.pin()
    yes = ("-y",) if path[0] in ASKING else ()
    argv = [str(BIN / "sparkfleet"), *path, str(files.inventory), "--limit", "spark-1", *yes]
    done = subprocess.run(argv, cwd=files.root, capture_output=True, text=True, check=False)
    assert (done.returncode, "no host matches" in done.stderr) == (Code.ERROR, True)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A host that accepts connections and never says anything; ``listening`` is set by the first one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(
    "command",
    [*sorted(CONNECTING.keys() - {"init", "fabric"}), *(f"{name}.py" for name in exit_codes.DEPLOYS)],
)
def test_ctrl_c_during_a_connection(
    fleet: Callable[..., FleetFiles], silent: socket.socket, command: str
) -> None:
    port = silent.getsockname()[1]
    ssh = f"{{hostname: 127.0.0.1, port: {port}, user: nobody}}"
    files = fleet({"spark-01.yaml": f"ssh: {ssh}\nserve: gpt-oss-20b\n", "inventories/lab.py": INVENTORY})
    (files.root / "config.py").write_text((ROOT / "config.py").read_text())
    files.pin()
    more = {name: ["-y"] for name in ASKING} | {"logs": ["spark-01"], "ask": ["spark-01", "why"]}
    argv: list[Any] = [BIN / "sparkfleet", command, files.inventory, *more.get(command, [])]
    if command.endswith(".py"):
        argv = [BIN / "pyinfra", files.inventory, fleet_directory.deploy(command.removesuffix(".py")), "-y"]
    process = subprocess.Popen(
        argv, cwd=files.root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    silent.settimeout(30)
    connection, _ = silent.accept()
    threading.Timer(0.3, process.send_signal, (signal.SIGINT,)).start()
    _, err = process.communicate(timeout=30)
    connection.close()
    assert process.returncode == Code.INTERRUPTED, err
    assert err.endswith("interrupted: no host was being changed\n")
    assert "Traceback" not in err


def test_what_has_begun_on_a_host_is_named() -> None:
    with interrupts.changing("spark-01"), interrupts.changing("spark-02"):
        interrupts.record("spark-01", "nano gate")
        interrupts.record("spark-03", "is not being changed")
        assert interrupts.message() == (
            "interrupted: what has begun continues on spark-01 (nano gate), spark-02; "
            "run again to follow it to its end"
        )
    assert interrupts.message() == "interrupted: no host was being changed"
