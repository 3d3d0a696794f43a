"""The hub, asked by the real huggingface_hub: it must not notice a difference."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sparkfleet_lab.standins.hub import Fault, Hub
from sparkfleet_lab.standins.hub_models import GEMMA, MODELS, NANO, QWEN, TOKEN_ACCEPTED, TOKEN_STRANGER

NANO_COMMITS = [MODELS[0].commit(name) for name in MODELS[0].commits]
SHARD = "model-00002-of-00003.safetensors"


def api(hub: Hub, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def download(hub: Hub, cache: Path, repo: str = NANO, **more: Any) -> Path:
    more = {"token": False, "endpoint": hub.endpoint, "cache_dir": cache, **more}
    return Path(snapshot_download(repo, **more))


def same_files(got: Path, expected: Path) -> bool:
    names = sorted(path.name for path in expected.iterdir())
    return names == sorted(path.name for path in got.iterdir()) and all(
        (got / name).read_bytes() == (expected / name).read_bytes() for name in names
    )


def post(hub: Hub, path: str, data: Any) -> Any:
    request = urllib.request.Request(hub.endpoint + path, json.dumps(data).encode(), method="POST")
    with urllib.request.urlopen(request) as response:
        return json.load(response)


@pytest.mark.parametrize("commit", NANO_COMMITS)
def test_a_download_brings_every_file_of_the_commit_that_was_asked_for(
    hub: Hub, tmp_path: Path, commit: Any
) -> None:
    got = download(hub, tmp_path / "cache", revision=commit)
    assert got.name == commit
    assert same_files(got, hub.content.root / NANO / commit)


def test_a_branch_leads_to_the_newest_commit(hub: Hub, tmp_path: Path) -> None:
    assert api(hub).model_info(NANO).sha == NANO_COMMITS[-1]
    assert download(hub, tmp_path / "cache").name == NANO_COMMITS[-1]
    assert [ref.target_commit for ref in api(hub).list_repo_refs(NANO).branches] == [NANO_COMMITS[-1]]


def test_sizes_and_hashes_of_all_files_are_known_without_a_download(hub: Hub) -> None:
    info = api(hub).model_info(NANO, files_metadata=True)
    base = hub.content.root / NANO / NANO_COMMITS[-1]
    assert {file.rfilename for file in info.siblings or ()} == {path.name for path in base.iterdir()}
    for file in info.siblings or ():
        data = (base / file.rfilename).read_bytes()
        assert file.size == len(data)
        assert (file.lfs is not None) == file.rfilename.endswith((".safetensors", "tokenizer.json"))
        if file.lfs:
            assert (file.lfs.sha256, file.lfs.size) == (hashlib.sha256(data).hexdigest(), len(data))
        else:
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            assert file.blob_id == git


def test_the_cache_names_its_blobs_as_with_the_real_hub(hub: Hub, tmp_path: Path) -> None:
    got = download(hub, tmp_path / "cache")
    for path in got.iterdir():
        data = path.read_bytes()
        lfs = path.name.endswith((".safetensors", "tokenizer.json"))
        expected = hashlib.sha256(data) if lfs else hashlib.sha1(b"blob %d\0" % len(data) + data)
        assert path.resolve().name == expected.hexdigest()


def test_the_tree_and_the_paths_of_a_commit_are_listed(hub: Hub) -> None:
    tree = {
        entry.path: getattr(entry, "size", None) for entry in api(hub).list_repo_tree(NANO, recursive=True)
    }
    assert tree[SHARD] == (hub.content.root / NANO / NANO_COMMITS[-1] / SHARD).stat().st_size
    found = api(hub).get_paths_info(NANO, [SHARD, "no-such-file"])
    assert [entry.path for entry in found] == [SHARD]


def test_safetensors_headers_are_read_through_ranges(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    metadata = api(hub).get_safetensors_metadata(NANO)
    assert sum(metadata.parameter_count.values()) == 3 * MODELS[0].shard_bytes


def test_the_command_line_client_downloads(hub: Hub, tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path),
        "HOME": str(tmp_path),
    }
    program = [str(Path(sys.executable).with_name("hf")), "download", NANO, "--revision", NANO_COMMITS[0]]
    subprocess.run(program, env=env, check=True, capture_output=True)
    snapshot = tmp_path / "hub" / f"models--{NANO.replace('/', '--')}" / "snapshots" / NANO_COMMITS[0]
    assert same_files(snapshot, hub.content.root / NANO / NANO_COMMITS[0])


@pytest.mark.parametrize(("token", "status"), [(False, 401), (TOKEN_STRANGER, 403)])
def test_a_gated_repository_wants_a_token_whose_user_accepted_the_licence(
    hub: Hub, tmp_path: Path, token: Any, status: int
) -> None:
    with pytest.raises(GatedRepoError) as refused:
        download(hub, tmp_path / "cache", GEMMA, token=token)
    assert refused.value.response.status_code == status
    assert download(hub, tmp_path / "cache", GEMMA, token=TOKEN_ACCEPTED).is_dir()


def test_what_a_gated_repository_holds_is_public(hub: Hub) -> None:
    info = api(hub).model_info(GEMMA, files_metadata=True)
    assert info.gated == "auto"
    assert len(info.siblings or ()) > 3


def test_an_unknown_token_is_refused_even_for_public_models(hub: Hub) -> None:
    with pytest.raises(HfHubHTTPError) as refused:
        api(hub, "hf_wrong").model_info(NANO)
    assert refused.value.response.status_code == 401
    assert not isinstance(refused.value, RepositoryNotFoundError)


def test_a_token_tells_who_its_user_is(hub: Hub) -> None:
    assert api(hub).whoami(token=TOKEN_ACCEPTED)["name"] == "lab"
    with pytest.raises(HfHubHTTPError):
        api(hub).whoami(token="hf_wrong")


@pytest.mark.parametrize(("token", "status"), [(False, 401), (TOKEN_ACCEPTED, 404)])
def test_an_unknown_repository_is_distinguished_from_a_refusal_only_with_a_token(
    hub: Hub, token: Any, status: int
) -> None:
    with pytest.raises(RepositoryNotFoundError) as refused:
        api(hub, token).model_info("nvidia/no-such-model")
    assert refused.value.response.status_code == status


@pytest.mark.parametrize("revision", ["no-such-branch", NANO_COMMITS[0][:12], "0" * 40])
def test_an_unknown_or_abbreviated_revision_is_not_found(hub: Hub, revision: Any) -> None:
    with pytest.raises(RevisionNotFoundError):
        api(hub).model_info(NANO, revision=revision)


def test_a_missing_file_is_not_found(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NANO, "no-such-file", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)


def test_nothing_outside_a_commit_can_be_asked_for(hub: Hub) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{hub.endpoint}/{NANO}/resolve/main/..%2f..%2f..%2ftokens.json")
    refused.value.close()
    assert refused.value.code == 404


def test_a_transfer_that_breaks_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.faults.set([Fault(path=SHARD, break_after_bytes=700_000, times=1)])
    got = download(hub, tmp_path / "cache")
    assert same_files(got, hub.content.root / NANO / NANO_COMMITS[-1])
    served = hub.counters.files[f"{NANO}@{NANO_COMMITS[-1]}/{SHARD}"]
    assert served["requests"] == 2
    assert served["bytes"] > 700_000


def test_a_range_is_served_from_where_it_starts(hub: Hub) -> None:
    request = urllib.request.Request(
        f"{hub.endpoint}/{NANO}/resolve/main/{SHARD}", headers={"Range": "bytes=100-109"}
    )
    expected = (hub.content.root / NANO / NANO_COMMITS[-1] / SHARD).read_bytes()
    with urllib.request.urlopen(request) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes 100-109/{len(expected)}"
        assert response.read() == expected[100:110]


def test_a_corrupted_transfer_has_the_right_length_and_the_wrong_hash(hub: Hub, tmp_path: Path) -> None:
    hub.faults.set([Fault(path=SHARD, corrupt=True)])
    got = download(hub, tmp_path / "cache") / SHARD
    expected = hub.content.root / NANO / NANO_COMMITS[-1] / SHARD
    assert got.stat().st_size == expected.stat().st_size
    assert got.read_bytes() != expected.read_bytes()


def test_a_slow_transfer_takes_its_time_and_is_whole(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    hub.faults.set([Fault(path=SHARD, slow_bytes_per_s=1_000_000)])
    got = download(hub, tmp_path / "cache")
    assert same_files(got, hub.content.root / NANO / NANO_COMMITS[-1])
    assert sum(slept) == pytest.approx((got / SHARD).stat().st_size / 1_000_000)


def test_faults_are_switched_while_it_runs_and_distinguished_by_path(hub: Hub) -> None:
    assert post(hub, "/__lab__/fault", {"status": 418, "path": QWEN}) == {"faults": 1}
    with pytest.raises(HfHubHTTPError) as refused:
        api(hub).model_info(QWEN)
    assert refused.value.response.status_code == 418
    assert api(hub).model_info(NANO).sha == NANO_COMMITS[-1]
    assert post(hub, "/__lab__/fault", {}) == {"faults": 0}
    assert api(hub).model_info(QWEN).id == QWEN


def test_what_was_served_is_counted_by_file(hub: Hub, tmp_path: Path) -> None:
    download(hub, tmp_path / "cache", allow_patterns=["config.json"])
    with urllib.request.urlopen(f"{hub.endpoint}/__lab__/counters") as response:
        counters = json.load(response)
    size = (hub.content.root / NANO / NANO_COMMITS[-1] / "config.json").stat().st_size
    assert counters["files"] == {f"{NANO}@{NANO_COMMITS[-1]}/config.json": {"requests": 1, "bytes": size}}
    assert counters["bytes"] == size
    post(hub, "/__lab__/reset", {})
    assert hub.counters.files == {}


def test_a_second_download_asks_for_no_file_again(hub: Hub, tmp_path: Path) -> None:
    download(hub, tmp_path / "cache")
    post(hub, "/__lab__/reset", {})
    download(hub, tmp_path / "cache")
    assert hub.counters.bytes == 0
