"""A copy between two Sparks: a sender that ends with it, orders whose numbers fit, whose trouble it was."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from sparkfleet.contract.stage import StageRequest, StageResult
from sparkfleet.desired_state import Host, ImageRef, Paths, Stage, WeightFile, Weights
from sparkfleet.fleet.connection import remote
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.staging import copies, stage_job
from sparkfleet.fleet.staging.sender import SenderError
from sparkfleet.offline import oci
from sparkfleet.plan.artifacts import ArtifactSource as Source
from sparkfleet.probe.observation import User
from tests.unit.fleet.sparks import Sparks, output, patched, refused

MODEL = Weights(
    "org/a", "1" * 40, (WeightFile("config.json", 5, blob="c"), WeightFile("w.safetensors", 9, blob="w"))
)
DRAFTER = Weights("org/d", "2" * 40, (WeightFile("d.safetensors", 7, blob="d"),))
PLACES = {
    "spark-01": [
        {"address": "192.168.177.11/24", "netdev": "enp1s0f1np1", "kind": "fabric"},
        {"address": "10.0.0.11/24", "netdev": "eth0", "kind": "lan"},
    ],
    "spark-02": [
        {"address": "192.168.177.12/24", "netdev": "enp1s0f1np1", "kind": "fabric"},
        {"address": "10.0.0.12/24", "netdev": "eth0", "kind": "lan"},
    ],
}
EXPORTED = {"path": "/var/lib/sparkfleet/images/c.tar", "size": 70, "sha256": "f" * 64}
IMAGE = ImageRef("nvcr.io/nvidia/vllm", "26.04", "sha256:" + "c" * 64)


def listening(_: str, __: tuple[str, ...], data: dict[str, Any]) -> remote.CommandOutput:
    return output({"listeners": [[address, 40000 + n] for n, address in enumerate(data["addresses"])]})


@pytest.fixture
def sparks(monkeypatch: pytest.MonkeyPatch) -> Sparks:
    made = Sparks({name: Host(name, paths=Paths(models="~/vllm")) for name in PLACES})
    made.replies = {"copy-places": lambda name, *_: output({"places": PLACES[name]}), "copy-serve": listening}
    return patched(monkeypatch, made)


def copy(sparks: Sparks, *, near: bool = True) -> None:
    source = Source("spark-01", near)
    copies.copy(sparks.act("spark-02"), sparks.hosts["spark-01"], [MODEL, DRAFTER], source)


def test_every_file_is_ordered_by_the_number_under_which_the_sender_shows_it(sparks: Sparks) -> None:
    copy(sparks)
    (served,), (job,) = sparks.requests("copy-serve"), sparks.requests("stage")
    for order in job["copies"]:
        root = (
            f"/home/nvidia/vllm/hub/models--{order['repo'].replace('/', '--')}/snapshots/{order['revision']}"
        )
        assert order["models_dir"] == "/home/nvidia/vllm"
        for file in order["files"]:
            shown = served["files"][file["number"]]
            assert shown == {"path": f"{root}/{file['path']}", "size": file["size"]}
    assert [order["repo"] for order in job["copies"]] == ["org/a", "org/d"]


def test_sender_and_receiver_have_the_same_token_and_another_one_each_time(sparks: Sparks) -> None:
    copy(sparks)
    copy(sparks)
    served, jobs = sparks.requests("copy-serve"), sparks.requests("stage")
    assert [one["transfer_key"] for one in served] == [one["transfer_key"] for one in jobs]
    assert len({one["transfer_key"] for one in served}) == 2
    assert all(len(one["transfer_key"]) == 64 for one in served)


def test_only_the_receivers_addresses_may_call_and_the_fabric_is_nearest(sparks: Sparks) -> None:
    copy(sparks)
    (served,), (job,) = sparks.requests("copy-serve"), sparks.requests("stage")
    assert served["peers"] == ["192.168.177.12", "10.0.0.12"]
    assert job["copies"][0]["listeners"] == [[0, "192.168.177.11", 40000], [1, "10.0.0.11", 40001]]
    assert sparks.log == []


def test_where_the_fabric_does_not_lead_now_it_is_reported_and_the_lan_is_used(sparks: Sparks) -> None:
    lan = {name: places[1:] for name, places in PLACES.items()}
    sparks.replies["copy-places"] = lambda name, *_: output({"places": lan[name]})
    copy(sparks)
    assert any("no fabric link to spark-01" in line for line in sparks.log)
    copy(sparks, near=False)  # nobody expected it
    assert len(sparks.log) == 1


ENDS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "its own trouble": ({"outcome": "failed", "cause": "the disk is full"}, executor.FailedError),
    "the sender's": (
        {"outcome": "failed", "cause": "it hung up", "source_failed": True, "version": 2},
        SenderError,
    ),
    "lost": ({"outcome": "lost", "cause": "reboot?"}, executor.FailedError),
}


@pytest.mark.provokes("staging-failed")
@pytest.mark.parametrize(("end", "raised"), ENDS.values(), ids=ENDS)
def test_a_failed_copy_names_the_side_that_failed_and_its_sender_ends(
    sparks: Sparks, end: dict[str, Any], raised: type[Exception]
) -> None:
    sparks.results = [end]
    with pytest.raises(raised, match=end["cause"].replace("?", ".")) as error:
        copy(sparks)
    assert error.type is raised  # a SenderError lets another Spark be asked; a FailedError ends it
    (served,) = sparks.requests("copy-serve")
    assert sparks.calls[-1] == ("spark-01", "copy-stop", served["id"])


def test_the_sender_of_a_copy_that_went_well_ends_with_it(sparks: Sparks) -> None:
    copy(sparks)
    (served,) = sparks.requests("copy-serve")
    assert sparks.calls[-1] == ("spark-01", "copy-stop", served["id"])


def test_a_sender_that_cannot_be_stopped_does_not_fail_the_copy(sparks: Sparks) -> None:
    sparks.replies["copy-stop"] = remote.ConnectionLostError("gone")
    copy(sparks)


@pytest.mark.parametrize("program", ["copy-places", "copy-serve"])
def test_a_spark_that_cannot_send_is_reported_and_nothing_is_started(sparks: Sparks, program: str) -> None:
    sparks.replies[program] = refused("Address family not supported")
    with pytest.raises(SenderError, match="Address family not supported"):
        copy(sparks)
    assert sparks.requests("stage") == []


def copy_image(sparks: Sparks, receiver: str = "spark-02") -> None:
    copies.copy_image(sparks.act(receiver), sparks.hosts["spark-01"], IMAGE, Source("spark-01"))


def exporting(sparks: Sparks, times: int = 1) -> None:
    done = {"outcome": "staged"}
    sparks.results = [one for _ in range(times) for one in ({**done, "exported": EXPORTED}, done)]


def test_an_image_is_written_to_a_file_there_sent_and_its_file_is_forgotten(sparks: Sparks) -> None:
    exporting(sparks)
    copy_image(sparks)
    export, job = sparks.requests("stage")
    assert export["export"] == IMAGE.pull_ref
    (order,) = job["image_copies"]
    assert (order["image"], order["size"], order["sha256"]) == (IMAGE.pull_ref, 70, "f" * 64)
    assert order["manifests"] == []  # its registry gives it its digest
    assert sparks.requests("copy-serve")[0]["files"] == [{"path": EXPORTED["path"], "size": 70}]
    assert sparks.calls[-1] == ("spark-01", "copy-forget", IMAGE.pull_ref)
    assert sparks.run.exports == {("spark-01", IMAGE.pull_ref): 0}


def test_the_file_stays_until_the_last_receiver_has_it(
    sparks: Sparks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(act: executor.RunContext, _: User, request: StageRequest) -> StageResult:
        if request.export:
            return StageResult.from_json({"outcome": "staged", "exported": EXPORTED})
        gevent.sleep(0.01 if act.host.name == "spark-02" else 0.03)
        sparks.calls.append((act.host.name, "has it"))
        return StageResult("staged")

    three = {**PLACES, "spark-03": PLACES["spark-02"]}
    sparks.declared["spark-03"] = Host("spark-03")
    sparks.__post_init__()
    sparks.replies["copy-places"] = lambda name, *_: output({"places": three[name]})
    monkeypatch.setattr(stage_job, "run", run)
    gevent.joinall([gevent.spawn(copy_image, sparks, name) for name in ("spark-02", "spark-03")])
    notified = [call for call in sparks.calls if call[1] in {"has it", "copy-forget"}]
    assert notified == [
        ("spark-02", "has it"),
        ("spark-03", "has it"),
        ("spark-01", "copy-forget", IMAGE.pull_ref),
    ]


def test_a_failed_export_is_a_failure_of_the_source(sparks: Sparks) -> None:
    sparks.results = [{"outcome": "failed", "cause": "no space left on device"}]
    with pytest.raises(SenderError, match="no space left"):
        copy_image(sparks)
    assert sparks.calls[-1][1] == "copy-forget"
    assert sparks.requests("copy-serve") == []


def test_with_a_mirror_the_copys_digest_comes_from_its_manifests(sparks: Sparks, tmp_path: Path) -> None:
    manifest = json.dumps({"config": {"digest": "sha256:0", "size": 1}, "layers": []}).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    place = oci.blob_path(tmp_path, digest)
    place.parent.mkdir(parents=True)
    place.write_bytes(manifest)
    known, unknown = replace(IMAGE, digest=digest), IMAGE
    sparks.declared["spark-02"] = Host("spark-02", stage=Stage(mirror=str(tmp_path)))
    act = sparks.act("spark-02")
    assert [base64.b64decode(one) for one in copies._manifests(act, known)] == [manifest]
    assert copies._manifests(act, unknown) == ()  # the offline mirror does not have it: its registry is asked
