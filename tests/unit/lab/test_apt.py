from __future__ import annotations

from pathlib import Path

from sparkfleet_lab.apt import Apt, Source, parse_deb822, parse_list, read_apt

DEBIAN = """\
Types: deb
# a comment in the middle
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
"""
OTHER_SETTINGS = """\
deb [signed-by=/etc/apt/keyrings/vendor.gpg arch=amd64] https://vendor.example/apt bookworm main
deb https://tools.example/apt stable main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/sec bookworm-security main
# deb http://old.example bookworm main
"""


def machine(root: Path, files: dict[str, str]) -> Apt:
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    for name, text in files.items():
        (root / "etc/apt" / name).write_text(text)
    return read_apt(root)


def test_only_entries_of_the_machines_own_release_signed_by_its_own_publisher_are_taken(
    tmp_path: Path,
) -> None:
    apt = machine(tmp_path, {"sources.list.d/debian.sources": DEBIAN, "sources.list": OTHER_SETTINGS})
    assert [(source.uri, source.suite) for source in apt.sources] == [
        ("http://m.example/sec", "bookworm-security"),
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
    ]
    assert apt.archive == Source("http://mirror.example/debian", "bookworm", ("main",))


def test_a_machine_without_apt_has_no_archive(tmp_path: Path) -> None:
    apt = read_apt(tmp_path)
    assert (apt.sources, apt.archive, apt.codename) == ((), None, "")


def test_an_entry_that_is_switched_off_or_of_source_packages_is_none() -> None:
    assert parse_deb822(f"Enabled: no\n{DEBIAN.split(chr(10) * 2, maxsplit=1)[0]}") == []
    assert parse_list("deb-src http://mirror.example bookworm main\n") == []


def test_apt_conf_replaces_all_sources_and_passes_the_proxy_on() -> None:
    apt = Apt("bookworm", (Source("http://m", "bookworm", ("main",)),), "http://proxy:3142")
    assert apt.conf("/mnt/list") == (
        'Dir::Etc::SourceList "/mnt/list";\nDir::Etc::SourceParts "-";\n'
        'Acquire::http::Proxy "http://proxy:3142";\nAcquire::https::Proxy "http://proxy:3142";\n'
    )
    assert Apt("", ()).conf("/mnt/list") == ""


def test_newer_packages_come_from_debians_next_releases_alone() -> None:
    debian = Source("http://m/debian", "bookworm", ("main",))
    assert [source.suite for source in Apt("bookworm", (debian,)).with_newer.sources] == [
        "bookworm", "testing", "unstable",
    ]  # fmt: skip
    ubuntu = Apt("noble", (Source("http://m/ubuntu", "noble", ("main",)),))
    assert ubuntu.with_newer == ubuntu
    assert Apt("", ()).with_newer == Apt("", ())
