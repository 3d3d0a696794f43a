"""Copies model files from another host into this one's hub cache: the job, and its child process.

The child runs as the login user, who owns the cache and thus all files and links in it. It reads a
``ReceiveRequest`` with the copy's key from stdin and writes one ``ReceiveReport`` per line.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sparkfleet.contract import codec
from sparkfleet.contract.stage import LoginUser, ModelCopy, ModelFile
from sparkfleet.contract.transfer import FileToReceive, ReceiveReport, ReceiveRequest, SnapshotLink
from sparkfleet.onhost.artifacts.copy.receive import Listener, Receiver
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.artifacts.fetch import fetch_record, hash_record, rates
from sparkfleet.onhost.artifacts.fetch.hub_cache import clear, repository, wrong_files
from sparkfleet.onhost.machine import files
from sparkfleet.onhost.machine.stdio import read, write
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state.journal import Journal

CHILD = ("/usr/bin/python3", "-I", "-B", PROGRAM, "copy-receive")


def copy(order: ModelCopy, user: LoginUser, transfer_key: str, journal: Journal, state: Path) -> None:
    """Copy what is missing of a repository. Raise StageError if it is incomplete afterwards."""
    root = repository(order.models_dir, order.repo)
    record = hash_record.read(state)
    wrong = wrong_files(root, order.revision, order.files, record)
    if not wrong:
        return
    total = sum(file.size for file in wrong)
    subject = f"{order.repo} from {order.sender}"
    journal.log(
        "phase", f"{subject}: {len(wrong)} files, {total >> 20} MiB", phase="copy", have=0, total=total
    )
    whole = sum(file.size for file in order.files)
    fetch_record.revision(state, root / "snapshots" / order.revision, order.repo, order.revision, whole)
    clear(root, order.revision, wrong, record)
    request = ReceiveRequest(
        order.place,
        tuple(file_to_receive(root, file) for file in wrong),
        tuple(snapshot_link(root, order.revision, file) for file in wrong),
        transfer_key,
    )

    def on_progress(have: int) -> None:
        text = f"{subject} {have >> 20} of {total >> 20} MiB"
        journal.log("phase", text, phase="copy", have=have, total=total)

    began = time.monotonic()
    report = receive_in_child(request, user, on_progress)
    rates.note(state, rates.COPY, report.fetched, time.monotonic() - began)
    hash_record.remember(state, report.received)
    wrong = wrong_files(root, order.revision, order.files)
    if wrong:
        raise StageError(order.repo, f"{len(wrong)} files are incomplete after the copy", "run again")
    journal.log(
        "phase", f"{order.repo} is complete", phase="copy", have=total, total=total, fetched=report.fetched
    )


def file_to_receive(root: Path, file: ModelFile) -> FileToReceive:
    """Return a model file with the path of its blob as its target."""
    return FileToReceive(file.number, file.size, file.blob, str(root / "blobs" / file.blob), file.path)


def snapshot_link(root: Path, revision: str, file: ModelFile) -> SnapshotLink:
    """Return the link in the snapshot that leads to the file's blob."""
    return SnapshotLink(str(root / "snapshots" / revision / file.path), str(root / "blobs" / file.blob))


def receive_in_child(
    request: ReceiveRequest, user: LoginUser, on_progress: Callable[[int], None]
) -> ReceiveReport:
    """Receive files in a child process that runs as ``user``; return its last report. Raise StageError.

    ``on_progress`` is called with the number of bytes on the host.
    """
    child = subprocess.Popen(
        CHILD,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        umask=0o022,
        env={"PATH": os.defpath, "HOME": user.home},
    )
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018  (both are pipes)
    report = ReceiveReport(0)
    try:
        with child.stdin as stream:
            stream.write(codec.dumps(request))
        for line in child.stdout:
            report = codec.loads(ReceiveReport, line, "copy-receive")
            if report.failure is None:
                on_progress(report.have)
    finally:
        child.stdout.close()
        code = child.wait()
    if report.failure is not None:
        raise StageError.of(report.failure)
    if code:
        raise StageError("copy", f"it ended with exit code {code}", "journalctl on this host, then run again")
    return report


def receive() -> int:
    """Run as the child process. Return an exit code."""
    request = read(ReceiveRequest)
    by_target = {file.target: file for file in request.files}  # two names may share one content
    listeners = [Listener(*row) for row in request.sender.listeners]
    receiver = Receiver(request.sender.sender, listeners, request.transfer_key, tuple(by_target.values()))
    reported = -1

    def report_progress() -> None:
        nonlocal reported
        if receiver.have != reported:
            reported = receiver.have
            write(ReceiveReport(receiver.have))

    try:
        receiver.run(report_progress)
        link(request.links)
    except StageError as error:
        write(ReceiveReport(receiver.have, receiver.fetched, failure=error.result))
        return 1
    write(ReceiveReport(receiver.have, receiver.fetched, receiver.received))
    return 0


def link(links: Iterable[SnapshotLink]) -> None:
    """Create relative links in the snapshot, as the hub's own client does."""
    for one in links:
        path = Path(one.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(one.blob, path.parent))
        files.sync_directory(path.parent)
