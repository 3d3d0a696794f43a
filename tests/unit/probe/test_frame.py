"""The frame around a remote program's output, with real shells."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.probe import frame
from sparkfleet.probe.frame import FramedOutput

NONCE = frame.new_nonce()


def shell(script: str) -> list[str]:
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    return done.stdout.split("\n")


def framed(*argv: str) -> str:
    return shlex.join(frame.wrap(NONCE, argv))


@pytest.mark.parametrize(
    "text", ["", "one line", "two\nlines", "no end of line\n\n", "%s %d \\n", "ü \u2028 x"]
)
@pytest.mark.parametrize("code", [0, 3])
def test_text_and_exit_code_of_a_program_are_as_they_were(text: str, code: int) -> None:
    lines = shell(framed("/bin/sh", "-c", 'printf %s "$1"; exit "$2"', "sh", text, str(code)))
    assert frame.find(lines, NONCE) == FramedOutput(text, code)


@pytest.mark.parametrize(
    "printed", ["echo Welcome", "printf 'no end of line'", """echo '{"outcome": "promoted"}'"""]
)
def test_what_is_printed_around_a_command_is_not_its_output(printed: str) -> None:
    assert frame.find(shell(f"{printed}; {framed('echo', 'own')}; {printed}"), NONCE) == FramedOutput(
        "own\n", 0
    )


def test_a_shell_that_prints_the_command_prints_no_mark() -> None:
    assert frame.find([framed("true"), *shell(f"echo {shlex.quote(framed('true'))}")], NONCE) is None


def test_a_frame_of_another_command_is_none() -> None:
    assert frame.find(shell(framed("echo", "own")), frame.new_nonce()) is None


def test_a_program_that_was_killed_with_its_shell_has_no_output() -> None:
    assert frame.find(shell(framed("/bin/sh", "-c", "echo begun; kill -9 $PPID")), NONCE) is None


@given(before=st.lists(st.text()), after=st.lists(st.text()))
def test_banners_around_the_output_do_no_harm(before: list[str], after: list[str]) -> None:
    lines = [*before, f"<<{NONCE}>>", "own", f"<</{NONCE} 0>>", *after]
    assert frame.find(lines, NONCE) == FramedOutput("own", 0)


@given(st.lists(st.sampled_from([f"<<{NONCE}>>", f"<</{NONCE} 0>>", f"<</{NONCE} x>>", "<<>>", "text"])))
def test_output_without_both_marks_in_order_is_none(lines: list[str]) -> None:
    found = frame.find(lines, NONCE)
    begin, end = f"<<{NONCE}>>", f"<</{NONCE} 0>>"
    if found is not None:
        assert begin in lines
        assert end in lines[lines.index(begin) :]
