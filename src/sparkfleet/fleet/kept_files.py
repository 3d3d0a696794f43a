"""Generations and history that a Spark keeps, read from its state files, whatever programs it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pyinfra.api.host import Host as PyinfraHost

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import STATE_DIR, CurrentGeneration, PromotedGeneration
from sparkfleet.contract.history import FILE, OLDER_FILE, HistoryEntry
from sparkfleet.fleet.connection import remote
from sparkfleet.plan.rollback import KeptService

LARGEST = 1 << 22
"""Bytes of a file that are read, at most."""
_READ = f"""
import glob, json, os, sys
found = {{}}
for pattern in sys.argv[1:]:
    for path in sorted(glob.glob(os.path.join({STATE_DIR!r}, pattern))):
        with open(path, errors="replace") as file:
            found[os.path.relpath(path, {STATE_DIR!r})] = file.read({LARGEST})
print(json.dumps(found))
"""
GENERATIONS = ("services/*/current.json", "services/*/generations/*.json")
HISTORY = (OLDER_FILE, FILE)


@dataclass(frozen=True)
class StoredState:
    """What a Spark keeps: each service's generations, the history, and files that cannot be read."""

    services: Mapping[str, KeptService] = field(default_factory=dict)
    entries: tuple[HistoryEntry, ...] = ()
    """Oldest first."""
    unreadable: tuple[Diagnostic, ...] = ()


def read(host: PyinfraHost, *patterns: str) -> StoredState:
    """Return what a Spark keeps. Raise SparkfleetError when it cannot be read."""
    output = remote.run(host, ("/usr/bin/python3", "-I", "-S", "-B", "-c", _READ, *patterns))
    if not output.ok:
        raise SparkfleetError(remote.refusal(output, host.name, "its state cannot be read"))
    try:
        files = codec.parse(dict[str, str], output.out, f"{host.name}: state")
    except ContractError as error:
        raise SparkfleetError(error.diagnostic) from None
    return parsed(host.name, files)


def parsed(host: str, files: Mapping[str, str]) -> StoredState:
    """Return what these files hold; a file that cannot be read is named, and holds nothing."""
    services: dict[str, KeptService] = {}
    wrong: list[Diagnostic] = []
    for name, text in sorted(files.items(), key=lambda one: _order(one[0])):
        if not name.startswith("services/"):
            continue
        service = name.split("/")[1]
        stored = services.setdefault(service, KeptService(service))
        where = f"{host}: {STATE_DIR}/{name}"
        try:
            if name.endswith("/current.json"):
                services[service] = replace(stored, current=codec.loads(CurrentGeneration, text, where))
            else:
                one = codec.loads(PromotedGeneration, text, where)
                services[service] = replace(stored, generations=(*stored.generations, one))
        except ContractError as error:
            wrong.append(error.diagnostic)
    entries = []
    for name in HISTORY:
        for number, line in enumerate(files.get(name, "").splitlines(), start=1):
            try:
                entries.append(codec.loads(HistoryEntry, line, f"{host}: {STATE_DIR}/{name}:{number}"))
            except ContractError as error:
                wrong.append(error.diagnostic)
    return StoredState(services, tuple(entries), tuple(wrong))


def _order(name: str) -> tuple[str, int]:
    """Sort the files of generations by their number: 9-... comes before 10-..."""
    folder, _, file = name.rpartition("/")
    number = file.partition("-")[0]
    return folder, int(number) if number.isdecimal() else 0
