"""State on a Spark: services and their generations, rollouts, the lock. Only paths, reads and writes."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from sparkfleet.contract import codec
from sparkfleet.contract.generation import CurrentGeneration, PromotedGeneration, RankKey
from sparkfleet.contract.rollout import UNREADABLE, RolloutResult
from sparkfleet.contract.state import StopRecord
from sparkfleet.onhost.machine import files

KEPT_GENERATIONS = 5
KEPT_ROLLOUTS = 10
_ROLLOUTS, _LOCK = "rollouts", "rollout.lock"
_OLDER_ROLLOUTS, _OLDER_LOCK = "swaps", "swap.lock"
"""Their names in earlier versions, whose programs may still run in memory."""
_SERVICE = re.compile(
    r"^(?!recover$|rollout-[a-z0-9-]*[0-9a-f]{8}(?:-\d+)?$|swap-|stage-)"
    r"[a-z0-9][a-z0-9.-]{0,62}(?<!\.next)(?<!\.old)$"
)
_ROLLOUT_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,47}$")


class BusyError(Exception):
    """Another rollout or change holds the lock."""


def check_service(name: str) -> str:
    """Return a service's name, or raise ValueError: it becomes part of paths, containers and units.

    ``recover``, ``rollout-ID``, ``swap-...`` and ``stage-...`` are other units, ``.next`` and ``.old`` other
    containers. Other names with ``rollout-`` are valid: earlier versions accepted them.
    """
    if not _SERVICE.match(name):
        raise ValueError(
            f"{name!r} cannot be a service's name: lower-case letters, digits, dots and dashes, at most 63, "
            "not 'recover', not 'rollout-' with the id of a rollout, not beginning with 'swap-' or 'stage-', "
            "not ending in '.next' or '.old'"
        )
    return name


def check_rollout_id(rollout_id: str) -> str:
    """Return a rollout's id, or raise ValueError."""
    if not _ROLLOUT_ID.match(rollout_id):
        raise ValueError(
            f"{rollout_id!r} cannot be a rollout's id: lower-case letters, digits, dashes, at most 48"
        )
    return rollout_id


def service_directory(state: Path, service: str) -> Path:
    """Return the directory of a service's state."""
    return state / "services" / check_service(service)


def record_path(state: Path, service: str) -> Path:
    """Return the path of a service's record."""
    return service_directory(state, service) / "current.json"


def current(state: Path, service: str) -> CurrentGeneration | None:
    """Return the generation that passed the gate last; None when there is no record.

    Raise ContractError, which names the file, for a record that cannot be read or that a newer sparkfleet
    wrote: the running generation is unknown then.
    """
    path = record_path(state, service)
    try:
        return files.read_document(CurrentGeneration, path)
    except codec.ContractError as error:
        hint = error.diagnostic.hint or (
            f"sudo mv {path} {path}.unreadable, then pyinfra INVENTORY deploys/serve.py: "
            "the plan shows what it can take over"
        )
        raise codec.ContractError(replace(error.diagnostic, hint=hint)) from None


def services(state: Path) -> tuple[str, ...]:
    """Return the services that serve here according to the records."""
    return tuple(sorted(path.parent.name for path in (state / "services").glob("*/current.json")))


def set_current(state: Path, service: str, record: CurrentGeneration | None) -> None:
    """Write ``current.json``; None removes it."""
    path = record_path(state, service)
    if record is None:
        files.remove(path)
    elif not files.is_written(path, record):
        files.write_document(path, record)


def stop_record(state: Path, service: str) -> StopRecord | None:
    """Return who stopped a service on purpose; None: nobody since its last start. Raise ContractError."""
    return files.read_document(StopRecord, _stop_path(state, service))


def record_stop(state: Path, service: str, record: StopRecord) -> None:
    """Record that a service is stopped on purpose."""
    files.write_document(_stop_path(state, service), record)


def forget_stop(state: Path, service: str) -> None:
    """Remove the record of a stop: the service starts, or is removed."""
    files.remove(_stop_path(state, service))


def _stop_path(state: Path, service: str) -> Path:
    return service_directory(state, service) / "stop.json"


def cluster_key(state: Path, service: str) -> str:
    """Return the key that the ranks of a cluster share, of the rollout that created them; "" without one.

    Raise ContractError for one that cannot be read: without the key, unsigned responses would be accepted.
    """
    record = current(state, service)
    path = _key_path(state, service, record.rollout if record else "")
    try:
        key = files.read_document(RankKey, path)
    except codec.ContractError as error:
        hint = error.diagnostic.hint or (
            f"copy the key from {path.parent} of another rank to {path} (mode 0600), "
            f"then sudo systemctl restart sparkfleet-{service}.service"
        )
        raise codec.ContractError(replace(error.diagnostic, hint=hint)) from None
    return key.cluster_key if key else ""


def keep_cluster_key(state: Path, service: str, rollout_id: str, key: str) -> None:
    """Write a rollout's key for the supervisors: beside the record, which people and plans read."""
    files.write_document(_key_path(state, service, rollout_id), RankKey(key), mode=0o600)


def forget_cluster_keys(state: Path, service: str, but: str) -> None:
    """Remove the keys of all other rollouts."""
    own = _key_path(state, service, but)
    for path in own.parent.glob("*.json"):
        if path != own:
            files.remove(path)


def _key_path(state: Path, service: str, rollout_id: str) -> Path:
    return service_directory(state, service) / "ranks" / f"{rollout_id}.json"


def remember(state: Path, promoted: PromotedGeneration) -> None:
    """Keep a promoted generation for a rollback, with the newest few before it. Idempotent."""
    history = service_directory(state, promoted.service) / "generations"
    known = _numbered(history)
    last = _readable(known[-1]) if known else None
    if last is None or (last.id, last.promoted_at) != (promoted.id, promoted.promoted_at):
        number = _number(known[-1]) + 1 if known else 1
        files.write_document(history / f"{number}-{promoted.id}.json", promoted)
        known = _numbered(history)
    for path in known[:-KEPT_GENERATIONS]:
        files.remove(path)


def generations(state: Path, service: str) -> tuple[PromotedGeneration, ...]:
    """Return the promoted generations that are kept and can be read, newest last."""
    found = (_readable(path) for path in _numbered(service_directory(state, service) / "generations"))
    return tuple(generation for generation in found if generation)


def _readable(path: Path) -> PromotedGeneration | None:
    """Return a kept generation; None for one that cannot be read, which is no target of a rollback."""
    try:
        return files.read_document(PromotedGeneration, path)
    except codec.ContractError:
        return None


def retire(state: Path, service: str) -> None:
    """Remove the record of a service; its generations are kept for a rollback."""
    files.remove(record_path(state, service))
    files.remove(service_directory(state, service) / "starts.json")
    forget_stop(state, service)


def rollout_directory(state: Path, rollout_id: str) -> Path:
    """Return the directory of a rollout's journal; the one of an earlier version until it was moved."""
    directory = state / _ROLLOUTS / check_rollout_id(rollout_id)
    older = state / _OLDER_ROLLOUTS / rollout_id
    return older if older.exists() and not directory.exists() else directory


def rollout_fallback(run: Path, rollout_id: str) -> Path:
    """Return where a rollout writes while its directory cannot be written: in memory, until a reboot."""
    return run / _ROLLOUTS / check_rollout_id(rollout_id)


def was_requested(state: Path, rollout_id: str) -> bool:
    """Return whether there is such a rollout."""
    return (rollout_directory(state, rollout_id) / "request.json").exists()


def rollouts(state: Path) -> tuple[Path, ...]:
    """Return the directories of all requested rollouts, oldest first."""
    paths = (path for name in (_ROLLOUTS, _OLDER_ROLLOUTS) for path in (state / name).glob("*/request.json"))
    return tuple(path for _, path in sorted((path.stat().st_mtime_ns, path.parent) for path in paths))


def unfinished(state: Path) -> tuple[str, ...]:
    """Return the ids of rollouts without a result, oldest first."""
    return tuple(path.name for path in rollouts(state) if not (path / "result.json").exists())


def prune_rollouts(state: Path) -> None:
    """Remove all but the newest finished rollouts; those that could not be read stay as evidence."""
    finished = [path for path in rollouts(state) if _has_readable_end(path)]
    for path in finished[:-KEPT_ROLLOUTS]:
        files.remove(path)


def _has_readable_end(directory: Path) -> bool:
    try:
        result = files.read_document(RolloutResult, directory / "result.json")
    except codec.ContractError:
        return False
    return result is not None and result.outcome != UNREADABLE


@contextmanager
def lock(state: Path, wait: bool = True) -> Iterator[None]:
    """Hold the Spark's one lock; without ``wait`` raise BusyError when it is held. A kill frees it.

    A program of an earlier version holds another file; what it left is moved once it has ended.
    """
    state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for name in (_LOCK, *([_OLDER_LOCK] if (state / _OLDER_LOCK).exists() else [])):
            descriptor = os.open(state / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise BusyError("a rollout is in progress on this Spark") from None
        _move_older_rollouts(state)
        yield


def _move_older_rollouts(state: Path) -> None:
    """Give the rollouts of an earlier version their present place; the caller holds the lock."""
    older = state / _OLDER_ROLLOUTS
    if not older.is_dir():
        return
    (state / _ROLLOUTS).mkdir(exist_ok=True)
    for path in older.iterdir():
        if not (state / _ROLLOUTS / path.name).exists():
            path.replace(state / _ROLLOUTS / path.name)
    with suppress(OSError):  # something else is in it
        older.rmdir()
    for directory in (state / _ROLLOUTS, state):
        files.sync_directory(directory)


def _numbered(history: Path) -> list[Path]:
    return sorted((path for path in history.glob("*-*.json") if path.name[0].isdigit()), key=_number)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])
