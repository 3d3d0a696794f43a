"""Each thing is fetched once in a run, whoever asks first; a sender that cannot send is replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.desired_state import Host, ImageRef, Prepare, Service, Weights
from sparkfleet.fleet.run import executor
from sparkfleet.fleet.run.fleet_run import FleetRun
from sparkfleet.fleet.run.progress import ProgressTable
from sparkfleet.fleet.staging import copies, downloads, stage_job
from sparkfleet.fleet.staging.sender import SenderError
from sparkfleet.plan.artifacts import Artifact, ArtifactType
from sparkfleet.plan.artifacts import ArtifactSource as Source
from sparkfleet.plan.model import HostPlan, Step
from sparkfleet.plan.operations import BuildImage, FetchWeights

A, B = "nvidia/A@" + "a" * 40, "nvidia/B@" + "b" * 40


def pinned(key: str) -> tuple[str, str]:
    """Return repository and revision of a model's key."""
    repository, _, revision = key.partition("@")
    return repository, revision


def service(*keys: str) -> Service:
    models = [Weights(repo, commit) for repo, _, commit in (key.partition("@") for key in keys)]
    image = ImageRef("nvcr.io/nvidia/vllm", digest="sha256:" + "c" * 64)
    return Service("nano", "", 8000, image, models[0], "nano", drafters=tuple(models[1:]))


@dataclass
class Run:
    """A run over Sparks in memory: what was downloaded and copied, and what goes wrong."""

    sources: dict[tuple[str, str], Source]
    offline: tuple[str, ...] = ()
    prepared: bool = True
    output: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)
    state: Any = None

    def __post_init__(self) -> None:
        names = sorted({name for name, _ in self.sources} | {s.host for s in self.sources.values() if s.host})
        self.hosts: dict[str, Any] = {name: SimpleNamespace(name=name) for name in names}
        self.state = SimpleNamespace(inventory=SimpleNamespace(get_host=lambda name: self.hosts[name]))
        run = FleetRun(
            plans={name: HostPlan(name) for name in names}, board=ProgressTable(False, self.output.append)
        )
        run.sources = self.sources
        run.done_steps = {(name, Step.HOST) for name in names} if self.prepared else set()
        self.state.sparkfleet_run = run
        self.run = run

    def declared(self, host: Any) -> Host:
        return Host(host.name, (service(A, B),), prepare=Prepare(offline=host.name in self.offline))

    def act(self, name: str, what: str) -> None:
        self.log.append(what)
        gevent.sleep(0)
        error = self.broken.get(what)
        if error:
            raise error

    def bring(self, *names: str, keys: tuple[str, ...] = (A,)) -> dict[str, Exception | None]:
        """Have these Sparks bring what they lack, all at once; return what went wrong on each."""

        def one(name: str) -> Exception | None:
            lacking = (Artifact(ArtifactType.MODEL, key, complete=False) for key in keys)
            operations = [FetchWeights(one, *pinned(one.key), (), 1, nothing_present=True) for one in lacking]
            try:
                downloads.fetch_all(executor.RunContext(self.state, self.hosts[name]), operations)
            except Exception as error:  # noqa: BLE001
                return error
            return None

        jobs = {name: gevent.spawn(one, name) for name in names}
        gevent.joinall(list(jobs.values()), timeout=5)
        assert all(job.ready() for job in jobs.values()), f"they wait for each other: {self.log}"
        return {name: job.value for name, job in jobs.items()}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    def make(sources: dict[tuple[str, str], Source], **more: Any) -> Run:
        run = Run(sources, **more)
        monkeypatch.setattr(downloads, "declared", run.declared)
        monkeypatch.setattr(executor, "refuse_stale", lambda _: None)
        monkeypatch.setattr(
            stage_job,
            "download",
            lambda act, requested: run.act(
                act.host.name, f"{act.host.name} downloads {','.join(w.repo[-1] for w in requested.weights)}"
            ),
        )
        monkeypatch.setattr(
            copies,
            "copy",
            lambda act, owner, requested, _: run.act(
                act.host.name, f"{act.host.name} copies {requested[0].repo[-1]} from {owner.name}"
            ),
        )
        return run

    return make


def test_one_downloads_and_the_others_copy_when_it_has_it(made: Callable[..., Run]) -> None:
    run = made({("1", A): Source(), ("2", A): Source("1"), ("3", A): Source("2")})
    assert set(run.bring("3", "2", "1").values()) == {None}
    assert run.log == ["1 downloads A", "2 copies A from 1", "3 copies A from 2"]


def test_a_spark_whose_turn_has_not_come_is_made_to_fetch_by_the_first_who_needs_it(
    made: Callable[..., Run],
) -> None:
    run = made({("1", A): Source(), ("2", A): Source("1")})
    assert run.bring("2") == {"2": None}
    assert run.log == ["1 downloads A", "2 copies A from 1"]
    assert run.bring("1") == {"1": None}  # its own turn: nothing is fetched twice
    assert len(run.log) == 2


def test_two_sparks_that_send_each_other_something_do_not_wait_for_ever(made: Callable[..., Run]) -> None:
    run = made(
        {
            ("1", A): Source(),
            ("2", A): Source("1"),
            ("2", B): Source(),
            ("1", B): Source("2"),
        }
    )
    assert set(run.bring("1", "2", keys=(A, B)).values()) == {None}
    assert sorted(run.log) == ["1 copies B from 2", "1 downloads A", "2 copies A from 1", "2 downloads B"]


def test_a_spark_that_had_it_all_along_is_not_waited_for(made: Callable[..., Run]) -> None:
    run = made({("2", A): Source("1")})
    assert run.bring("2") == {"2": None}
    assert run.log == ["2 copies A from 1"]


def sender_trouble(text: str = "spark-01 does not have it any more") -> SenderError:
    return SenderError(Diagnostic("1", text, hint="run again", code="test"))


def test_when_the_sender_cannot_send_one_receiver_downloads_and_the_others_take_it_from_there(
    made: Callable[..., Run],
) -> None:
    run = made({("2", A): Source("1"), ("3", A): Source("1"), ("4", A): Source("2")})
    run.broken = {f"{n} copies A from 1": sender_trouble() for n in (2, 3)}
    assert set(run.bring("2", "3", "4").values()) == {None}
    assert sorted(run.log) == [
        "2 copies A from 1",
        "2 downloads A",
        "3 copies A from 1",
        "3 copies A from 2",
        "4 copies A from 2",
    ]
    assert any("downloads it directly" in line for line in run.output)


def test_when_the_seed_fails_two_others_try_and_the_rest_get_the_reason(made: Callable[..., Run]) -> None:
    names = ("2", "3", "4", "5")
    run = made({("1", A): Source(), **{(name, A): Source("1") for name in names}})
    gone = executor.FailedError(
        Diagnostic("1", "the hub refuses this token", hint="accept the licence", code="test")
    )
    run.broken = {f"{name} downloads A": gone for name in ("1", *names)}
    found = run.bring("1", *names)
    assert all(isinstance(error, executor.FailedError) for error in found.values())
    assert [line for line in run.log if "downloads" in line] == [
        "1 downloads A",
        "2 downloads A",
        "3 downloads A",
    ]
    assert "could not be fetched from 1" in str(found["5"])
    assert "the hub refuses this token" in str(found["5"])


@pytest.mark.provokes("hub-refused")
def test_what_the_hub_refuses_to_one_no_other_asks_for(made: Callable[..., Run]) -> None:
    run = made({("1", A): Source(), ("2", A): Source("1"), ("3", A): Source("2")})
    refused = Diagnostic("1", "the model is gated", hint="accept the licence", code="hub-refused")
    run.broken = {"1 downloads A": executor.FailedError(refused)}
    found = run.bring("1", "2", "3")
    assert run.log == ["1 downloads A"]
    assert all("1: the model is gated" in str(error) for error in found.values())


def test_an_offline_receiver_of_a_broken_sender_fails_and_says_so(made: Callable[..., Run]) -> None:
    run = made({("2", A): Source("1")}, offline=("2",))
    run.broken = {"2 copies A from 1": sender_trouble()}
    error = run.bring("2")["2"]
    assert "could not be fetched from 1" in str(error)
    assert run.log == ["2 copies A from 1"]


def test_a_failure_of_the_receiver_itself_is_no_reason_for_another_source(made: Callable[..., Run]) -> None:
    run = made({("2", A): Source("1")})
    run.broken = {"2 copies A from 1": executor.FailedError(Diagnostic("2", "the disk is full", code="test"))}
    assert "the disk is full" in str(run.bring("2")["2"])
    assert run.log == ["2 copies A from 1"]


@pytest.mark.provokes("artifact-source-not-ready")
def test_a_sender_that_is_not_prepared_yet_is_not_waited_for(made: Callable[..., Run]) -> None:
    run = made({("1", A): Source(), ("2", A): Source("1")}, prepared=False)
    assert run.bring("2") == {"2": None}
    assert run.log == ["2 downloads A"]


DERIVED = "localhost/sparkfleet/derived:" + "d" * 16


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], Callable[[str], Exception | None]]:
    """Bring a derived image to a Spark of a run; return what went wrong."""

    def of(run: Run) -> Callable[[str], Exception | None]:
        def download(act: executor.RunContext, _: object) -> None:
            run.act(act.host.name, f"{act.host.name} builds")

        def copy(act: executor.RunContext, owner: Any, *_: object) -> None:
            run.act(act.host.name, f"{act.host.name} copies from {owner.name}")

        monkeypatch.setattr(stage_job, "download", download)
        monkeypatch.setattr(copies, "copy_image", copy)
        monkeypatch.setattr(downloads, "_download", lambda *_: stage_job.Download(service(A), ()))
        monkeypatch.setattr(downloads, "_image", lambda *_: service(A).image)

        def bring(name: str) -> Exception | None:
            build = BuildImage(Artifact(ArtifactType.IMAGE, DERIVED, complete=False), "vllm", ())
            try:
                downloads.fetch_all(executor.RunContext(run.state, run.hosts[name]), [build])
            except Exception as error:  # noqa: BLE001
                return error
            return None

        return bring

    return of


def test_a_derived_image_that_cannot_be_copied_is_not_built_once_more(
    made: Callable[..., Run], images: Callable[[Run], Callable[[str], Exception | None]]
) -> None:
    run = made({("1", DERIVED): Source(), ("2", DERIVED): Source("1")})
    run.broken["2 copies from 1"] = SenderError(Diagnostic("1", "it hung up", hint="run again", code="test"))
    error = images(run)("2")
    assert isinstance(error, executor.FailedError)
    assert error.diagnostics[0].message == "it hung up"
    assert run.log == ["1 builds", "2 copies from 1"]


def test_after_a_failed_build_the_next_spark_builds_the_derived_image(
    made: Callable[..., Run], images: Callable[[Run], Callable[[str], Exception | None]]
) -> None:
    run = made(
        {
            ("1", DERIVED): Source(),
            ("2", DERIVED): Source("1"),
            ("3", DERIVED): Source("1"),
        }
    )
    run.broken["1 builds"] = executor.FailedError(Diagnostic("1", "its disk is full", code="test"))
    bring = images(run)
    assert (bring("2"), bring("3")) == (None, None)
    assert run.log == ["1 builds", "2 builds", "3 copies from 2"]
