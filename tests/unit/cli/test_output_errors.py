"""Output that nobody reads or that cannot be written, an ASCII locale, a proxy, a linked inventory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkfleet import fleet_directory
from sparkfleet.exit_codes import Code
from tests.unit.config.fleet_files import FleetFiles

BIN = Path(sys.executable).parent
INVENTORY = "from sparkfleet.inventory import load\n\nsparks = load(__file__)\n"
PLAN = ("sparkfleet", "plan", "inventories/lab.py")
RUN = ("pyinfra", "inventories/lab.py", str(fleet_directory.deploy("serve")), "-y")
SHORT = ("sparkfleet", "catalog", "list")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale of which Python takes ASCII."""


@pytest.fixture
def unreachable(fleet: Callable[..., FleetFiles]) -> FleetFiles:
    """A pinned fleet of one host that refuses connections; its report has characters beyond ASCII."""
    ssh = "{hostname: 127.0.0.1, port: 1, user: nobody}"
    files = fleet({"spark-01.yaml": f"ssh: {ssh}\nserve: gpt-oss-20b\n", "inventories/lab.py": INVENTORY})
    (files.root / "config.py").write_text((fleet_directory.ROOT / "config.py").read_text())
    files.pin()
    return files


def shell(files: FleetFiles, argv: tuple[str, ...], redirection: str = "", **env: str) -> tuple[int, str]:
    """Run a command with a redirection of its stdout; return its exit code and all of its output."""
    program, *args = argv
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', "-", str(BIN / program), *args],
        cwd=files.root,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("argv", "code"), [(SHORT, Code.OK), (PLAN, Code.ERROR)], ids=["catalog", "plan"])
def test_stdout_that_is_closed(unreachable: FleetFiles, argv: tuple[str, ...], code: Code) -> None:
    assert shell(unreachable, argv, ">&-")[0] == code


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("argv", [SHORT, RUN], ids=["catalog", "run"])
def test_a_disk_that_is_full(unreachable: FleetFiles, argv: tuple[str, ...], unbuffered: str) -> None:
    code, err = shell(unreachable, argv, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert code == Code.ERROR
    assert argv == RUN or err.endswith("the output cannot be written: No space left on device\n")


@pytest.mark.parametrize(("argv", "code"), [(SHORT, Code.OK), (RUN, Code.ERROR)], ids=["catalog", "run"])
def test_a_reader_that_leaves(unreachable: FleetFiles, argv: tuple[str, ...], code: Code) -> None:
    found, err = shell(unreachable, argv, "| true")
    assert found == code
    assert "BrokenPipe" not in err


@pytest.mark.parametrize("argv", [SHORT, PLAN, RUN], ids=["catalog", "plan", "run"])
def test_a_locale_with_ascii_alone(unreachable: FleetFiles, argv: tuple[str, ...]) -> None:
    (unreachable.directory / "spark-01.yaml").write_text(
        "ssh: {hostname: grün.invalid, user: nobody}\nserve: gpt-oss-20b\n", encoding="utf-8"
    )
    code, _ = shell(unreachable, argv, **ASCII)
    assert code == (Code.OK if argv == SHORT else Code.ERROR)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_characters_that_a_locale_lacks_are_replaced(unreachable: FleetFiles, stream: str) -> None:
    printing = f"import sys; terminal.tolerate_output_errors(); print('gr\\xfcn', file=sys.{stream})"
    argv = ("python", "-c", f"from sparkfleet import terminal; {printing}")
    assert shell(unreachable, argv, **ASCII) == (Code.OK, "gr?n\n")


def test_a_socks_proxy_without_the_package_for_it(unreachable: FleetFiles) -> None:
    argv = ("sparkfleet", "lock", "inventories/lab.py", "--update", "*")
    code, err = shell(unreachable, argv, ALL_PROXY="socks5://127.0.0.1:9")
    assert code == Code.ERROR
    assert err.startswith("ALL_PROXY: a SOCKS proxy needs the Python package socksio")


def test_an_inventory_by_a_link(unreachable: FleetFiles) -> None:
    directory = unreachable.root / "links"
    directory.mkdir()
    (directory / "mine.py").symlink_to(unreachable.root / "inventories/lab.py")
    assert shell(unreachable, ("sparkfleet", "check", "links/mine.py"))[0] == Code.OK
    code, err = shell(unreachable, ("pyinfra", "links/mine.py", *RUN[2:]))
    assert code == Code.ERROR
    assert "ssh -p 1 nobody@127.0.0.1 true" in err
