"""Model files from another Spark into this one's hub cache: the job's side, and the child that does it.

The child is the login user, who owns the cache: what it writes is the user's, links included. It gets its
orders, with the copy's key, on stdin, and says how far it is in lines of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sparkfleet.onhost.artifacts.copy.file import FileToReceive
from sparkfleet.onhost.artifacts.copy.receive import Listener, Receiver
from sparkfleet.onhost.artifacts.fetch import rates, staged, verified
from sparkfleet.onhost.artifacts.fetch.hub_cache import clear, repository, wrong_files
from sparkfleet.onhost.artifacts.fetch.pull import StageError
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state.journal import Journal

ME = ("/usr/bin/python3", "-I", "-B", PROGRAM, "copy-receive")
ROOT: Mapping[str, Any] = {"uid": 0, "gid": 0, "home": "/root"}
"""Who receives what is root's: images, and the wheels of one."""


def copy(
    order: Mapping[str, Any], user: Mapping[str, Any], transfer_key: str, journal: Journal, state: Path
) -> None:
    """Bring what is missing of a repository from another Spark. Raise StageError if it is not whole then.

    ``order``: ``repo``, ``revision``, ``models_dir``, ``files`` (path, size, blob, and their ``number`` at
    the sender), ``sender`` (its name) and ``listeners`` (distance, address, port).
    """
    root = repository(order["models_dir"], order["repo"])
    record = verified.read(state)
    wrong = wrong_files(root, order["revision"], order["files"], record)
    if not wrong:
        return
    total = sum(file["size"] for file in wrong)
    words = f"{order['repo']} from {order['sender']}"
    journal.log("phase", f"{words}: {len(wrong)} files, {total >> 20} MiB", phase="copy", have=0, total=total)
    whole = sum(file["size"] for file in order["files"])
    staged.revision(state, root / "snapshots" / order["revision"], order["repo"], order["revision"], whole)
    clear(root, order["revision"], wrong, record)
    asked = {
        "transfer_key": transfer_key,
        "sender": order["sender"],
        "listeners": order["listeners"],
        "files": [file_to_receive(root, file) for file in wrong],
        "links": [link_of(root, order["revision"], file) for file in wrong],
    }

    def tell(said: Mapping[str, Any]) -> None:
        have = int(said["have"])
        text = f"{words} {have >> 20} of {total >> 20} MiB"
        journal.log("phase", text, phase="copy", have=have, total=total)

    began = time.monotonic()
    said = in_child(asked, user, tell)
    rates.note(state, rates.COPY, said["fetched"], time.monotonic() - began)
    verified.remember(state, {path: (blob, *identity) for path, blob, *identity in said["arrived"]})
    still = wrong_files(root, order["revision"], order["files"])
    if still:
        raise StageError(f"{order['repo']}: {len(still)} files are not whole after the copy", "run again")
    more = {"have": total, "total": total, "fetched": said["fetched"]}
    journal.log("phase", f"{order['repo']} is here", phase="copy", **more)


def file_to_receive(root: Path, file: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file of the order as the child takes it: its place is that of its blob."""
    target = str(root / "blobs" / file["blob"])
    return {
        "number": file["number"],
        "size": file["size"],
        "blob": file["blob"],
        "target": target,
        "name": file["path"],
    }


def link_of(root: Path, revision: str, file: Mapping[str, Any]) -> dict[str, str]:
    """Return the name in the snapshot, and the blob that it leads to."""
    return {
        "name": str(root / "snapshots" / revision / file["path"]),
        "blob": str(root / "blobs" / file["blob"]),
    }


def in_child(
    asked: Mapping[str, Any], user: Mapping[str, Any], tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Have a child that is the login user bring the files. Raise StageError for what it could not."""
    child = subprocess.Popen(
        ME,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user["uid"],
        group=user["gid"],
        extra_groups=[],
        umask=0o022,
        env={"PATH": os.defpath, "HOME": user["home"]},
    )
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018  (both are pipes)
    try:
        with child.stdin as stream:
            stream.write(json.dumps(asked))
        last: dict[str, Any] = {}
        for line in child.stdout:
            last = json.loads(line)
            if "have" in last:
                tell(last)
    finally:
        child.stdout.close()
        code = child.wait()
    if "cause" in last:
        raise StageError(
            last["cause"], last["remedy"], last.get("line", ""), elsewhere=last.get("elsewhere", False)
        )
    if code:
        raise StageError(f"the copy ended with {code}", "journalctl on the Spark has more; then run again")
    return last


def receive() -> int:
    """Be the child: orders on stdin, how far it is on stdout."""
    asked = json.load(sys.stdin)
    wanted = {
        file["target"]: FileToReceive(**file) for file in asked["files"]
    }  # one content may have two names
    listeners = [Listener(*one) for one in asked["listeners"]]
    receiver = Receiver(asked["sender"], listeners, asked["transfer_key"], tuple(wanted.values()))

    told = [-1]

    def tell() -> None:
        if receiver.have != told[0]:
            told[0] = receiver.have
            say({"have": receiver.have})

    try:
        receiver.run(tell)
        link(asked.get("links", []))
    except StageError as error:
        say(error.result)
        return 1
    arrived = [(place, wanted[place].blob, *found) for place, found in receiver.arrived.items()]
    say({"have": receiver.have, "fetched": receiver.fetched, "arrived": arrived})
    return 0


def say(data: Mapping[str, Any]) -> None:
    """Write a line for the job."""
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def link(names: list[dict[str, str]]) -> None:
    """Give each blob its name in the snapshot, as the hub's own download does: by a relative link."""
    for one in names:
        path = Path(one["name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(one["blob"], path.parent))
        files.sync_directory(path.parent)
