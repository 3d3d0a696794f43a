"""A password for sudo is read from stdin's first line, reaches sudo alone, and is tried once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra.connectors.util import SUDO_PASSWORD_REQUIRED_LINES

from sparkfleet.probe import frame, root_shell
from sparkfleet.probe.command import probe_command
from tests.unit.frames import text_of
from tests.unit.probe.requests import request_of
from tests.unit.probe.sudo_of_test import Spark

WITH = root_shell.root_function(password=True)
WITHOUT = root_shell.root_function(password=False)
DATA = "data of the program\nsecond line\n" + "x" * 200_000 + "\n"


def test_a_right_password_is_sudos_and_the_rest_of_stdin_is_the_programs(tmp_path: Path) -> None:
    spark = Spark(tmp_path, asks=True)
    output = spark.sh(f"{WITH}; r cat", f"{spark.password}\n{DATA}")
    assert (output.returncode, output.stdout, output.stderr) == (0, DATA, "")
    assert set(spark.tried) == {spark.password}


def test_sudo_keeps_no_proof_that_others_could_use_after_us(tmp_path: Path) -> None:
    spark = Spark(tmp_path, asks=True)
    assert spark.sh(f"{WITH}; r cat", f"{spark.password}\n{DATA}").returncode == 0
    assert not spark.proof.exists()


def test_where_sudo_asks_for_nothing_the_program_is_not_given_the_password(tmp_path: Path) -> None:
    output = Spark(tmp_path, asks=False).sh(f"{WITH}; r cat", f"right horse\n{DATA}")
    assert (output.returncode, output.stdout) == (0, DATA)


@pytest.mark.parametrize("prefix, stdin", [(WITH, f"right horse\n{DATA}"), (WITHOUT, DATA)])
def test_root_needs_no_sudo(tmp_path: Path, prefix: str, stdin: str) -> None:
    spark = Spark(tmp_path, asks=True, uid=0)
    assert spark.sh(f"{prefix}; r cat", stdin).stdout == DATA
    assert not spark.log.exists()


def test_a_wrong_password_is_tried_once_and_the_data_is_never_taken_for_one(tmp_path: Path) -> None:
    spark = Spark(tmp_path, asks=True)
    output = spark.sh(f"{WITH}; r cat; echo never", f"wrong horse\n{DATA}")
    assert (output.returncode, output.stdout) == (1, "")
    assert spark.tried == ["wrong horse"]
    assert root_shell.refusal_reason(output.stderr) == "sudo: 1 incorrect password attempt"
    assert "horse" not in output.stderr


def test_sudo_that_asks_without_a_password_is_reported(tmp_path: Path) -> None:
    output = Spark(tmp_path, asks=True).sh(f"{WITHOUT}; r cat; echo never", DATA)
    assert (output.returncode, output.stdout) == (1, "")
    assert root_shell.refusal_reason(output.stderr) == "sudo: a password is required"
    assert not set(map(str.strip, output.stderr.splitlines())) & set(SUDO_PASSWORD_REQUIRED_LINES)


def test_the_programs_exit_code_arguments_and_output_are_kept(tmp_path: Path) -> None:
    script = """r sh -c 'echo "$1|$2"; echo oops >&2; exit 7' sh "a  b" "'q'\""""
    for asks, prefix, stdin in ((True, WITH, "right horse\n"), (False, WITHOUT, "")):
        output = Spark(tmp_path, asks=asks).sh(f"{prefix}; {script}", stdin)
        assert (output.returncode, output.stdout, output.stderr) == (7, "a  b|'q'\n", "oops\n")


def test_the_password_is_in_no_environment_and_no_argv(tmp_path: Path) -> None:
    spark = Spark(tmp_path, asks=True)
    script = (
        "r sh -c 'tr \"\\0\" \"\\n\" </proc/self/environ; cat /proc/[0-9]*/cmdline 2>/dev/null' | tr -d '\\0'"
    )
    output = spark.sh(f"{WITH}; {script}", f"{spark.password}\n")
    assert "PATH=" in output.stdout
    assert spark.password not in output.stdout


def test_unread_input_of_a_program_is_no_error(tmp_path: Path) -> None:
    assert Spark(tmp_path, asks=True).sh(f"{WITH}; r true", f"right horse\n{DATA}").returncode == 0


def test_other_output_of_sudo_is_a_reason_as_it_is() -> None:
    output = f"banner\n{root_shell.REFUSED}nvidia is not in the sudoers file."
    assert root_shell.refusal_reason(output) == "nvidia is not in the sudoers file."
    lecture = (
        "We trust you have received the usual lecture. Sorry, try again. sudo: 1 incorrect password attempt"
    )
    assert root_shell.refusal_reason(f"{root_shell.REFUSED}{lecture}") == "sudo: 1 incorrect password attempt"
    assert root_shell.refusal_reason("cat: no such file") is None


def test_the_look_runs_as_root_by_a_password(tmp_path: Path) -> None:
    spark = Spark(tmp_path, asks=True)
    nonce = frame.new_nonce()
    command = f"{WITH}; {probe_command(request_of(), nonce, password=True)}"
    assert text_of(spark.sh(command, f"{spark.password}\n").stdout, nonce)
    refused = spark.sh(command, "wrong horse\n")
    assert text_of(refused.stdout, nonce) is None
    assert root_shell.refusal_reason(refused.stderr)
