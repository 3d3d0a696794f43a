"""The sender's unit: begun once, its request in memory for it alone, the login user before it serves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import command
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.transfer import SenderListens, SendRequest
from sparkfleet.onhost.artifacts.copy import unit
from sparkfleet.onhost.artifacts.copy.send import Sender
from sparkfleet.onhost.machine import jobs

ID = "send-1234"
REQUEST: dict[str, Any] = {
    "id": ID, "addresses": ["127.0.0.1"], "peers": ["127.0.0.1"], "transfer_key": "canary",
    "user": {"name": "nvidia", "uid": 1000, "gid": 1001, "home": "/home/nvidia"},
    "version": 2, "files": [{"path": "/m/w", "size": 3}],
}  # fmt: skip


def begin(**changes: Any) -> SenderListens:
    return unit.begin(SendRequest.from_json({**REQUEST, **changes}))


@dataclass
class Systemd:
    """Units that run, and what was asked of systemd."""

    folder: Path
    responses: bool = True
    """Whether a sender that is started says where it listens."""
    ends: bool = False
    """Whether it ends at once."""
    running: set[str] = field(default_factory=set)
    started: list[tuple[str, ...]] = field(default_factory=list)

    def is_going_on(self, job: str) -> bool:
        return job in self.running

    def start(self, job: str, argv: list[str], *properties: str) -> None:
        assert jobs.secret(job, jobs.SEND_REQUEST).stat().st_mode & 0o777 == 0o600
        assert json.loads(jobs.secret(job, jobs.SEND_REQUEST).read_text()) == REQUEST
        self.started.append((*argv, *properties))
        if not self.ends:
            self.running.add(job)
        if self.responses:
            (self.folder / f"{job}.listens").write_text(json.dumps({"listeners": [["127.0.0.1", 4711]]}))


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd(tmp_path)
    monkeypatch.setattr(jobs, "RUN_DIR", tmp_path)
    monkeypatch.setattr(jobs, "is_going_on", made.is_going_on)
    monkeypatch.setattr(jobs, "start", made.start)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(unit, "LISTENS_WITHIN_S", 0.2)
    return made


def test_a_sender_is_started_with_its_request_in_memory_and_no_secret_in_its_args(systemd: Systemd) -> None:
    assert begin() == SenderListens((("127.0.0.1", 4711),))
    (argv,) = systemd.started
    assert argv[1:3] == ("copy-send", ID)
    assert "canary" not in repr(argv)
    assert any(word.startswith("RuntimeMaxSec=") for word in argv)
    assert f"ExecStopPost=/bin/rm -f {systemd.folder}/{ID}.listens" in argv


def test_asked_twice_it_is_started_once_and_says_the_same(systemd: Systemd) -> None:
    assert begin() == begin()
    assert len(systemd.started) == 1


def test_the_output_of_an_ended_sender_is_ignored(systemd: Systemd) -> None:
    (systemd.folder / f"{ID}.listens").write_text(json.dumps({"listeners": [["10.0.0.1", 1]]}))
    systemd.responses = False
    with pytest.raises(unit.NoSenderError):
        begin()


@pytest.mark.parametrize("ends", [True, False])
def test_a_sender_that_does_not_say_where_it_listens_is_an_error(systemd: Systemd, ends: bool) -> None:
    systemd.responses, systemd.ends = False, ends
    with pytest.raises(unit.NoSenderError, match="journalctl -u sparkfleet-stage-send-1234"):
        begin()


@pytest.mark.parametrize("job", ["stage-1", "send-", "send-../x", "send-1;rm"])
def test_an_id_that_is_none_of_a_sender_begins_nothing(systemd: Systemd, job: str) -> None:
    with pytest.raises(ContractError, match="bad id"):
        begin(id=job)
    assert systemd.started == []


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, systemd: Systemd) -> Iterator[list[Any]]:
    """What the sender's process did, in order."""
    did: list[Any] = []
    monkeypatch.setattr(os, "setgroups", lambda groups: did.append(("groups", groups)))
    monkeypatch.setattr(os, "setgid", lambda gid: did.append(("gid", gid)))
    monkeypatch.setattr(os, "setuid", lambda uid: did.append(("uid", uid)))
    monkeypatch.setattr(Sender, "serve", lambda sender: did.append(("serves", sender)))
    monkeypatch.setattr(Sender, "drop_cache", lambda _: did.append(("drops cache", None)))
    real = Sender.listen
    senders: list[Sender] = []

    def listen(sender: Sender, addresses: Sequence[str]) -> list[tuple[str, int]]:
        senders.append(sender)
        return real(sender, addresses)

    monkeypatch.setattr(Sender, "listen", listen)
    jobs.secret(ID, jobs.SEND_REQUEST).write_text(json.dumps(REQUEST))
    assert systemd.folder == jobs.RUN_DIR
    yield did
    for sender in senders:
        for listening in sender._listening:
            listening.close()


def test_it_is_the_login_user_with_no_group_more_before_it_serves_a_byte(served: list[Any]) -> None:
    assert unit.run(ID) == 0
    assert [what for what, _ in served] == ["groups", "gid", "uid", "serves", "drops cache"]
    assert dict(served[:3]) == {"groups": [], "gid": 1001, "uid": 1000}
    sender = served[3][1]
    assert (sender.files[0].path, sender.files[0].size, sender.transfer_key) == ("/m/w", 3, "canary")
    assert sender.peers == {"127.0.0.1"}


def test_its_request_is_gone_when_it_listens_and_where_is_written_beside(served: list[Any]) -> None:
    unit.run(ID)
    assert served
    assert not jobs.secret(ID, jobs.SEND_REQUEST).exists()
    listener = json.loads((jobs.RUN_DIR / f"{ID}.listens").read_text())
    assert listener["listeners"][0][0] == "127.0.0.1"


def test_with_none_of_its_addresses_it_does_not_begin(served: list[Any]) -> None:
    jobs.secret(ID, jobs.SEND_REQUEST).write_text(json.dumps({**REQUEST, "addresses": ["203.0.113.9"]}))
    with pytest.raises(unit.NoSenderError, match=r"203\.0\.113\.9"):
        unit.run(ID)
    assert served == []
    assert not (jobs.RUN_DIR / f"{ID}.listens").exists()


def test_ending_one_that_is_not_there_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(command, "run", lambda argv, _: calls.append(argv))
    unit.end(ID)
    assert calls == [["systemctl", "stop", "sparkfleet-stage-send-1234.service"]]
