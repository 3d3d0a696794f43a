"""Answers of fake hosts: output in the frame that a command requests."""

from __future__ import annotations

import re

from sparkfleet.probe import frame


def nonce_of(command: str) -> str:
    """Return the nonce in a remote command."""
    return str(re.findall(r"sparkfleet-[0-9a-f]{16}", command)[0])


def response(command: str, text: str, code: int = 0) -> list[str]:
    """Return the lines that a host prints where the program of a command prints ``text``."""
    nonce = nonce_of(command)
    return [f"<<{nonce}>>", *text.split("\n"), f"<</{nonce} {code}>>"]


def text_of(output: str, nonce: str) -> str | None:
    """Return the program's text in the output of a command; None without its frame."""
    found = frame.find(output.split("\n"), nonce)
    return found.text if found else None
