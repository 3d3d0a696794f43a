"""State on a Spark: services and their generations, rollouts, the lock. Only paths, reads and writes."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparkfleet.contract import codec
from sparkfleet.contract.generation import CurrentGeneration, Generation, PromotedGeneration, RankKey
from sparkfleet.onhost.machine import files

KEPT_GENERATIONS = 5
KEPT_ROLLOUTS = 10
_SERVICE = re.compile(r"^(?!recover$|swap-|stage-)[a-z0-9][a-z0-9.-]{0,62}(?<!\.next)(?<!\.old)$")
_ROLLOUT_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,47}$")


class BusyError(Exception):
    """Another rollout or change holds the lock."""


def check_service(name: str) -> str:
    """Return a service's name, or raise ValueError: it becomes part of paths, containers and units.

    ``recover``, ``swap-...`` and ``stage-...`` are other units, ``.next`` and ``.old`` other containers.
    """
    if not _SERVICE.match(name):
        raise ValueError(
            f"{name!r} cannot be a service's name: lower-case letters, digits, dots and dashes, at most 63, "
            "not 'recover', not beginning with 'swap-' or 'stage-', not ending in '.next' or '.old'"
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


def read_current(state: Path, service: str) -> CurrentGeneration | None:
    """Return the generation that passed the gate last, None when there is none. Raise ContractError."""
    return files.read_document(CurrentGeneration, record_path(state, service))


def current(state: Path, service: str) -> dict[str, Any] | None:
    """Return ``current.json`` in the present version; None when there is none, or none that can be read."""
    try:
        found = read_current(state, service)
    except codec.ContractError:
        return None
    return found.to_json() if found else None


def current_generation(state: Path, service: str) -> Generation | None:
    """Return the generation that passed the gate last, None when there is none that can be read."""
    data = current(state, service)
    return Generation.from_json(data) if data else None


def services(state: Path) -> tuple[str, ...]:
    """Return the services that serve here according to the records."""
    return tuple(sorted(path.parent.name for path in (state / "services").glob("*/current.json")))


def set_current(state: Path, service: str, record: dict[str, Any] | None) -> None:
    """Write ``current.json``; None removes it."""
    path = record_path(state, service)
    if record is None:
        files.remove(path)
    elif files.read_json(path) != record:
        files.write_json(path, record)


def cluster_key(state: Path, service: str) -> str:
    """Return the key that the ranks of a cluster share, of the rollout that made them; "" without one."""
    record = current(state, service) or {}
    return files.read_or_default(RankKey, _key_path(state, service, str(record.get("swap", "")))).cluster_key


def keep_cluster_key(state: Path, service: str, rollout_id: str, key: str) -> None:
    """Keep a rollout's key for the supervisors: beside the record, which people and plans read."""
    files.write_json(_key_path(state, service, rollout_id), RankKey(key).to_json(), mode=0o600)


def forget_cluster_keys(state: Path, service: str, but: str) -> None:
    """Remove the keys of all other rollouts."""
    kept = _key_path(state, service, but)
    for path in kept.parent.glob("*.json"):
        if path != kept:
            files.remove(path)


def _key_path(state: Path, service: str, rollout_id: str) -> Path:
    return service_directory(state, service) / "ranks" / f"{rollout_id}.json"


def remember(state: Path, record: dict[str, Any]) -> None:
    """Keep a promoted generation for a rollback, and the newest few others. Idempotent."""
    history = service_directory(state, record["service"]) / "generations"
    known = _numbered(history)
    last = files.read_json(known[-1]) if known else None
    if last is None or (last.get("id"), last.get("promoted_at")) != (record["id"], record.get("promoted_at")):
        number = _number(known[-1]) + 1 if known else 1
        files.write_json(history / f"{number}-{record['id']}.json", record)
        known = _numbered(history)
    for path in known[:-KEPT_GENERATIONS]:
        files.remove(path)


def generations(state: Path, service: str) -> tuple[dict[str, Any], ...]:
    """Return the promoted generations that are kept, newest last."""
    found = []
    for path in _numbered(service_directory(state, service) / "generations"):
        with suppress(codec.ContractError):  # one that cannot be read is no target of a rollback
            generation = files.read_document(PromotedGeneration, path)
            if generation:
                found.append(generation.to_json())
    return tuple(found)


def retire(state: Path, service: str) -> None:
    """Remove the record of a service; its generations are kept for a rollback."""
    files.remove(record_path(state, service))
    files.remove(service_directory(state, service) / "starts.json")


def rollout_directory(state: Path, rollout_id: str) -> Path:
    """Return the directory of a rollout's journal."""
    return state / "swaps" / check_rollout_id(rollout_id)


def rollouts(state: Path) -> tuple[Path, ...]:
    """Return the directories of all requested rollouts, oldest first."""
    found = [(path.stat().st_mtime_ns, path.parent) for path in (state / "swaps").glob("*/request.json")]
    return tuple(path for _, path in sorted(found))


def unfinished(state: Path) -> tuple[str, ...]:
    """Return the ids of rollouts without a result, oldest first."""
    return tuple(path.name for path in rollouts(state) if not (path / "result.json").exists())


def prune_rollouts(state: Path) -> None:
    """Remove all but the newest finished rollouts."""
    finished = [path for path in rollouts(state) if (path / "result.json").exists()]
    for path in finished[:-KEPT_ROLLOUTS]:
        files.remove(path)


@contextmanager
def lock(state: Path, wait: bool = True) -> Iterator[None]:
    """Hold the Spark's one lock; without ``wait`` raise BusyError when it is held. A kill frees it."""
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / "swap.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BusyError("a rollout is in progress on this Spark") from None
        yield
    finally:
        os.close(descriptor)


def _numbered(history: Path) -> list[Path]:
    return sorted((path for path in history.glob("*-*.json") if path.name[0].isdigit()), key=_number)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])
