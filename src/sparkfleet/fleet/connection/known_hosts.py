"""A known_hosts file that is read in linear time and searched by an index.

paramiko 4.0 compares each line that it reads with every previous line, and each lookup with every line: for
1,000 hosts reading costs half a second and the lookups as much again, for hashed names ten times that.
pyinfra 3.10 takes its class from ``pyinfra.connectors.sshuserclient.client``; ``use`` replaces it there.
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
    """A few lines, searched by paramiko's own code."""

    def __init__(self, entries: list[HostKeyEntry]) -> None:
        super().__init__()
        self._entries = entries


class KnownHosts(HostKeys):
    """paramiko's host keys with the same results."""

    _entries: list[HostKeyEntry]

    def __init__(self, filename: str | None = None) -> None:
        """Read the file, if there is one."""
        self._named: dict[str, list[int]] = {}
        """Name -> indexes of its lines in ``_entries``."""
        self._hashed: list[tuple[int, bytes, str]] = []
        """Index, salt and digest of each hashed name."""
        self._count = 0
        """Number of indexed lines."""
        super().__init__(filename)

    def load(self, filename: Any) -> None:
        """Read a file and skip lines that cannot be parsed, as paramiko does.

        A key that is on two lines is kept twice, which makes no difference: pyinfra never writes the file.
        """
        with open(filename, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  (paramiko's interface)
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
        """Add a key, or replace the one of this name and type."""
        super().add(hostname, keytype, key)
        if len(self._entries) > self._count:
            self._index(self._entries[-1])

    def clear(self) -> None:
        """Remove all keys."""
        super().clear()
        self._named, self._hashed, self._count = {}, [], 0

    def lookup(self, hostname: str) -> Any:
        """Return the keys of a name or address as paramiko does; None: no key."""
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
    """Have pyinfra's connections use this class."""
    setattr(client, "HostKeys", KnownHosts)  # noqa: B010  (a name that pyinfra imports, not part of its interface)
