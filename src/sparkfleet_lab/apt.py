"""The apt sources of this machine, read at run time: where a lab's base system comes from.

Only entries of the distribution's own archive are used: of its own release, with the component ``main``, and
not signed by another publisher.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

TESTING = "testing"
_OWN_KEYRING = re.compile(r"/(debian|ubuntu)-archive-[^/]*$")


@dataclass(frozen=True)
class Source:
    """One entry of a distribution's archive."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: str = ""
    """In apt's one-line form, with brackets and a space; "" for none."""

    @property
    def line(self) -> str:
        """Return the entry in apt's one-line form."""
        return f"deb {self.options}{self.uri} {self.suite} {' '.join(self.components)}"


@dataclass(frozen=True)
class Apt:
    """The machine's apt settings that a base system needs."""

    codename: str
    sources: tuple[Source, ...]
    proxy: str = ""
    """``http://host:port`` of ``Acquire::http::Proxy``, "" without one."""

    @property
    def archive(self) -> Source | None:
        """Return the entry of the release itself (not its updates), if there is one."""
        return next((source for source in self.sources if source.suite == self.codename), None)

    @property
    def with_newer(self) -> Apt:
        """Return these settings with Debian's next releases, for ``apt-get install -t testing``.

        Without an archive of Debian they are unchanged.
        """
        archive = self.archive
        if archive is None or not archive.uri.rstrip("/").endswith("debian"):
            return self
        options = "[check-valid-until=no] "  # they are valid for a week, and a mirror may be older
        newer = tuple(replace(archive, suite=suite, options=options) for suite in (TESTING, "unstable"))
        return replace(self, sources=(*self.sources, *newer))

    def conf(self, sources_list: str) -> str:
        """Return an apt.conf that uses these sources, written at ``sources_list``, and nothing else."""
        lines = (
            [f'Dir::Etc::SourceList "{sources_list}";', 'Dir::Etc::SourceParts "-";'] if self.sources else []
        )
        if self.proxy:
            lines += [f'Acquire::http::Proxy "{self.proxy}";', f'Acquire::https::Proxy "{self.proxy}";']
        return "".join(f"{line}\n" for line in lines)


def read_apt(root: Path = Path("/")) -> Apt:
    """Return the apt sources of the machine below ``root``; none if it has no apt."""
    codename = _codename(root)
    found: list[Source] = []
    etc = root / "etc/apt"
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))):
        if path.suffix == ".list" and path.is_file():
            found += parse_list(path.read_text(errors="replace"))
        elif path.suffix == ".sources" and path.is_file():
            found += parse_deb822(path.read_text(errors="replace"))
    own = (codename, f"{codename}-updates", f"{codename}-security")
    sources = dict.fromkeys(s for s in found if s.suite in own and "main" in s.components)
    return Apt(codename, tuple(sources), _proxy() if root == Path("/") else "")


def parse_list(text: str) -> list[Source]:
    """Return the entries of a ``sources.list``, without those that another publisher signs."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(\[[^\]]*\]\s+)?(https?://\S+)\s+(\S+)\s+([^#]+)", line)
        if match is None:
            continue
        signer = re.search(r"signed-by=([^\s\]]+)", match[1] or "")
        if signer is None or _OWN_KEYRING.search(signer[1]):
            found.append(Source(match[2], match[3], tuple(match[4].split())))
    return found


def parse_deb822(text: str) -> list[Source]:
    """Return the entries of a ``.sources`` file, without those that another publisher signs."""
    found = []
    for block in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = {
            key.lower(): value.strip()
            for key, value in re.findall(r"(?m)^(\S+):((?:.*)(?:\n[ \t].*)*)", block)
        }
        signer = fields.get("signed-by", "")
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
            continue
        if signer and not _OWN_KEYRING.search(signer):
            continue
        found += [
            Source(uri, suite, tuple(fields.get("components", "").split()))
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
            if uri.startswith(("http://", "https://"))
        ]
    return found


def _codename(root: Path) -> str:
    release = root / "etc/os-release"
    match = re.search(r'(?m)^VERSION_CODENAME="?([a-z]+)', release.read_text()) if release.is_file() else None
    return match[1] if match else ""


def _proxy() -> str:
    try:
        result = subprocess.run(
            ["apt-config", "shell", "P", "Acquire::http::Proxy"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    match = re.search(r"P='([^']*)'", result.stdout)
    return match[1] if match and match[1] != "DIRECT" else ""
