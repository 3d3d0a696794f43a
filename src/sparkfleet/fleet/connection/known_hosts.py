"""A known_hosts of many lines: read in linear time, asked by an index.

paramiko 4.0 compares each line that it reads with every line before, and each question with every line: 1,000
hosts cost half a second to read and as much again to ask, for hashed names ten times that. pyinfra 3.10 takes
its class from ``pyinfra.connectors.sshuserclient.client``; ``use`` puts this one there.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from typing import Any

from paramiko import HostKeys, PKey
from paramiko.hostkeys import HostKeyEntry
from paramiko.ssh_exception import SSHException
from pyinfra.connectors.sshuserclient import client

_HASHED = "|1|"


class _Few(HostKeys):
    """Some lines, asked by paramiko's own code."""

    def __init__(self, entries: list[HostKeyEntry]) -> None:
        super().__init__()
        self._entries = entries


class KnownHosts(HostKeys):
    """paramiko's host keys with the same answers."""

    _entries: list[HostKeyEntry]

    def __init__(self, filename: str | None = None) -> None:
        """Read a file, if one is given."""
        self._named: dict[str, list[int]] = {}
        """Name -> places of its lines in ``_entries``."""
        self._hashed: list[tuple[int, bytes, str]] = []
        """Place, salt and digest of each name that ssh keeps hashed."""
        self._count = 0
        """Lines that the index knows."""
        super().__init__(filename)

    def load(self, filename: Any) -> None:
        """Read a file; lines that cannot be read are left out, as paramiko does.

        A key that two lines say stays twice: nothing asks how often, and pyinfra never writes this back.
        """
        with open(filename, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  (as paramiko is given it)
            for number, line in enumerate(file, 1):
                text = line.strip()
                if not text or text.startswith("#"):
                    continue
                try:
                    entry = HostKeyEntry.from_line(text, number)
                except SSHException:
                    continue
                if entry is not None:
                    self._entries.append(entry)
                    self._index(entry)

    def add(self, hostname: str, keytype: str, key: PKey) -> None:
        """Put a key in, or in the place of the one of this name and type."""
        super().add(hostname, keytype, key)
        if len(self._entries) > self._count:
            self._index(self._entries[-1])

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self._named, self._hashed, self._count = {}, [], 0

    def lookup(self, hostname: str) -> Any:
        """Return the keys of a name or address as paramiko does, None without one."""
        places = [*self._named.get(hostname, ()), *self._matching(hostname)]
        if not places:
            return None
        return _Few([self._entries[place] for place in sorted(set(places))]).lookup(hostname)

    def _index(self, entry: HostKeyEntry) -> None:
        place, self._count = self._count, self._count + 1
        for name in entry.hostnames or ():
            self._named.setdefault(name, []).append(place)
            if not name.startswith(_HASHED):
                continue
            salt, _, digest = name.removeprefix(_HASHED).partition("|")
            try:
                self._hashed.append((place, b64decode(salt), digest))
            except (Base64Error, ValueError):
                continue

    def _matching(self, hostname: str) -> Iterable[int]:
        if hostname.startswith(_HASHED):
            return
        name = hostname.encode()
        for place, salt, digest in self._hashed:
            if b64encode(hmac.digest(salt, name, "sha1")).decode() == digest:
                yield place


def use() -> None:
    """Let pyinfra's connections take this class."""
    setattr(client, "HostKeys", KnownHosts)  # noqa: B010  (a name that pyinfra imports, not one that it offers)
