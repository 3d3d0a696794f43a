"""Every loop, wait, read, command and queue of the programs on a Spark has a limit, or a reason to end."""

from __future__ import annotations

import ast

import pytest
from tools import host_limits

REASONS = host_limits.REASONS
FOUND = {place.key: place for path in host_limits.modules() for place in host_limits.unlimited(path)}


def test_whatever_has_no_limit_of_its_own_has_a_reason_why_it_ends() -> None:
    unexplained = [f"{place.key} (line {place.line})" for place in FOUND.values() if not place.reason]
    assert not unexplained, "give it a limit, or add the reason to tools/host_limits.py:\n" + "\n".join(
        unexplained
    )


def test_no_reason_is_left_of_code_that_is_gone() -> None:
    declared = {(module, place) for module, reasons in REASONS.items() for place in reasons}
    assert declared - FOUND.keys() == set()


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("while True: pass", "loop"),
        ("while 1: pass", "loop"),
        ("while left(): pass", ""),
        ("while not ready(): system.sleep(1)", "loop"),
        ("while part := response.read(4096): file.write(part)", "loop"),
        ("while monotonic() < end: system.sleep(1)", ""),
        ("while not ready():\n        if monotonic() > end: raise TimeoutError\n        system.sleep(1)", ""),
        ("while not ready():\n        if monotonic() > next: report()\n        system.sleep(1)", "loop"),
        ("stream.read()", "read"),
        ("stream.read(LIMIT)", ""),
        ("stream.readline()", "readline"),
        ("event.wait()", "wait"),
        ("event.wait(2)", ""),
        ("event.wait(timeout=2)", ""),
        ("thread.join()", "join"),
        ("', '.join(names)", ""),
        ("process.communicate()", "communicate"),
        ("process.communicate(timeout=3)", ""),
        ("queue.get()", "get"),
        ("known.get('key')", ""),
        ("server.accept()", "accept"),
        ("server.serve_forever()", "serve_forever"),
        ("subprocess.run(argv, check=False)", "command"),
        ("subprocess.run(argv, check=False, timeout=3)", "command"),
        ("subprocess.check_output(argv, timeout=3)", "command"),
        ("command.run(argv, 3)", ""),
        ("for line in process.stdout: show(line)", "lines"),
        ("show([line for line in stream])", "lines"),
        ("for line in text.splitlines(): show(line)", ""),
        ("for part in iter(read, b''): show(part)", "iter"),
        ("iter(parts)", ""),
        ("connection.recv(4096)", "recv"),
        ("connection.recv_into(buffer)", "recv"),
        ("queue.get(True)", "get"),
        ("queue.get(timeout=None)", "get"),
        ("queue.get(timeout=3)", ""),
        ("event.wait(None)", "wait"),
        ("future.result()", "result"),
        ("future.result(3)", ""),
        ("selector.select()", "select"),
        ("selector.select(timeout=0.2)", ""),
        ("with subprocess.Popen(argv): pass", "command"),
        ("Queue()", "queue"),
        ("deque(maxlen=3)", ""),
        ("fcntl.flock(file, fcntl.LOCK_EX)", "lock"),
        ("fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", ""),
    ],
)
def test_a_form_without_a_limit_is_found(code: str, form: str) -> None:
    found = list(host_limits.places("module.py", ast.parse(f"def function():\n    {code}")))
    assert [(place.function, place.form) for place in found] == ([("function", form)] if form else [])


def test_the_page_is_that_of_the_code() -> None:
    assert host_limits.PAGE.read_text(encoding="utf-8") == host_limits.page(), "make docs"
