"""known_hosts with an index: paramiko's own answers, and no line compared with every other."""

from __future__ import annotations

from pathlib import Path

import pytest
from paramiko import ECDSAKey, HostKeys, PKey
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from sparkfleet.fleet.connection import known_hosts
from sparkfleet.fleet.connection.known_hosts import KnownHosts

KEYS = [ECDSAKey.generate() for _ in range(3)]
HASHED = HostKeys.hash_host("spark-07", "|1|0szQdcuEEEMG/k39HIY+LMgRmgM=")


def line(names: str, key: PKey) -> str:
    return f"{names} {key.get_name()} {key.get_base64()}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "known_hosts"
    path.write_text(
        "# a comment\n\n"
        + line("spark-01,192.168.1.21", KEYS[0])
        + line("[127.0.0.1]:2222", KEYS[1])
        + line("spark-01", KEYS[2])  # of a type that the name has already: the first counts
        + line(HASHED, KEYS[1])
        + "spark-09 no-such-type AAAA\n"
        + "|1|broken spark\n"
    )
    return path


NAMES = ("spark-01", "192.168.1.21", "[127.0.0.1]:2222", "127.0.0.1", "spark-07", "spark-08", HASHED, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_the_keys_that_paramiko_finds(file: Path, name: str) -> None:
    ours, theirs = KnownHosts(str(file)).lookup(name), HostKeys(str(file)).lookup(name)
    assert (ours is None) == (theirs is None)
    if theirs is not None:
        assert {kind: ours[kind].asbytes() for kind in ours} == {
            kind: theirs[kind].asbytes() for kind in theirs
        }


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_right_or_wrong_for_a_name_as_paramiko_says(file: Path, name: str) -> None:
    ours, theirs = KnownHosts(str(file)), HostKeys(str(file))
    assert [ours.check(name, key) for key in KEYS] == [theirs.check(name, key) for key in KEYS]


@pytest.mark.parametrize("kind", [KnownHosts, HostKeys])
def test_a_damaged_line_is_reported_and_the_lines_before_it_count(
    tmp_path: Path, kind: type[HostKeys]
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("spark-01", KEYS[0]) + "spark-02 ssh-ed25519 not-base64\n")
    known = kind()
    with pytest.raises(InvalidHostKey, match="not-base64"):
        known.load(str(file))
    assert known.check("spark-01", KEYS[0])


def test_a_key_that_is_added_is_found() -> None:
    known = KnownHosts()
    known.add("spark-01", KEYS[0].get_name(), KEYS[0])
    known.add("spark-01", KEYS[1].get_name(), KEYS[1])  # the same type: takes the other's place
    assert known.check("spark-01", KEYS[1])
    assert not known.check("spark-01", KEYS[0])
    known.clear()
    assert known.lookup("spark-01") is None


def comparisons(kind: type[HostKeys], file: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    requested: list[str] = []
    original = vars(HostKeys)["_hostname_matches"]

    def matches(self: HostKeys, hostname: str, entry: HostKeyEntry) -> bool:
        requested.append(hostname)
        return bool(original(self, hostname, entry))

    with monkeypatch.context() as patch:
        patch.setattr(HostKeys, "_hostname_matches", matches)
        known = kind(str(file))
        for number in range(100):
            assert known.lookup(f"spark-{number}") is not None
    return len(requested)


def test_as_many_comparisons_as_lines_where_paramiko_needs_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("".join(line(f"spark-{number}", KEYS[0]) for number in range(100)))
    assert comparisons(KnownHosts, file, monkeypatch) == 100
    assert comparisons(HostKeys, file, monkeypatch) > 10_000  # when this fails, our class is no longer needed


def test_pyinfra_takes_this_class() -> None:
    known_hosts.use()
    from pyinfra.connectors.sshuserclient.client import get_host_keys  # noqa: PLC0415

    assert isinstance(get_host_keys(("/nonexistent/for/this/test",)), KnownHosts)
