"""``@local``: the Spark is the machine that sparkfleet runs on; no SSH, the same frames, sudo and limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra.api.config import Config
from pyinfra.api.host import Host as PyinfraHost
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.probe import ProbeRequest
from sparkfleet.fleet.connection import probe, pyinfra_patches, remote, shell


@pytest.fixture
def host(tmp_path: Path) -> PyinfraHost:
    """This machine, by pyinfra's local connector."""
    pyinfra_patches.decode_any_bytes()
    state = State(Inventory((["@local"], {})), Config(), check_for_changes=False)
    state.cwd = str(tmp_path)
    (one,) = state.inventory
    one.connect()
    state.activate_host(one)
    return one


def test_a_probe_reads_this_machine(host: PyinfraHost) -> None:
    seen = probe.observe(host, ProbeRequest(runtimes=("docker",)))
    assert not isinstance(seen, Diagnostic), seen
    assert seen.memory_total_mib > 0


def test_a_program_gets_stdin_and_its_output_is_read_in_its_frame(host: PyinfraHost) -> None:
    output = remote.run_once(host, ("sh", "-c", "cat; echo to stderr >&2; exit 3"), stdin="one\ntwo\n")
    assert (output.ok, output.out.split(), output.err) == (False, ["one", "two"], "to stderr")


def test_bytes_that_are_no_utf_8_are_replaced_and_end_no_output(host: PyinfraHost) -> None:
    _, output = shell.run_shell(host, r"printf 'b\344\366\nmore\n'; printf '\374\n' >&2", timeout_s=20)
    assert output.stdout_lines == ["b\ufffd\ufffd", "more"]
    assert output.stderr_lines == ["\ufffd"]


def test_a_command_that_does_not_end_is_given_up(host: PyinfraHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "MARGIN_S", 0)
    with pytest.raises(remote.ConnectionLostError):
        remote.run_once(host, ("sleep", "60"), timeout=1)
