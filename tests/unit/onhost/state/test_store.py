"""Files, journal, store, starts, secrets: data that must persist and data that must never be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet.contract import codec
from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.generation import (
    LABEL_GENERATION,
    Generation,
    PromotedGeneration,
)
from sparkfleet.contract.rollout import PROMOTED, UNREADABLE, RolloutResult
from sparkfleet.onhost.artifacts.fetch import fetch_record, hash_record, rates
from sparkfleet.onhost.machine import files, redact
from sparkfleet.onhost.state import store
from sparkfleet.onhost.state.journal import Journal, read_events
from sparkfleet.onhost.supervisor.starts import Starts
from sparkfleet.runtimes.docker.onhost.container import parse
from tests.unit.onhost.world import generation

TEXT = st.text(alphabet=st.characters(codec="utf-8"))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "unit"
    files.write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_line_is_left_out_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path, lambda: 1.0)
    journal.step("check")
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"n": 1, "kind": "st')
    again = Journal(tmp_path, lambda: 2.0)
    again.step("create")
    assert [(event.n, event.step) for event in read_events(tmp_path)] == [(0, "check"), (1, "create")]


def test_events_are_read_from_a_number_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, lambda: 1.0)
    for step in "abc":
        journal.step(step)
    assert [event.step for event in read_events(tmp_path, since=1)] == ["b", "c"]


def test_a_step_is_synced_to_disk_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path, lambda: 1.0)
    journal.step("stop")
    assert len(synced) == 1
    journal.log("note", "hello")
    assert len(synced) == 1


@given(TEXT, TEXT)
def test_any_text_can_be_written_and_read_back(
    tmp_path_factory: pytest.TempPathFactory, text: str, other: str
) -> None:
    folder = tmp_path_factory.mktemp("diary")
    journal = Journal(folder, lambda: 1.0)
    journal.log("note", text)
    journal.log("note", other)
    assert [event.text for event in read_events(folder)] == [text, other]


def promoted(number: int) -> PromotedGeneration:
    return PromotedGeneration(
        "nano", "img:1", "org/m", "c1", "nano", 8000 + number, (), "", "vllm", "docker", promoted_at=number
    )


def test_the_last_five_generations_are_kept(tmp_path: Path) -> None:
    for number in range(8):
        store.remember(tmp_path, promoted(number))
    remaining = [one.id for one in store.generations(tmp_path, "nano")]
    assert remaining == [promoted(number).id for number in range(3, 8)]


def test_a_generation_remembered_twice_is_there_once(tmp_path: Path) -> None:
    for _ in range(2):
        store.remember(tmp_path, promoted(1))
    assert len(store.generations(tmp_path, "nano")) == 1


def test_a_generation_that_cannot_be_read_is_no_target_of_a_rollback(tmp_path: Path) -> None:
    store.remember(tmp_path, promoted(1))
    history = tmp_path / "services" / "nano" / "generations"
    (history / "2-of-later.json").write_text(json.dumps({**promoted(2).to_json(), "version": 99}))
    (history / "3-broken.json").write_text("[1]")
    assert [one.port for one in store.generations(tmp_path, "nano")] == [8001]


@pytest.mark.parametrize("text", ["[]", "{", "", '{"service": 1}'])
def test_a_record_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "services" / "nano" / "current.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        store.current(tmp_path, "nano")
    error = caught.value.diagnostic
    assert (error.location, error.code) == (str(path), codec.SHAPE)
    assert error.hint.startswith(f"sudo mv {path} ")


def test_a_record_of_a_newer_version_is_an_error_with_the_version_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "services" / "nano" / "current.json"
    files.write_atomic(path, json.dumps({"version": 99}))
    with pytest.raises(ContractError) as caught:
        store.current(tmp_path, "nano")
    error = caught.value.diagnostic
    assert (error.location, error.code, error.hint) == (str(path), codec.NEWER, codec.NEWER_HINT)
    assert "version 99" in error.message


def test_no_record_is_no_error(tmp_path: Path) -> None:
    assert store.current(tmp_path, "nano") is None


def test_the_last_ten_finished_rollouts_are_kept_and_unfinished_or_unreadable_ones_always(
    tmp_path: Path,
) -> None:
    for number in range(16):
        folder = store.rollout_directory(tmp_path, f"s{number}")
        files.write_atomic(folder / "request.json", json.dumps({}))
        os.utime(folder / "request.json", (number, number))
        outcome = UNREADABLE if number == 1 else PROMOTED
        if number:
            files.write_document(folder / "result.json", RolloutResult(outcome))
    (store.rollout_directory(tmp_path, "s2") / "result.json").write_text("[]")
    store.prune_rollouts(tmp_path)
    remaining = ["s0", "s1", "s2", *(f"s{number}" for number in range(6, 16))]
    assert [path.name for path in store.rollouts(tmp_path)] == remaining
    assert store.unfinished(tmp_path) == ("s0",)


def test_the_lock_is_held_by_one_and_freed_by_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sparkfleet.onhost.state import store\n"
        "with store.lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"held\n"
    with pytest.raises(store.BusyError), store.lock(tmp_path, wait=False):
        pass
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with store.lock(tmp_path, wait=False):
        pass


HOLD = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
    "print('held', flush=True); time.sleep(60)"
)


def test_the_lock_of_an_earlier_versions_program_is_honoured(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "swaps" / "s1" / "request.json", json.dumps({}))
    older = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "swap.lock")], stdout=subprocess.PIPE
    )
    assert older.stdout is not None
    assert older.stdout.readline() == b"held\n"
    with pytest.raises(store.BusyError), store.lock(tmp_path, wait=False):
        pass
    assert store.unfinished(tmp_path) == ("s1",)
    assert store.rollout_directory(tmp_path, "s1") == tmp_path / "swaps" / "s1"  # that program writes there
    older.kill()
    older.wait()
    older.stdout.close()
    with store.lock(tmp_path, wait=False):
        assert store.rollout_directory(tmp_path, "s1") == tmp_path / "rollouts" / "s1"
    assert store.unfinished(tmp_path) == ("s1",)
    assert not (tmp_path / "swaps").exists()


def test_moving_rollouts_of_an_earlier_version_may_be_interrupted(tmp_path: Path) -> None:
    for number, folder in enumerate(("swaps", "rollouts", "swaps")):
        path = tmp_path / folder / f"s{number}" / "request.json"
        files.write_atomic(path, json.dumps({}))
        os.utime(path, (number, number))
    assert store.unfinished(tmp_path) == ("s0", "s1", "s2")
    with store.lock(tmp_path):
        assert store.unfinished(tmp_path) == ("s0", "s1", "s2")
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == ["s0", "s1", "s2"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "a/b",
        "Nano",
        "nano.next",
        "nano.old",
        "recover",
        "rollout-nano-1a2b3c4d",
        "rollout-back-0123456789ab-2",
        "swap-1",
        "stage-1",
        "-a",
        "a" * 64,
    ],
)
def test_a_name_that_would_collide_or_escape_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a service's name"):
        store.check_service(name)


@pytest.mark.parametrize("name", ["nano", "qwen3.6-35b-a3b", "next", "old", "a.nextgen", "rollout-demo"])
def test_ordinary_names_are_fine(name: str) -> None:
    assert store.check_service(name) == name


def test_unproven_starts_are_counted_for_an_hour(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "starts.json")
    for at in (100.0, 200.0, 300.0):
        assert not starts.too_many(at)
        starts.record_start(at)
    assert starts.too_many(301.0)
    assert not starts.too_many(100.0 + 3600.0)
    starts.reset()
    assert starts.recent(301.0) == []


def test_a_broken_count_of_starts_keeps_no_engine_down(tmp_path: Path) -> None:
    (tmp_path / "starts.json").write_text("{nonsense")
    assert not Starts(tmp_path / "starts.json").too_many(1.0)


@pytest.mark.parametrize(
    "text",
    [
        "token=hf_abcdefghijklmnopqrstuvwxyz012345",
        "Authorization: Bearer abc.def-ghi",
        "https://user:hunter22@nvcr.io/v2/",
        "nvapi-abcdefghijklmnopqrstuvwxyz",
        "non-default args: {'api_key': ['abcdef'], 'port': 8000}",
    ],
)
def test_what_has_the_shape_of_a_secret_is_masked(text: str) -> None:
    masked = redact.redact(text)
    assert redact.MASK in masked
    for secret in ("hf_abc", "abc.def", "hunter22", "nvapi-", "'abcdef'"):
        assert secret not in masked


@pytest.mark.parametrize(
    "part",
    [
        "'api_key': [",
        "'api_key': ",
        "hf_",
        "sk-a",
        "Bearer ",
        "://",
        "://a:",
        "://a:b",
        "a:",
        "[",
        "nvapi-nvapi_",
    ],
)
def test_long_text_is_masked_in_linear_time(part: str) -> None:
    """A shape of quadratic cost would need minutes for these: the time limit of a test ends it."""
    redact.redact(part * (2_000_000 // len(part)))


def test_a_list_of_keys_that_was_cut_off_is_masked_to_the_end_of_its_line() -> None:
    assert redact.redact("{'api_key': ['abcdef', 'gh\nnext") == "{'api_key': ***\nnext"


def test_ordinary_log_lines_are_left_as_they_are() -> None:
    line = "INFO 11-20 [api_server.py:12] vLLM API server version 0.19.0 on http://0.0.0.0:8000 sk_test"
    assert redact.redact(line) == line


def test_evidence_of_a_container_has_names_of_variables_but_no_secret_values() -> None:
    container = parse(
        {
            "Id": "f" * 64,
            "Config": {
                "Env": ["HF_TOKEN=swordfish", "VLLM_LOGGING_LEVEL=INFO", "MY_PASSWORD=correcthorse"],
                "Cmd": ["vllm", "serve", "x", "--api-key", "opensesame"],
            },
        }
    )
    text = json.dumps(redact.inspect_for_evidence(container))
    for secret in ("swordfish", "correcthorse", "opensesame"):
        assert secret not in text
    assert "HF_TOKEN=***" in text
    assert "VLLM_LOGGING_LEVEL=INFO" in text


@pytest.mark.parametrize("label", [("--label", f"{LABEL_GENERATION}=x"), (f"--label={LABEL_GENERATION}=x",)])
def test_the_generation_label_of_a_version_2_record_is_dropped_and_the_id_stays(
    label: tuple[str, ...],
) -> None:
    made = generation()
    data = {**made.to_json(), "version": 2, "create": [*label, *made.definition]}
    del data["definition"], data["runtime"]
    assert Generation.from_json(data) == made


def test_a_generation_survives_json() -> None:
    made = generation(env=(("A", "1"),), argv=("x", "--y"))
    assert Generation.from_json(json.loads(json.dumps(made.to_json()))) == made


def _write_rates(state: Path) -> None:
    rates.note(state, rates.COPY, 1 << 30, 2)


def _write_hashes(state: Path) -> None:
    hash_record.remember(state, {})


def _write_fetched(state: Path) -> None:
    fetch_record.note(state, fetch_record.IMAGES, "img:1", 7)


def _write_starts(state: Path) -> None:
    Starts(state / "starts.json").record_start(7.0)


@pytest.mark.parametrize(
    ("name", "write", "refuses"),
    [
        ("staged.json", _write_fetched, True),
        ("verified.json", _write_hashes, True),
        ("starts.json", _write_starts, True),
        ("rates.json", _write_rates, False),
    ],
)
@pytest.mark.provokes("contract-newer")
def test_a_file_of_a_newer_version_is_never_overwritten(
    tmp_path: Path, name: str, write: Callable[[Path], None], refuses: bool
) -> None:
    path, text = tmp_path / name, '{"version": 99, "images": {"img:9": {}}}'
    path.write_text(text)
    try:
        write(tmp_path)
    except codec.ContractError as error:
        found = error.diagnostic
        assert (found.location, found.code, found.hint) == (str(path), codec.NEWER, codec.NEWER_HINT)
        assert "version 99" in found.message
        assert refuses
    else:
        assert not refuses
    assert path.read_text() == text
    path.write_text("{")
    write(tmp_path)
    assert path.read_text() != "{"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("{", "of another rank"), ("[]", "of another rank"), ('{"version": 99}', codec.NEWER_HINT)],
)
def test_a_key_of_a_cluster_that_cannot_be_read_is_never_taken_for_none(
    tmp_path: Path, text: str, hint: str
) -> None:
    store.keep_cluster_key(tmp_path, "nano", "", "secret")
    assert store.cluster_key(tmp_path, "nano") == "secret"
    (path,) = tmp_path.rglob("ranks/*.json")
    path.write_text(text)
    with pytest.raises(codec.ContractError) as caught:
        store.cluster_key(tmp_path, "nano")
    assert caught.value.diagnostic.location == str(path)
    assert hint in caught.value.diagnostic.hint
    path.unlink()
    assert store.cluster_key(tmp_path, "nano") == ""
