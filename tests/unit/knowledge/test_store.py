"""Updates on the operator's machine: what is used, and that a failure leaves the former one in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sparkfleet import data_files
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.knowledge import archive, store
from sparkfleet.knowledge.archive import MANIFEST, Update
from tests.unit.knowledge import updates
from tests.unit.knowledge.updates import IMAGES, RECIPE


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "sparkfleet" / "knowledge"


def update(tmp_path: Path, version: str, **releases: str) -> Update:
    found = updates.good(tmp_path, {IMAGES: updates.images(**releases)}, version)
    return archive.load(found.source, found.sha256)


def used() -> str:
    found = store.active_update()
    return found.version if found else "bundled"


def test_without_an_update_the_bundled_knowledge_is_used(home: Path) -> None:
    assert (used(), store.stored_updates(), store.reset()) == ("bundled", [], False)
    assert not home.exists()


def test_an_update_is_used_until_it_is_reset(tmp_path: Path) -> None:
    first = update(tmp_path, "2027.1.2")
    assert store.install(first)
    assert not store.install(first)
    found = store.active_update()
    assert found is not None
    assert found.read(IMAGES) == first.files[IMAGES]
    assert store.reset()
    assert used() == "bundled"
    assert [one.version for one in store.stored_updates()] == ["2027.1.2"]
    store.install(first)
    assert used() == "2027.1.2"


@pytest.mark.provokes("knowledge-not-newer")
def test_an_older_update_is_refused_and_the_former_stays(tmp_path: Path) -> None:
    store.install(update(tmp_path, "2027.1.10"))
    with pytest.raises(SparkfleetError, match=r"knowledge 2027\.1\.10 is in use"):
        store.install(update(tmp_path, "2027.1.9"))
    with pytest.raises(SparkfleetError, match="a newer version"):
        store.install(update(tmp_path, "2027.1.10", **{"99.02": "0.33.0"}))
    assert used() == "2027.1.10"
    assert store.install(update(tmp_path, "2027.1.10.1"))


def test_an_update_that_is_older_than_the_bundled_knowledge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparkfleetError, match=r"is in use \(bundled\)"):
        store.install(update(tmp_path, "2020.1.1"))


def test_a_newer_sparkfleet_uses_its_own_knowledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.install(update(tmp_path, "2027.1.2"))
    monkeypatch.setattr(data_files, "BUNDLED", "2027.1.3")
    assert used() == "bundled"


def test_a_sparkfleet_of_another_format_uses_its_own_knowledge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.install(update(tmp_path, "2027.1.2"))
    monkeypatch.setattr(archive, "FORMAT", 2)
    assert (used(), store.stored_updates()) == ("bundled", [])


@pytest.mark.provokes("knowledge-damaged")
def test_a_file_that_was_changed_since_is_an_error_not_another_answer(tmp_path: Path) -> None:
    store.install(update(tmp_path, "2027.1.2"))
    found = store.active_update()
    assert found is not None
    (found.directory / IMAGES).write_bytes(updates.images(**{"99.03": "0.1"}))
    with pytest.raises(SparkfleetError, match="knowledge reset"):
        found.read(IMAGES)
    (found.directory / IMAGES).unlink()
    with pytest.raises(SparkfleetError, match="is missing or was changed"):
        found.read(IMAGES)


@pytest.mark.parametrize("content", [b"", b"{", None])
def test_an_update_without_its_manifest_is_an_error_that_reset_resolves(
    content: bytes | None, tmp_path: Path
) -> None:
    store.install(update(tmp_path, "2027.1.2"))
    manifest = store.directory() / "current" / MANIFEST
    manifest.unlink() if content is None else manifest.write_bytes(content)
    with pytest.raises(SparkfleetError) as error:
        store.active_update()
    assert error.value.diagnostics[0].code == "knowledge-damaged"
    store.reset()
    assert used() == "bundled"


def test_an_update_that_cannot_be_written_leaves_the_former_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.install(update(tmp_path, "2027.1.2"))
    write = store.write

    def full(found: Update, target: Path) -> None:
        write(replace(found, files={}), target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space"):
        store.install(update(tmp_path, "2027.1.3"))
    assert used() == "2027.1.2"
    assert [one.version for one in store.stored_updates()] == ["2027.1.2"]


def test_a_process_that_ends_before_the_switch_leaves_the_former_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.install(update(tmp_path, "2027.1.2"))
    with monkeypatch.context() as patched:
        patched.setattr(store, "select", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.install(update(tmp_path, "2027.1.3"))
    assert used() == "2027.1.2"
    assert store.install(update(tmp_path, "2027.1.3"))
    assert used() == "2027.1.3"


def test_the_newest_updates_are_kept(tmp_path: Path) -> None:
    for day in range(1, 7):
        store.install(update(tmp_path, f"2027.1.{day}"))
    assert [one.version for one in store.stored_updates()] == ["2027.1.4", "2027.1.5", "2027.1.6"]


def test_what_an_update_lacks_is_read_from_the_bundled_files(tmp_path: Path) -> None:
    found = updates.good(tmp_path, {IMAGES: b"{}", RECIPE: updates.NEW_RECIPE})
    store.install(archive.load(found.source, found.sha256))
    store.activate()
    try:
        assert data_files.update_version() == updates.VERSION
        assert data_files.read("sparkfleet.engines.vllm", "data/images.json") == b"{}"
        patterns = data_files.read("sparkfleet.engines.vllm", "failure_patterns.json")
        assert patterns == archive.bundled_files()[updates.PATTERNS]
        with pytest.raises(FileNotFoundError):
            data_files.read("sparkfleet.engines.vllm", "data/none.json")
    finally:
        data_files.use(lambda: None)
